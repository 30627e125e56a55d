"""What only S3 does: ranges, multipart uploads, encryption, buckets."""

import base64
import hashlib
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import urllib3
from botocore.awsrequest import AWSResponse

from liveness_etl import storage_s3, storage_s3_client
from liveness_etl.errors import Conflict, Missing, StoreError, Unavailable
from liveness_etl.storage import ABSENT, Entry, Store, open_store
from liveness_etl.storage_s3 import S3Store
from tests import ceph
from tests.http_services import Service, serving
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


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Multipart uploads from 5 MiB on, the least that S3 takes as a part."""
    monkeypatch.setattr(storage_s3, "_SINGLE_PUT_BYTES", 5 * MEBIBYTE)
    monkeypatch.setattr(storage_s3, "_PART_BYTES", 5 * MEBIBYTE)


def put_file(store: S3Store, path: str, content: bytes, expect: str | None = None) -> str:
    with store.scratch() as folder:
        (folder / "ready").write_bytes(content)
        return store.put(path, folder / "ready", expect=expect)


@pytest.mark.parametrize("expect", [None, ABSENT, "the version that is there"])
def test_large_file_goes_up_in_parts(s3_store: S3Store, s3: Any, small_parts: None, expect: str | None) -> None:
    """One multipart upload: whole afterwards, and nothing unfinished left."""
    content = hashlib.shake_128(b"seed").digest(6 * MEBIBYTE)
    if expect:
        expect = s3_store.put("table", b"first")
    with requests_of(s3, "CompleteMultipartUpload") as sent:
        tag = put_file(s3_store, "table", content, expect)
    head = s3.head_object(Bucket=s3_store.bucket, Key="output/table")
    assert head["ETag"] == tag
    assert head["ETag"].endswith('-2"')
    assert read(s3_store, "table") == content
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=s3_store.bucket)
    wanted = {"If-Match": expect.strip('"')} if expect else {"If-None-Match": "*"} if expect == ABSENT else {}
    assert {name: value for name, value in sent[0]["headers"].items() if name.startswith("If-")} == wanted


def test_large_file_does_not_cover_what_came_meanwhile(s3_store: S3Store, s3: Any, small_parts: None) -> None:
    """Somebody else writes while the parts go up: a Conflict, also on an S3 that ignores conditions on such uploads."""
    tag = s3_store.put("table", b"first")
    with (
        requests_of(s3, "UploadPart", lambda _: s3_store.put("table", b"another's") and None),
        pytest.raises(Conflict),
    ):
        put_file(s3_store, "table", bytes(6 * MEBIBYTE), tag)
    assert read(s3_store, "table") == b"another's"
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=s3_store.bucket)


def test_broken_off_upload_leaves_nothing(s3_store: S3Store, s3: Any, small_parts: None) -> None:
    """An interrupt between two parts aborts the upload."""

    def interrupt_second(request: dict[str, Any]) -> None:
        if request["query_string"]["partNumber"] == 2:
            raise KeyboardInterrupt

    with requests_of(s3, "UploadPart", interrupt_second), pytest.raises(KeyboardInterrupt):
        put_file(s3_store, "table", bytes(6 * MEBIBYTE))
    assert s3_store.head("table") is None
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=s3_store.bucket)


@pytest.mark.slow
def test_file_of_many_megabytes_is_one_put_under_its_condition(s3_store: S3Store, s3: Any) -> None:
    """The tables' usual size: an S3 that ignores conditions on multipart uploads still guards them."""
    tag = s3_store.put("table", b"first")
    with requests_of(s3, "PutObject") as sent:
        put_file(s3_store, "table", bytes(33 * MEBIBYTE), tag)
    assert [request["headers"]["If-Match"] for request in sent] == [tag.strip('"')]
    assert s3_store.head("table").size == 33 * MEBIBYTE  # type: ignore[union-attr]
    for expect in (tag, ABSENT):
        with pytest.raises(Conflict):
            put_file(s3_store, "table", bytes(33 * MEBIBYTE), expect)


@pytest.mark.parametrize("multipart", [False, True])
def test_encryption_key_travels_with_the_write(s3: Any, bucket: str, small_parts: None, multipart: bool) -> None:
    """Objects are encrypted with the key that was configured, and read back as they were."""
    store, content = S3Store(f"s3://{bucket}", s3, kms_key_id=ceph.KMS_KEY_ID), bytes(6 * MEBIBYTE * multipart + 1)
    put_file(store, "a", content, ABSENT)
    head = s3.head_object(Bucket=bucket, Key="a")
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", ceph.KMS_KEY_ID)
    assert read(store, "a") == content


def test_every_request_names_the_owner_that_the_bucket_must_have(s3: Any, bucket: str, small_parts: None) -> None:
    """Read off the wire: neither moto nor Ceph heeds it, AWS does."""
    store = S3Store(f"s3://{bucket}", s3, expected_bucket_owner="123456789012")
    with requests_of(s3, "*") as sent:
        store.put("a", b"content", expect=ABSENT)
        put_file(store, "large", bytes(6 * MEBIBYTE), ABSENT)
        read(store, "a")
        with store.scratch() as folder:
            store.local_copies(list(store.list("")), folder)
        store.delete(["a", "large"])
    assert len(sent) >= 10
    assert {request["headers"].get("x-amz-expected-bucket-owner") for request in sent} == {"123456789012"}


@pytest.mark.slow
def test_listing_goes_on_after_a_thousand(s3_store: S3Store, s3: Any) -> None:
    """A page holds 1,000 keys: all of them come, in order."""
    names = [f"landing/{number:04}" for number in range(1_005)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: s3_store.put(name, b""), names))
    with requests_of(s3, "ListObjectsV2") as sent:
        assert paths(s3_store, "landing/") == names
    assert len(sent) == 2


def test_uploads_bring_a_checksum_in_a_plain_header(small_parts: None) -> None:
    """Over https, too, where botocore's own checksums would make a chunked body that older S3 look-alikes refuse."""
    client = storage_s3_client.s3_client("https://localhost:1", "us-east-1")
    store, seen = S3Store("s3://bucket", client), []

    def answer(request: Any, **_: object) -> AWSResponse:
        seen.append(dict(request.headers))
        body = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
        raw = urllib3.HTTPResponse(BytesIO(b"" if request.method == "PUT" else body), preload_content=False)
        return AWSResponse(request.url, 200, {"ETag": '"tag"'}, raw)

    client.meta.events.register("before-send.s3", answer)
    store.put("a", b"content")
    put_file(store, "b", b"content")
    put_file(store, "c", bytes(6 * MEBIBYTE))
    client.close()
    uploads = [headers for headers in seen if "x-amz-checksum-crc32" in headers]
    assert len(uploads) == 4
    assert uploads[0]["x-amz-checksum-crc32"] == base64.b64encode(zlib.crc32(b"content").to_bytes(4, "big"))
    assert not [headers for headers in seen if "x-amz-trailer" in {name.lower() for name in headers}]


class _Cut(Service):
    """Serves ten bytes; the first answers promise more than they send."""

    cut_short = 0

    def reply(self) -> None:
        type(self).cut_short -= 1
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.send_header("ETag", '"tag"')
        self.end_headers()
        self.wfile.write(b"0123456789"[: 5 if self.cut_short >= 0 else 10])
        self.close_connection = True


@pytest.mark.parametrize("cut_short", [2, 100])
def test_download_that_breaks_off_is_tried_again(tmp_path: Path, cut_short: int) -> None:
    """botocore retries no body: twice is got over, for good is said."""
    with serving(_Cut) as url, closing(storage_s3_client.s3_client(url, "us-east-1")) as client:
        store, entry = S3Store("s3://bucket", client), Entry("part", 10, '"tag"')
        for get in (lambda: read(store, "part"), lambda: store.local_copies([entry], tmp_path)[0].read_bytes()):
            _Cut.cut_short = cut_short
            if cut_short == 2:
                assert get() == b"0123456789"
            else:
                with pytest.raises(Unavailable, match=r"^cannot read s3://bucket/part: S3 did not answer"):
                    get()


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
