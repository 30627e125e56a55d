"""Looks for an id in everything that a store keeps: names, bytes, values in Parquet files, old versions."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liveness_etl.storage import Store
from liveness_etl.storage_folder import LocalStore
from liveness_etl.storage_s3 import S3Store
from tests.conftest import new_bucket


def kept(store: Store) -> Iterator[tuple[str, bytes]]:
    """Everything below the root with its content, temporary files and old versions too."""
    if isinstance(store, LocalStore):
        for path in sorted(store.root.rglob("*")):
            yield str(path.relative_to(store.root)), path.read_bytes() if path.is_file() else b""
        return
    assert isinstance(store, S3Store)
    client, bucket = store._client, store.bucket
    found = client.list_object_versions(Bucket=bucket)
    assert not found["IsTruncated"]
    for version in found.get("Versions", ()):
        body = client.get_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])["Body"]
        yield f"{version['Key']} {version['VersionId']}", body.read()
    for marker in found.get("DeleteMarkers", ()):
        yield marker["Key"], b""


def holders(store: Store, session_id: str) -> list[str]:
    """The paths of what still has the id in its name, its bytes or its rows."""
    return [name for name, content in kept(store) if session_id in name or _holds(content, session_id)]


def _holds(content: bytes, session_id: str) -> bool:
    if content.startswith(b"PAR1"):
        with pq.ParquetFile(io.BytesIO(content)) as file:
            return session_id in str(file.read().to_pylist()) or session_id in str(file.metadata.metadata)
    return session_id.encode() in content


class Died(BaseException):
    """The process is gone; nothing catches it."""


class Dying:
    """A store that dies before its nth write, deletion or erasing."""

    def __init__(self, store: Store, step: int) -> None:
        self._store, self._left = store, step

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._counted(found) if name in ("put", "delete", "purge") else found

    def open(self, path: str) -> pa.NativeFile:
        return self._store.open(path)

    def _counted(self, act: Any) -> Any:
        def acting(*arguments: Any, **options: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                raise Died
            return act(*arguments, **options)

        return acting


@pytest.fixture
def moto_store(client_of: Callable[[str], Any], moto_endpoint: str) -> S3Store:
    """A prefix in a bucket of moto's."""
    s3 = client_of(moto_endpoint)
    return S3Store(f"s3://{new_bucket(s3)}/output", s3)


@pytest.fixture
def versioned(client_of: Callable[[str], Any], moto_endpoint: str) -> S3Store:
    """A prefix in a bucket that keeps old versions; moto's, for on Ceph 16 such a bucket heeds no condition."""
    s3 = client_of(moto_endpoint)
    bucket = new_bucket(s3)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return S3Store(f"s3://{bucket}/output", s3)


def write_private(path: Path, content: bytes) -> None:
    """A file of this user's state."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
