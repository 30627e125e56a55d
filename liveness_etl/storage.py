"""A folder or an S3 prefix: read, list, atomic and conditional write, lock, delete.

`storage_folder` and `storage_s3` alone touch an output. Paths are relative to the store's root and use `/`. A write is
whole or not there at all; a condition (`expect`) makes it lose against a concurrent one instead of covering it.
"""

import contextlib
import hashlib
import os
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from liveness_etl.errors import StoreError, UsageError

ABSENT = ""
"""As `expect`: the path must not exist yet."""


@dataclass(frozen=True)
class Entry:
    """One stored object: its path below the root, its size in bytes, a tag that changes with its content, and when
    that changed last (epoch seconds)."""

    path: str
    size: int
    etag: str
    modified: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Purged:
    """How much was erased for good: objects, and old versions of objects (delete markers included)."""

    objects: int = 0
    versions: int = 0

    def __add__(self, other: "Purged") -> "Purged":
        return Purged(self.objects + other.objects, self.versions + other.versions)


class Store(Protocol):
    """What the rooms may ask of an output, whatever it is made of. All methods raise StoreError."""

    uri: str

    def list(self, prefix: str) -> Iterator[Entry]:
        """All objects whose path starts with `prefix`, sorted by path; temporary files never."""

    def head(self, path: str) -> Entry | None:
        """The object at `path`, or None."""

    def open(self, path: str) -> pa.NativeFile:
        """Random access with bounded memory. Raises Missing."""

    def local_copies(self, entries: Sequence[Entry], folder: Path) -> Sequence[Path]:
        """Each object as a local file: its own where the store is a folder, else a copy in `folder`."""

    def put(self, path: str, content: bytes | Path, *, expect: str | None = None, sha256: bytes | None = None) -> str:
        """Write whole; a Path is consumed where that saves a copy. Returns the new tag.

        `expect` None replaces whatever is there, ABSENT needs the path to be free, and a tag needs that very
        version: else Conflict. `sha256` is the content's digest, where S3 is to check it.
        """

    def delete(self, paths: Iterable[str]) -> None:
        """Delete; a path that is gone already is no error."""

    def folders(self, prefix: str) -> Sequence[str]:
        """The names of the folders directly below `prefix` (which ends in `/`), sorted, temporary ones too."""

    def purge(self, prefix: str, *, below: Sequence[str] | None = None, current: bool = False) -> Purged:
        """Erase for good what the store keeps of old versions of objects whose path starts with `prefix`.

        With `current` the objects too, temporary ones as well; `prefix` then ends in `/`. `below` (sorted) leaves it
        at what is in folders of these names directly below the prefix. Messages of errors name the prefix alone.
        """

    def lock(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Mutual exclusion between processes of this host (on S3 there is none: use `expect`)."""

    def scratch(self) -> contextlib.AbstractContextManager[Path]:
        """A private local folder, on the store's own file system where it has one; gone afterwards.

        What the system refuses to write there comes out as StoreError.
        """

    def uri_of(self, path: str) -> str:
        """An absolute `file://` or `s3://` address."""


def open_store(
    uri: str,
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    profile: str | None = None,
    kms_key_id: str | None = None,
    expected_bucket_owner: str | None = None,
) -> Store:
    """The store at a local path, a `file://` or an `s3://bucket/prefix` address. Raises UsageError for others."""
    if uri.startswith("s3://"):
        from liveness_etl.storage_s3 import S3Store
        from liveness_etl.storage_s3_client import s3_client

        client = s3_client(endpoint_url, region, profile)
        store = S3Store(uri, client, kms_key_id, expected_bucket_owner)
        weakref.finalize(store, client.close)
        return store
    scheme = urlsplit(uri).scheme
    if scheme == "file":
        uri = unquote(urlsplit(uri).path)
    elif "://" in uri:
        raise UsageError(f"cannot store under {scheme}://: give a folder or an s3:// address")
    from liveness_etl.storage_folder import LocalStore

    return LocalStore(Path(uri))


@contextlib.contextmanager
def scratch_errors(folder: Path) -> Iterator[None]:
    """What cannot be written in a scratch folder (the disk is full, say), as StoreError."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)  # pyarrow's own text has several sentences
        raise StoreError(f"cannot write in {folder}: {reason}") from None


def state_folder() -> Path:
    """This user's local state: rescued answers live here (`$XDG_STATE_HOME/liveness-etl`)."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "liveness-etl"


def rescue_folder(store_uri: str) -> Path:
    """Where answers wait that could not be landed in the store at `store_uri`."""
    return state_folder() / "rescue" / hashlib.sha256(store_uri.encode()).hexdigest()[:16]


class Inputs(Protocol):
    """Objects outside the output that a manifest may name."""

    def find(self, uri: str) -> list[tuple[str, int, str, float]]:
        """(uri, size, etag, modified) of the object, or of all objects below a prefix that ends in `/`."""

    def open(self, uri: str) -> BinaryIO: ...
