"""A folder or an S3 prefix: read, list, atomic and conditional write, lock, delete.

The only module that touches the file system of an output or calls S3. Paths are relative to the store's
root and use `/`. A write is whole or not there at all; a condition (`expect`) makes it lose against a
concurrent one instead of covering it.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
import uuid
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from liveness_etl.errors import Conflict, Missing, StoreError, UsageError

ABSENT = ""
"""As `expect`: the path must not exist yet."""

_LEFT_SECONDS = {"scratch-": 86_400.0, "put-": 86_400.0}
_PLAN_LEFT_SECONDS = 30 * 86_400.0  # the plan of a run, which may take days


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
        from liveness_etl.storage_s3 import S3Store, s3_client

        client = s3_client(endpoint_url, region, profile)
        store = S3Store(uri, client, kms_key_id, expected_bucket_owner)
        weakref.finalize(store, client.close)
        return store
    scheme = urlsplit(uri).scheme
    if scheme == "file":
        uri = unquote(urlsplit(uri).path)
    elif "://" in uri:
        raise UsageError(f"cannot store under {scheme}://: give a folder or an s3:// address")
    return LocalStore(Path(uri))


class LocalStore:
    """A folder. Writes go to `.tmp/`, are fsynced, and renamed into place; then the folder is fsynced."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.uri = str(self.root)
        self._made_root = False

    def list(self, prefix: str) -> Iterator[Entry]:
        folder = prefix[: prefix.rfind("/") + 1]
        try:
            with os.scandir(self.root / folder) as children:
                # A folder sorts as its name with the slash: by whole paths, as S3 does.
                paths = sorted(f"{folder}{child.name}{'/' * child.is_dir()}" for child in children)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _local_error("list", self.root / folder, error) from None
        for path in paths:
            if not path.startswith(prefix) or path.startswith(".tmp/"):
                continue
            if path.endswith("/"):
                yield from self.list(path)
            elif entry := self.head(path):
                yield entry

    def head(self, path: str) -> Entry | None:
        try:
            found = (self.root / path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _local_error("read", self.root / path, error) from None
        if not stat.S_ISREG(found.st_mode):
            return None
        tag = f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"
        return Entry(path, found.st_size, tag, found.st_mtime)

    def open(self, path: str) -> pa.NativeFile:
        try:
            return pa.OSFile(str(self.root / path), "rb")
        except FileNotFoundError:
            raise Missing(f"{self.root / path} is gone") from None
        except OSError as error:
            raise _local_error("read", self.root / path, error) from None

    def local_copies(self, entries: Sequence[Entry], folder: Path) -> Sequence[Path]:
        return [self.root / entry.path for entry in entries]

    def put(self, path: str, content: bytes | Path, *, expect: str | None = None, sha256: bytes | None = None) -> str:
        target = self.root / path
        try:
            self._make_folder(target.parent)
            self._make_folder(self.root / ".tmp")
            ready = self.root / ".tmp" / f"put-{uuid.uuid4().hex}"
            try:
                _write_durably(ready, content)
                if expect is None:
                    ready.replace(target)
                else:
                    with self.lock("put"):
                        found = self.head(path)
                        if (found.etag if found else ABSENT) != expect:
                            raise Conflict(f"{target} was changed by somebody else")
                        ready.replace(target)
            finally:
                ready.unlink(missing_ok=True)
            _fsync_folder(target.parent)
        except OSError as error:
            raise _local_error("write", target, error) from None
        written = self.head(path)
        return written.etag if written else ""

    def delete(self, paths: Iterable[str]) -> None:
        folders = set()
        for path in paths:
            target = self.root / path
            try:
                target.unlink(missing_ok=True)
            except OSError as error:
                raise _local_error("delete", target, error) from None
            folders.add(target.parent)
        for folder in folders:
            if folder.parent == self.root / ".tmp":
                with contextlib.suppress(OSError):
                    folder.rmdir()  # a run's own; one a run would be half a million a year
            else:
                with contextlib.suppress(FileNotFoundError):
                    _fsync_folder(folder)

    def folders(self, prefix: str) -> Sequence[str]:
        try:
            with os.scandir(self.root / prefix) as children:
                return sorted(child.name for child in children if child.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _local_error("list", self.root / prefix, error) from None

    def purge(self, prefix: str, *, below: Sequence[str] | None = None, current: bool = False) -> Purged:
        base, files = self.root / prefix, 0
        if not current or not base.is_dir():
            return Purged()  # a folder keeps no old versions
        try:
            for folder in [base] if below is None else [base / name for name in below]:
                with contextlib.suppress(FileNotFoundError):  # another one erases the same
                    files += sum(len(names) for _, _, names in os.walk(folder))
                    shutil.rmtree(folder)
            _fsync_folder(base if base.is_dir() else base.parent)
        except OSError as error:
            raise _local_error("erase what is below", base, error) from None
        return Purged(files)

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        folder = self.root / "_state" / "locks"
        with contextlib.ExitStack() as stack:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                handle = os.open(folder / f"{name.replace('/', '-')}.lock", os.O_RDWR | os.O_CREAT, 0o600)
                stack.callback(os.close, handle)
                fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError as error:
                raise _local_error("lock", folder, error) from None
            yield

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        base = self.root / ".tmp"
        try:
            self._make_folder(base)
            self._drop_left_scratch(base)
            folder = Path(tempfile.mkdtemp(prefix="scratch-", dir=base))
        except OSError as error:
            raise _local_error("write", base, error) from None
        try:
            with scratch_errors(folder):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if self._made_root:  # a first run that failed before it wrote anything leaves nothing behind
                with contextlib.suppress(OSError):
                    base.rmdir()
                    self.root.rmdir()

    def uri_of(self, path: str) -> str:
        return (self.root / path).as_uri()

    def _make_folder(self, folder: Path) -> None:
        missing = []
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for new in reversed(missing):
            new.mkdir(exist_ok=True)
            self._made_root = self._made_root or new == self.root
            _fsync_folder(new.parent)

    @staticmethod
    def _drop_left_scratch(base: Path) -> None:
        """Remove what killed processes left behind a day ago (a plan: a month), as far as that can be done."""
        for left in base.iterdir():
            kept_seconds = next((age for mark, age in _LEFT_SECONDS.items() if left.name.startswith(mark)), None)
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > (kept_seconds or _PLAN_LEFT_SECONDS):
                    shutil.rmtree(left) if left.is_dir() else left.unlink()


def _write_durably(ready: Path, content: bytes | Path) -> None:
    if isinstance(content, Path):
        content.rename(ready)  # out of this store's scratch
        handle = os.open(ready, os.O_RDONLY)
    else:
        handle = os.open(ready, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        if isinstance(content, bytes):
            left = memoryview(content)
            while left:
                left = left[os.write(handle, left) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def scratch_errors(folder: Path) -> Iterator[None]:
    """What cannot be written in a scratch folder (the disk is full, say), as StoreError."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)  # pyarrow's own text has several sentences
        raise StoreError(f"cannot write in {folder}: {reason}") from None


def _local_error(verb: str, target: Path, error: OSError) -> StoreError:
    return StoreError(f"cannot {verb} {target}: {error.strerror or type(error).__name__}")


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
