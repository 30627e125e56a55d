"""Images that AWS wrote to the customer's own buckets: erased on demand only, and exactly those."""

import uuid
from typing import Any

import pytest

from liveness_etl.errors import StoreError
from liveness_etl.load import publish
from liveness_etl.load.forget import Forgotten, forget
from liveness_etl.load.tombstones import FOLDER
from liveness_etl.storage_folder import LocalStore
from liveness_etl.storage_s3 import S3Store
from tests.landing_rows import DT, image, land, row, session_id
from tests.load.erasing import holders

ONE = session_id(1)


@pytest.fixture(params=["versioned", "plain"])
def faces(request: pytest.FixtureRequest, s3: Any) -> str:
    """A bucket that AWS writes images to."""
    name = f"faces-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    if request.param == "versioned":
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def write_image(s3: Any, bucket: str, key: str) -> str | None:
    version: str | None = s3.put_object(Bucket=bucket, Key=key, Body=b"face").get("VersionId")
    return version


def keys(s3: Any, bucket: str) -> list[str]:
    return [version["Key"] for version in s3.list_object_versions(Bucket=bucket).get("Versions", ())]


def erase(store: Any, s3: Any, *buckets: str) -> Forgotten:
    return forget(
        store,
        [(store, "images/")],
        [ONE],
        lambda dt: publish.publish_partition(store, dt),
        source_buckets=buckets,
        erase_source=lambda bucket, name, version: S3Store(f"s3://{bucket}", s3).erase_version(name, version),
    )


def land_with(store: LocalStore, number: int, bucket: str, *versions: tuple[str, str | None]) -> None:
    images = [
        image(index, s3_bucket=bucket, s3_name=name, s3_version=version)
        for index, (name, version) in enumerate(versions)
    ]
    land(store, [row(number, images=images)])


def test_images_that_aws_wrote_are_left_unless_it_is_asked_for(folder_store: LocalStore, s3: Any, faces: str) -> None:
    """They are counted, by bucket: once the rows are gone nobody knows where they are."""
    land_with(folder_store, 1, faces, ("1/reference.jpg", write_image(s3, faces, "1/reference.jpg")))
    forgotten = forget(folder_store, [(folder_store, "images/")], [ONE], lambda dt: None, source_buckets=[faces])
    assert forgotten.source_images == 0
    assert forgotten.sources_left == {(faces, "without --with-source-images"): 1}
    assert keys(s3, faces) == ["1/reference.jpg"]


def test_exactly_the_version_of_the_row_is_erased(folder_store: LocalStore, s3: Any, faces: str) -> None:
    """Another session's image stays, and another version of the same key."""
    first = write_image(s3, faces, "1/reference.jpg")
    if first is not None:
        write_image(s3, faces, "1/reference.jpg")
    land_with(folder_store, 1, faces, ("1/reference.jpg", first))
    land_with(folder_store, 2, faces, ("2/reference.jpg", write_image(s3, faces, "2/reference.jpg")))
    forgotten = erase(folder_store, s3, faces)
    assert (forgotten.source_images, dict(forgotten.sources_left)) == (1, {})
    assert sorted(keys(s3, faces)) == ["1/reference.jpg"] * (first is not None) + ["2/reference.jpg"]


def test_bucket_that_is_not_configured_is_left_and_named(folder_store: LocalStore, s3: Any, faces: str) -> None:
    """A row alone must not decide what is deleted where."""
    land_with(folder_store, 1, faces, ("1/reference.jpg", write_image(s3, faces, "1/reference.jpg")))
    forgotten = erase(folder_store, s3, "another-bucket")
    assert forgotten.sources_left == {(faces, "the bucket is not one of images.source_buckets"): 1}
    assert keys(s3, faces) == ["1/reference.jpg"]


def test_version_is_not_guessed(folder_store: LocalStore, s3: Any, faces: str) -> None:
    """A row without one: erased where the bucket keeps none, else left and said."""
    versioned = write_image(s3, faces, "1/reference.jpg") is not None
    land_with(folder_store, 1, faces, ("1/reference.jpg", None))
    forgotten = erase(folder_store, s3, faces)
    assert forgotten.source_images == (not versioned)
    assert sum(forgotten.sources_left.values()) == versioned
    assert len(keys(s3, faces)) == versioned


def test_publish_right_after_the_tombstone_takes_no_reference_away(
    folder_store: LocalStore, s3: Any, faces: str
) -> None:
    """It heeds the tombstone and drops the rows: what AWS wrote has gone before."""

    class Overtaken(LocalStore):
        def put(self, path: str, *args: Any, **options: Any) -> str:
            tag = super().put(path, *args, **options)
            if path.startswith(FOLDER):
                publish.publish_partition(self, DT)
            return tag

    land_with(folder_store, 1, faces, ("1/reference.jpg", write_image(s3, faces, "1/reference.jpg")))
    assert erase(Overtaken(folder_store.root), s3, faces).source_images == 1
    assert keys(s3, faces) == []
    assert holders(folder_store, ONE) == []


def test_bucket_that_refuses_stops_before_anything_is_erased(folder_store: LocalStore, s3: Any) -> None:
    """The rows still say where the images are, for the next try."""
    land_with(folder_store, 1, "no-such-bucket-here", ("1/reference.jpg", "v1"))
    with pytest.raises(StoreError, match="no-such-bucket-here"):
        erase(folder_store, s3, "no-such-bucket-here")
    assert holders(folder_store, ONE)
