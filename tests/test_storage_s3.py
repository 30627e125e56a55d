"""What only S3 does: ranges, multipart uploads, encryption, buckets."""

import hashlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from liveness_etl.errors import Conflict, Missing, StoreError
from liveness_etl.storage import ABSENT, Store, open_store
from liveness_etl.storage_s3 import S3Store
from tests.stored import paths, read, requests_of

MEBIBYTE = 1024 * 1024


def test_large_s3_object_is_read_in_ranges(s3_store: S3Store, s3: Any) -> None:
    """The tail of an object of 9 MiB costs its first 8 MiB at most, and its own bytes."""
    s3_store.put("large", bytes(9 * MEBIBYTE))
    with requests_of(s3, "GetObject") as sent, s3_store.open("large") as file:
        file.seek(-8, 2)
        assert len(file.read(8)) == 8
    assert [request["headers"]["Range"] for request in sent] == [
        f"bytes=0-{8 * MEBIBYTE - 1}",
        f"bytes={9 * MEBIBYTE - 8}-{9 * MEBIBYTE - 1}",
    ]


def test_object_replaced_while_it_is_read_is_missing(s3_store: S3Store) -> None:
    """A reader of a large object never sees two versions mixed."""
    s3_store.put("large", bytes(9 * MEBIBYTE))
    with s3_store.open("large") as file:
        s3_store.put("large", b"\1" * 9 * MEBIBYTE)
        file.seek(-8, 2)
        with pytest.raises(Missing):
            file.read(8)


def test_deletion_takes_a_thousand_keys_a_request(s3_store: S3Store, s3: Any) -> None:
    """More than that S3 refuses (moto does not)."""
    with requests_of(s3, "DeleteObjects") as sent:
        s3_store.delete(f"part/{number}" for number in range(2_001))
    assert [request["body"].count(b"<Key>") for request in sent] == [1_000, 1_000, 1]


def test_address_of_an_object_holds_bucket_and_prefix(s3_store: S3Store, bucket: str) -> None:
    """An s3:// address is the bucket, the prefix and the path, as they are."""
    assert s3_store.uri_of("images/a b.jpg") == f"s3://{bucket}/output/images/a b.jpg"
    assert s3_store.uri == f"s3://{bucket}/output"


@pytest.mark.parametrize("prefix", ["", "/", "/a", "/a/", "/a/b c", "/odd#1?x"])
def test_prefix_of_a_bucket_is_taken_literally(s3: Any, bucket: str, prefix: str) -> None:
    """No prefix, slashes at its end and characters that mean something in web addresses."""
    store = S3Store(f"s3://{bucket}{prefix}", s3)
    store.put("dt=1/x", b"content")
    keys = [found["Key"] for found in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert keys == [f"{prefix.strip('/')}/dt=1/x".lstrip("/")]
    assert paths(store) == ["dt=1/x"]


@pytest.mark.slow
@pytest.mark.parametrize("expect", [None, ABSENT])
def test_large_file_goes_up_in_parts(s3_store: S3Store, s3: Any, expect: str | None) -> None:
    """More than 32 MiB is one multipart upload: whole afterwards, and nothing unfinished left."""
    content = hashlib.shake_128(b"seed").digest(33 * MEBIBYTE)
    with s3_store.scratch() as folder:
        (folder / "ready").write_bytes(content)
        tag = s3_store.put("table", folder / "ready", expect=expect)
    head = s3.head_object(Bucket=s3_store.bucket, Key="output/table")
    assert head["ETag"] == tag
    assert head["ETag"].endswith('-2"')
    assert read(s3_store, "table") == content
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=s3_store.bucket)


@pytest.mark.slow
def test_large_file_does_not_cover_another_one(s3_store: S3Store, s3: Any) -> None:
    """The condition travels with the end of the upload; a Conflict leaves the object and no parts."""
    s3_store.put("table", b"another's")
    with s3_store.scratch() as folder:
        (folder / "ready").write_bytes(bytes(33 * MEBIBYTE))
        with pytest.raises(Conflict):
            s3_store.put("table", folder / "ready", expect=ABSENT)
    assert read(s3_store, "table") == b"another's"
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=s3_store.bucket)


@pytest.mark.slow
def test_large_file_names_the_version_it_replaces(s3_store: S3Store, s3: Any) -> None:
    """If-Match goes with the completion, read off the wire: moto does not enforce it there, S3 does."""
    tag = s3_store.put("table", b"first")
    with requests_of(s3, "CompleteMultipartUpload") as sent, s3_store.scratch() as folder:
        (folder / "ready").write_bytes(bytes(33 * MEBIBYTE))
        s3_store.put("table", folder / "ready", expect=tag)
    assert [request["headers"]["If-Match"] for request in sent] == [tag]


@pytest.mark.slow
def test_broken_off_upload_leaves_nothing(s3_store: S3Store, s3: Any) -> None:
    """An interrupt between two parts aborts the upload."""

    def interrupt_second(request: dict[str, Any]) -> None:
        if request["query_string"]["partNumber"] == 2:
            raise KeyboardInterrupt

    with requests_of(s3, "UploadPart", interrupt_second), s3_store.scratch() as folder:
        (folder / "ready").write_bytes(bytes(33 * MEBIBYTE))
        with pytest.raises(KeyboardInterrupt):
            s3_store.put("table", folder / "ready")
    assert s3_store.head("table") is None
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=s3_store.bucket)


def test_encryption_key_and_owner_travel_with_the_write(s3: Any, bucket: str) -> None:
    """Objects are encrypted with the key that was configured."""
    S3Store(f"s3://{bucket}", s3, kms_key_id="alias/lake").put("a", b"", expect=ABSENT)
    head = s3.head_object(Bucket=bucket, Key="a")
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "alias/lake")


@pytest.mark.parametrize(
    "use",
    [
        lambda store: list(store.list("landing/")),
        lambda store: store.open("a"),
        lambda store: store.put("a", b""),
        lambda store: store.delete(["a"]),
    ],
    ids=["list", "open", "put", "delete"],
)
def test_missing_bucket_is_named_in_one_sentence(s3: Any, use: Callable[[Store], object]) -> None:
    """A user who mistyped the bucket reads what to do."""
    sentence = r"^cannot \w+ s3://no-such-bucket/x/\S+: there is no such bucket; create it first$"
    with pytest.raises(StoreError, match=sentence):
        use(S3Store("s3://no-such-bucket/x", s3))


def test_open_store_knows_s3(s3_endpoint: str, bucket: str) -> None:
    """An s3:// address is opened with the endpoint that was given."""
    store = open_store(f"s3://{bucket}/x", endpoint_url=s3_endpoint, region="us-east-1")
    store.put("a", b"content")
    assert isinstance(store.open("a"), pa.NativeFile)
    assert read(store, "a") == b"content"
    store._client.close()  # type: ignore[attr-defined]
