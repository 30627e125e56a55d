"""An output in a folder."""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from liveness_etl.errors import Conflict, Missing, StoreError
from liveness_etl.storage import ABSENT, Entry, Purged, scratch_errors

_LEFT_SECONDS = {"scratch-": 86_400.0, "put-": 86_400.0}
_PLAN_LEFT_SECONDS = 30 * 86_400.0  # the plan of a run, which may take days


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


def _local_error(verb: str, target: Path, error: OSError) -> StoreError:
    return StoreError(f"cannot {verb} {target}: {error.strerror or type(error).__name__}")
