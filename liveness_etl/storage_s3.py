"""S3 as a store: the other half of `liveness_etl.storage`, imported only when an `s3://` address is met.

Retries are botocore's own (standard mode, 10 attempts); checksums are its defaults (CRC32 on every upload).
A condition travels as If-Match / If-None-Match, also on the completion of a multipart upload.
"""

import base64
import contextlib
import io
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import boto3
import botocore.config
import botocore.exceptions
import pyarrow as pa

from liveness_etl.errors import Conflict, Missing, StoreError, UsageError
from liveness_etl.storage import ABSENT, Entry, scratch_errors

_PART_BYTES = 32 * 1024 * 1024
_WHOLE_BYTES = 8 * 1024 * 1024
_DOWNLOADS = 8


def s3_client(endpoint_url: str | None = None, region: str | None = None, profile: str | None = None) -> Any:
    """A boto3 S3 client from boto3's own credential chain. Raises UsageError for an unknown profile."""
    config = botocore.config.Config(
        retries={"mode": "standard", "total_max_attempts": 10},
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=64,
    )
    try:
        session = boto3.session.Session(profile_name=profile, region_name=region)
        return session.client("s3", endpoint_url=endpoint_url, config=config)
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        raise UsageError(f"cannot set up S3: {error}") from None


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
        self._owner = {"ExpectedBucketOwner": expected_bucket_owner} if expected_bucket_owner else {}
        self._encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key_id} if kms_key_id else {}

    def list(self, prefix: str) -> Iterator[Entry]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self._prefix + prefix, **self._owner
        )
        with self._translated("list", prefix):
            for page in pages:
                for found in page.get("Contents", ()):
                    path = found["Key"][len(self._prefix) :]
                    if not path.startswith(".tmp/"):
                        yield Entry(path, found["Size"], found["ETag"])

    def head(self, path: str) -> Entry | None:
        try:
            with self._translated("read", path):
                found = self._client.head_object(**self._object(path))
        except Missing:
            return None
        return Entry(path, found["ContentLength"], found["ETag"])

    def open(self, path: str) -> pa.NativeFile:
        with self._translated("read", path):
            try:
                first = self._client.get_object(**self._object(path), Range=f"bytes=0-{_WHOLE_BYTES - 1}")
            except botocore.exceptions.ClientError as error:
                if error.response["Error"]["Code"] != "InvalidRange":
                    raise
                return pa.BufferReader(b"")  # an empty object has no range
            body = first["Body"].read()
        size = int(first.get("ContentRange", f"/{len(body)}").rpartition("/")[2])
        if size == len(body):
            return pa.BufferReader(body)
        return pa.PythonFile(_RangedObject(self, path, size, first["ETag"]), mode="r")

    def local_copies(self, entries: Sequence[Entry], folder: Path) -> Sequence[Path]:
        copies = [folder / f"{number:06d}" for number in range(len(entries))]
        with ThreadPoolExecutor(_DOWNLOADS) as pool:
            list(pool.map(self._download, entries, copies))
        return copies

    def _download(self, entry: Entry, copy: Path) -> None:
        with self._translated("read", entry.path), copy.open("wb") as file:
            body = self._client.get_object(**self._object(entry.path))["Body"]
            shutil.copyfileobj(body, file, 1024 * 1024)

    def put(self, path: str, content: bytes | Path, *, expect: str | None = None, sha256: bytes | None = None) -> str:
        condition = {} if expect is None else {"IfNoneMatch": "*"} if expect == ABSENT else {"IfMatch": expect}
        checksum = {"ChecksumSHA256": base64.b64encode(sha256).decode()} if sha256 else {}
        with self._translated("write", path):
            if isinstance(content, Path):
                with content.open("rb") as body:
                    if content.stat().st_size > _PART_BYTES:
                        return self._put_parts(path, body, condition)
                    answer = self._client.put_object(**self._object(path), **self._encryption, **condition, Body=body)
            else:
                answer = self._client.put_object(
                    **self._object(path), **self._encryption, **condition, **checksum, Body=content
                )
        return cast("str", answer["ETag"])

    def _put_parts(self, path: str, body: BinaryIO, condition: dict[str, str]) -> str:
        target = self._object(path)
        upload = self._client.create_multipart_upload(**target, **self._encryption, ChecksumAlgorithm="CRC32")
        target["UploadId"] = upload["UploadId"]
        try:
            parts: list[dict[str, Any]] = []
            while chunk := body.read(_PART_BYTES):
                number = len(parts) + 1
                part = self._client.upload_part(**target, PartNumber=number, Body=chunk, ChecksumAlgorithm="CRC32")
                kept = {key: part[key] for key in ("ETag", "ChecksumCRC32") if key in part}
                parts.append({"PartNumber": number, **kept})
            done = self._client.complete_multipart_upload(**target, **condition, MultipartUpload={"Parts": parts})
        except BaseException:
            with contextlib.suppress(Exception):
                self._client.abort_multipart_upload(**target)
            raise
        return cast("str", done["ETag"])

    def delete(self, paths: Iterable[str]) -> None:
        left = iter(paths)
        while thousand := list(islice(left, 1000)):
            keys = [{"Key": self._prefix + path} for path in thousand]
            with self._translated("delete", thousand[0]):
                answer = self._client.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": keys, "Quiet": True}, **self._owner
                )
            for failed in answer.get("Errors", ()):
                raise StoreError(f"cannot delete s3://{self.bucket}/{failed['Key']}: {failed.get('Code')}")

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
                answer = self._client.get_object(**self._object(path), Range=f"bytes={start}-{end - 1}", IfMatch=etag)
                return cast("bytes", answer["Body"].read())
        except Conflict as error:
            raise Missing(str(error)) from None

    def _object(self, path: str) -> dict[str, Any]:
        return {"Bucket": self.bucket, "Key": self._prefix + path, **self._owner}

    @contextlib.contextmanager
    def _translated(self, verb: str, path: str) -> Iterator[None]:
        with translated_s3_errors(verb, self.uri_of(path)):
            yield


@contextlib.contextmanager
def translated_s3_errors(verb: str, uri: str) -> Iterator[None]:
    """botocore's errors as StoreError, Conflict (412, 409) or Missing (404), in one sentence."""
    try:
        yield
    except botocore.exceptions.ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in {"PreconditionFailed", "412", "ConditionalRequestConflict"}:
            raise Conflict(f"{uri} was changed by somebody else") from None
        if code in {"NoSuchKey", "404"}:
            raise Missing(f"{uri} is gone") from None
        if code == "NoSuchBucket":
            raise StoreError(f"cannot {verb} {uri}: there is no such bucket; create it first") from None
        raise StoreError(f"cannot {verb} {uri}: {code}") from None
    except botocore.exceptions.BotoCoreError as error:
        raise StoreError(f"cannot {verb} {uri}: {error}") from None
    except OSError as error:
        raise StoreError(f"cannot {verb} {uri}: {error.strerror or error}") from None


class _RangedObject(io.RawIOBase):
    """One version of an object as a seekable file: each read is one ranged GET."""

    def __init__(self, store: S3Store, path: str, size: int, etag: str) -> None:
        self._store, self._path, self._size, self._etag = store, path, size, etag
        self._position = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._position + size, self._size)
        if end <= self._position:
            return b""
        body = self._store.read_range(self._path, self._position, end, self._etag)
        self._position += len(body)
        return body

    def size(self) -> int:
        return self._size


class S3Inputs:
    """Manifest objects, wherever they are."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def find(self, uri: str) -> list[tuple[str, int, str]]:
        store = S3Store(f"s3://{urlsplit(uri).netloc}", self._client)
        key = uri.partition("//")[2].partition("/")[2]
        if uri.endswith("/"):
            return [(store.uri_of(found.path), found.size, found.etag) for found in store.list(key)]
        found = store.head(key)
        return [(uri, found.size, found.etag)] if found else []

    def open(self, uri: str) -> BinaryIO:
        store = S3Store(f"s3://{urlsplit(uri).netloc}", self._client)
        return cast("BinaryIO", store.open(uri.partition("//")[2].partition("/")[2]))
