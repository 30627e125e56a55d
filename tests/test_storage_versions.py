"""Old versions of S3 objects: found, and erased for good; a folder and a plain bucket have none."""

import time
from typing import Any

import pytest

from liveness_etl import storage_versions
from liveness_etl.errors import StoreError
from liveness_etl.storage import Purged, Store
from liveness_etl.storage_s3 import S3Store
from tests.load.erasing import kept, moto_store, versioned
from tests.stored import paths, read, requests_of

__all__ = ["moto_store", "versioned"]


def put(store: Store, *names: str) -> None:
    for name in names:
        store.put(name, b"content")


def test_folders_below_a_prefix_are_named(store: Store) -> None:
    """Once each, temporary ones too, and no file."""
    put(store, "images/dt=1/a/x", "images/dt=1/b/x", "images/dt=2/a/x", "images/file", ".tmp/run/plan")
    assert list(store.folders("images/")) == ["dt=1", "dt=2"]
    assert "run" in store.folders(".tmp/")
    assert list(store.folders("nowhere/")) == []


def test_folder_of_old_versions_is_named(versioned: S3Store) -> None:
    """What a listing of objects does not show any more."""
    put(versioned, "images/dt=1/a/x")
    versioned.delete(["images/dt=1/a/x"])
    assert versioned.folders("images/") == ["dt=1"]


def test_where_there_are_no_versions_nothing_is_purged(store: Store) -> None:
    """On a folder and in a bucket without versioning."""
    put(store, "a/x", "a/x", "a/y")
    store.delete(["a/y"])
    assert store.purge("a/") == Purged()
    assert paths(store) == ["a/x"]


def test_old_versions_and_delete_markers_go_and_objects_stay(versioned: S3Store) -> None:
    """Under the prefix, and nowhere else."""
    put(versioned, "a/x", "a/x", "a/x", "a/y", "b/x", "b/x")
    versioned.delete(["a/y"])
    assert versioned.purge("a/") == Purged(0, 4)
    assert [name.partition(" ")[0] for name, _ in kept(versioned)] == ["output/a/x", "output/b/x", "output/b/x"]
    assert read(versioned, "a/x") == b"content"


@pytest.mark.parametrize("many", [False, True], ids=["few names", "many names"])
def test_all_below_some_folders_goes(
    store: Store, versioned: S3Store, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever their number; a name that another one begins with is another folder."""
    if many:
        monkeypatch.setattr(storage_versions, "_FEW", 0)
    for each in (store, versioned):
        put(each, "i/dt=1/a/x", "i/dt=1/a/x", "i/dt=1/a/y/z", "i/dt=1/ab/x", "i/dt=1/c/x", "i/dt=2/a/x")
        versions = 1 if each is versioned else 0
        assert each.purge("i/dt=1/", below=["a", "b", "c"], current=True) == Purged(3, versions)
        assert paths(each) == ["i/dt=1/ab/x", "i/dt=2/a/x"]
        assert list(each.folders("i/dt=1/")) == ["ab"]


def test_a_prefix_goes_whole(store: Store) -> None:
    """With `current` the objects too."""
    put(store, "a/dt=1/x", "a/dt=1/y/z", "a/dt=10/x")
    assert store.purge("a/dt=1/", current=True) == Purged(2)
    assert paths(store) == ["a/dt=10/x"]
    assert store.purge("a/dt=1/", current=True) == Purged()


def test_more_versions_than_a_request_takes(versioned: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older ones go before what stands for their key, so that no crash in between brings one back."""
    s3 = versioned._client
    monkeypatch.setattr(storage_versions, "_MOST_A_REQUEST", 3)
    for number in range(3):
        put(versioned, f"a/{number}", f"a/{number}", f"a/{number}")
    versioned.delete(["a/1"])
    latest = {
        one["VersionId"]
        for kind in ("Versions", "DeleteMarkers")
        for one in s3.list_object_versions(Bucket=versioned.bucket)[kind]
        if one["IsLatest"]
    }
    order: list[str] = []
    with requests_of(s3, "DeleteObjects") as sent:
        assert versioned.purge("a/", current=True) == Purged(2, 8)
    for request in sent:
        body = request["body"].decode() if isinstance(request["body"], bytes) else request["body"]
        order += [text.partition("<")[0] for text in body.split("<VersionId>")[1:]]
    assert list(kept(versioned)) == []
    keys = [index for index, version in enumerate(order) if version in latest]
    assert len(order) == 10
    assert keys[0] >= 2  # both older ones of the first key


def test_locked_version_is_said_without_its_key(moto_store: S3Store) -> None:
    """An Object Lock keeps it: one sentence, which names the prefix alone."""
    s3 = moto_store._client
    bucket = f"locked-{time.time_ns()}"
    s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    for _ in range(2):
        s3.put_object(
            Bucket=bucket,
            Key="images/secret-id/x",
            Body=b"",
            ObjectLockMode="COMPLIANCE",
            ObjectLockRetainUntilDate="2099-01-01T00:00:00Z",
        )
    sentence = rf"^cannot erase 1 versions under s3://{bucket}/images/: AccessDenied; grant s3:DeleteObjectVersion, or"
    with pytest.raises(StoreError, match=sentence) as raised:
        S3Store(f"s3://{bucket}", s3).purge("images/")
    assert "secret-id" not in str(raised.value)


def test_missing_bucket_is_said(s3: Any) -> None:
    """As in every other call."""
    for use in (lambda store: store.purge("a/"), lambda store: store.folders("a/")):
        with pytest.raises(StoreError, match="there is no such bucket"):
            use(S3Store("s3://no-such-bucket", s3))


def test_exactly_one_version_is_erased(versioned: S3Store) -> None:
    """The older of two: the newer one stays. Once more is no error."""
    s3 = versioned._client
    first = s3.put_object(Bucket=versioned.bucket, Key="output/a", Body=b"1")["VersionId"]
    put(versioned, "a")
    for _ in range(2):
        assert versioned.erase_version("a", first)
        assert len(list(kept(versioned))) == 1
    assert read(versioned, "a") == b"content"


def test_without_a_version_only_an_object_that_has_none_is_erased(versioned: S3Store) -> None:
    """In a bucket that keeps versions nobody guesses which one; its neighbours in name do not matter."""
    s3 = versioned._client
    put(versioned, "a")
    assert not versioned.erase_version("a", None)
    plain = S3Store(f"s3://plain-{time.time_ns()}", s3)
    s3.create_bucket(Bucket=plain.bucket)
    put(plain, "a", "a2")
    assert plain.erase_version("a", None)
    assert plain.erase_version("a", None)
    assert paths(plain) == ["a2"]
