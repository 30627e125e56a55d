"""S3 as a store: the other half of `liveness_etl.storage`, imported only when an `s3://` address is met.

Retries are botocore's own (see `storage_s3_client`) up to the first byte of an answer; a body that breaks off
is asked for again here. Every upload carries a checksum. A condition travels as If-Match / If-None-Match.
"""

import base64
import contextlib
import io
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import botocore.exceptions
import pyarrow as pa

from liveness_etl import storage_versions
from liveness_etl.errors import Conflict, Missing, StoreError, UsageError
from liveness_etl.storage import ABSENT, Entry, Purged, scratch_errors
from liveness_etl.storage_s3_access import Access, find_access
from liveness_etl.storage_s3_client import session_of
from liveness_etl.storage_s3_errors import reason_of, translated_s3_errors
from liveness_etl.storage_s3_ranges import RangedObject
from liveness_etl.storage_versions import UNVERSIONED

_MEBIBYTE = 1024 * 1024
# One PUT as far as it is sensible (S3 takes 5 GiB): older Ceph checks conditions there, and not on multipart uploads.
_SINGLE_PUT_BYTES = 1024 * _MEBIBYTE
_PART_BYTES = 32 * _MEBIBYTE
_WHOLE_BYTES = 8 * _MEBIBYTE
_DOWNLOADS = 8
_BODY_TRIES = 5

_BROKEN_OFF = (
    botocore.exceptions.ReadTimeoutError,
    botocore.exceptions.ResponseStreamingError,
    botocore.exceptions.IncompleteReadError,
    botocore.exceptions.FlexibleChecksumError,
)


class S3Store:
    """A bucket, or a prefix in one."""

    def __init__(
        self, uri: str, client: Any, kms_key_id: str | None = None, expected_bucket_owner: str | None = None
    ) -> None:
        self.bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not self.bucket:
            raise UsageError(f"{uri} names no bucket: write s3://BUCKET/PREFIX")
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.uri = f"s3://{self.bucket}/{self._prefix}".rstrip("/")
        self._client = client
        self._region: str | None = None
        self._owner = {"ExpectedBucketOwner": expected_bucket_owner} if expected_bucket_owner else {}
        self._encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key_id} if kms_key_id else {}

    def list(self, prefix: str) -> Iterator[Entry]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self._prefix + prefix, **self._owner
        )
        with self._translated("list", prefix):
            for page in pages:
                self._region = page["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
                for found in page.get("Contents", ()):
                    path = found["Key"][len(self._prefix) :]
                    if not path.startswith(".tmp/"):
                        yield Entry(path, found["Size"], found["ETag"], found["LastModified"].timestamp())

    def head(self, path: str) -> Entry | None:
        try:
            with self._translated("read", path):
                found = self._client.head_object(**self._object(path))
        except Missing:
            return None
        return Entry(path, found["ContentLength"], found["ETag"], found["LastModified"].timestamp())

    def open(self, path: str) -> pa.NativeFile:
        held = io.BytesIO()
        with self._translated("read", path):
            try:
                first = self._get(path, held, Range=f"bytes=0-{_WHOLE_BYTES - 1}")
            except botocore.exceptions.ClientError as error:
                if error.response["Error"]["Code"] != "InvalidRange":
                    raise
                return pa.BufferReader(b"")  # an empty object has no range
        body = held.getvalue()
        size = int(first.get("ContentRange", f"/{len(body)}").rpartition("/")[2])
        if size == len(body):
            return pa.BufferReader(body)
        return pa.PythonFile(RangedObject(self, path, size, first["ETag"]), mode="r")

    def local_copies(self, entries: Sequence[Entry], folder: Path) -> Sequence[Path]:
        copies = [folder / f"{number:06d}" for number in range(len(entries))]
        with ThreadPoolExecutor(_DOWNLOADS) as pool:
            list(pool.map(self._download, entries, copies))
        return copies

    def _download(self, entry: Entry, copy: Path) -> None:
        with self._translated("read", entry.path), copy.open("wb") as file:
            self._get(entry.path, file)

    def _get(self, path: str, file: BinaryIO, **options: str) -> Any:
        """Download into `file`, and return the answer. botocore itself retries no further than to the first byte."""
        for tries_left in reversed(range(_BODY_TRIES)):
            answer = self._client.get_object(**self._object(path), **options)
            try:
                shutil.copyfileobj(answer["Body"], file, _MEBIBYTE)
                return answer
            except _BROKEN_OFF:
                if not tries_left:
                    raise
                file.seek(0)
                file.truncate()
        raise AssertionError("unreachable")

    def put(self, path: str, content: bytes | Path, *, expect: str | None = None, sha256: bytes | None = None) -> str:
        try:
            return self._put(path, content, expect, sha256)
        except Conflict:
            if not expect or (found := self.head(path)) is None or found.etag != expect:
                raise
        try:  # 409 from AWS: somebody else tried, too, and the version is still the one expected
            return self._put(path, content, expect, sha256)
        except Conflict:
            raise StoreError(
                f"cannot write {self.uri_of(path)}: S3 takes it for changed, and it is not; older Ceph "
                "does so where versioning is on: use a bucket without"
            ) from None

    def _put(self, path: str, content: bytes | Path, expect: str | None, sha256: bytes | None) -> str:
        try:
            with self._translated("write", path):
                if isinstance(content, bytes):
                    return self._put_whole(path, content, expect, sha256)
                with content.open("rb") as body:
                    if content.stat().st_size <= _SINGLE_PUT_BYTES:
                        return self._put_whole(path, body, expect, sha256)
                    return self._put_parts(path, body, expect)
        except Missing as error:  # If-Match where nothing is any more
            raise Conflict(str(error)) from None

    def _put_whole(self, path: str, body: bytes | BinaryIO, expect: str | None, sha256: bytes | None) -> str:
        # Given by us, the checksum is a plain header; botocore's own would make a chunked body over https, which S3
        # look-alikes of before 2025 refuse.
        checksum = {"ChecksumSHA256": _base64(sha256)} if sha256 else {"ChecksumCRC32": _crc32(body)}
        answer = self._client.put_object(
            **self._object(path), **self._encryption, **_condition(expect), **checksum, Body=body
        )
        return cast("str", answer["ETag"])

    def _put_parts(self, path: str, body: BinaryIO, expect: str | None) -> str:
        target = self._object(path)
        upload = self._client.create_multipart_upload(**target, **self._encryption, ChecksumAlgorithm="CRC32")
        target["UploadId"] = upload["UploadId"]
        try:
            parts: list[dict[str, Any]] = []
            while chunk := body.read(_PART_BYTES):
                number, checksum = len(parts) + 1, _crc32(chunk)
                part = self._client.upload_part(**target, PartNumber=number, Body=chunk, ChecksumCRC32=checksum)
                kept = {key: part[key] for key in ("ETag", "ChecksumCRC32") if key in part}
                parts.append({"PartNumber": number, **kept})
            self._check(path, expect)
            done = self._client.complete_multipart_upload(
                **target, **_condition(expect), MultipartUpload={"Parts": parts}
            )
        except BaseException:
            with contextlib.suppress(Exception):
                self._client.abort_multipart_upload(**target)
            raise
        return cast("str", done.get("ETag")) or self._client.head_object(**self._object(path))["ETag"]

    def _check(self, path: str, expect: str | None) -> None:
        """Raise Conflict early, and but for an instant also where S3 ignores conditions on multipart uploads."""
        if expect is not None:
            found = self.head(path)
            if (found.etag if found else ABSENT) != expect:
                raise Conflict(f"{self.uri_of(path)} was changed by somebody else")

    def delete(self, paths: Iterable[str]) -> None:
        left = iter(paths)
        while thousand := list(islice(left, 1000)):
            keys = [{"Key": self._prefix + path} for path in thousand]
            with self._translated("delete", thousand[0]):
                answer = self._client.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": keys, "Quiet": True}, **self._owner
                )
            for failed in answer.get("Errors", ()):
                reason = reason_of(str(failed.get("Code")), "delete")
                raise StoreError(f"cannot delete s3://{self.bucket}/{failed['Key']}: {reason}")

    def folders(self, prefix: str) -> Sequence[str]:
        with self._translated("list the versions of", prefix):
            return storage_versions.list_folders(self._client, self._bucket_of_versions, self._prefix + prefix)

    def purge(self, prefix: str, *, below: Sequence[str] | None = None, current: bool = False) -> Purged:
        with self._translated("erase versions of", prefix):
            return storage_versions.purge(self._client, self._bucket_of_versions, self._prefix + prefix, below, current)

    def erase_version(self, path: str, version_id: str | None) -> bool:
        """Erase exactly this version of an object; one that is gone already is no error.

        Without a version id: the object, where its bucket never kept versions of it, else nothing and False.
        """
        with translated_s3_errors("erase an object in", f"s3://{self.bucket}"):
            target = self._object(path)
            if version_id is None:
                versions = storage_versions.list_versions(self._client, self._bucket_of_versions, target["Key"])
                if any(found.version_id != UNVERSIONED for found in versions if found.key == target["Key"]):
                    return False
            self._client.delete_object(**target, VersionId=version_id or UNVERSIONED)
        return True

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        yield

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        try:
            folder = Path(tempfile.mkdtemp(prefix="liveness-etl-"))
        except OSError as error:
            raise StoreError(f"cannot write temporary files: {error.strerror or error}") from None
        try:
            with scratch_errors(folder):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def uri_of(self, path: str) -> str:
        return f"s3://{self.bucket}/{self._prefix}{path}"

    def read_range(self, path: str, start: int, end: int, etag: str) -> bytes:
        """Bytes `start` to `end` (excluded) of that very version. Raises Missing where it was replaced."""
        try:
            with self._translated("read", path):
                body = io.BytesIO()
                self._get(path, body, Range=f"bytes={start}-{end - 1}", IfMatch=etag)
                return body.getvalue()
        except Conflict as error:
            raise Missing(str(error)) from None

    def encryption_key(self, path: str) -> str | None:
        """The KMS key that the object is encrypted with, as S3 names it; None for a key of S3's own. Raises Missing."""
        with self._translated("read", path):
            key: str | None = self._client.head_object(**self._object(path)).get("SSEKMSKeyId")
            return key

    @property
    def endpoint_url(self) -> str:
        """Where this store is reached."""
        return str(self._client.meta.endpoint_url)

    def access(self) -> Access:
        """How another reader than boto3 reaches what was listed, with the credentials of now. Raises Unusual."""
        return find_access(self._client, session_of(self._client), self.bucket, self._region)

    @property
    def _bucket_of_versions(self) -> dict[str, Any]:
        return {"Bucket": self.bucket, **self._owner}

    def _object(self, path: str) -> dict[str, Any]:
        return {"Bucket": self.bucket, "Key": self._prefix + path, **self._owner}

    @contextlib.contextmanager
    def _translated(self, verb: str, path: str) -> Iterator[None]:
        with translated_s3_errors(verb, self.uri_of(path)):
            yield


def _condition(expect: str | None) -> dict[str, str]:
    if expect is None:
        return {}
    # Without its quotes, as in AWS's own examples: with them it matches nothing on Ceph.
    return {"IfNoneMatch": "*"} if expect == ABSENT else {"IfMatch": expect.strip('"')}


def _crc32(body: bytes | BinaryIO) -> str:
    value = 0
    if isinstance(body, bytes):
        value = zlib.crc32(body)
    else:
        while chunk := body.read(_MEBIBYTE):
            value = zlib.crc32(chunk, value)
        body.seek(0)
    return _base64(value.to_bytes(4, "big"))


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


class S3Inputs:
    """Manifest objects, wherever they are."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def find(self, uri: str) -> list[tuple[str, int, str, float]]:
        store = S3Store(f"s3://{urlsplit(uri).netloc}", self._client)
        key = uri.partition("//")[2].partition("/")[2]
        if uri.endswith("/"):
            return [(store.uri_of(found.path), found.size, found.etag, found.modified) for found in store.list(key)]
        found = store.head(key)
        return [(uri, found.size, found.etag, found.modified)] if found else []

    def open(self, uri: str) -> BinaryIO:
        store = S3Store(f"s3://{urlsplit(uri).netloc}", self._client)
        return cast("BinaryIO", store.open(uri.partition("//")[2].partition("/")[2]))
