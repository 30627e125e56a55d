"""A store in memory with S3's rules: strong consistency, conditional writes, no locks. It can be stopped or overtaken
between any two of its calls."""

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from liveness_etl.errors import Conflict, Missing
from liveness_etl.storage import ABSENT, Entry, Purged

_numbers = itertools.count()


class Killed(BaseException):
    """Ends an operation as a SIGKILL would: nothing in the program handles it."""


class MemoryStore:
    """Implements `storage.Store`. `before_call`, where it is set, runs before each call that looks or writes."""

    def __init__(self) -> None:
        self.uri = f"memory://{next(_numbers)}"  # what a process remembers of a store, it remembers by its address
        self.objects: dict[str, tuple[bytes, str]] = {}
        self.before_call: Callable[[], None] | None = None

    def _called(self) -> None:
        if self.before_call is not None:
            self.before_call()

    def list(self, prefix: str) -> Iterator[Entry]:
        self._called()
        found = [(path, *held) for path, held in sorted(self.objects.items()) if path.startswith(prefix)]
        return iter([Entry(path, len(content), tag) for path, content, tag in found if not path.startswith(".tmp/")])

    def head(self, path: str) -> Entry | None:
        self._called()
        held = self.objects.get(path)
        return Entry(path, len(held[0]), held[1]) if held else None

    def open(self, path: str) -> pa.NativeFile:
        self._called()
        if path not in self.objects:
            raise Missing(f"{path} is gone")
        return pa.BufferReader(self.objects[path][0])

    def local_copies(self, entries: Sequence[Entry], folder: Path) -> Sequence[Path]:
        copies = []
        for number, entry in enumerate(entries):
            with self.open(entry.path) as file:
                (folder / f"{number:06d}").write_bytes(file.read())
            copies.append(folder / f"{number:06d}")
        return copies

    def put(self, path: str, content: bytes | Path, *, expect: str | None = None, sha256: bytes | None = None) -> str:
        self._called()
        held = self.objects.get(path)
        if expect is not None and (held[1] if held else ABSENT) != expect:
            raise Conflict(f"{path} was changed by somebody else")
        tag = f"tag-{next(_numbers)}"
        self.objects[path] = (content.read_bytes() if isinstance(content, Path) else content, tag)
        return tag

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            self._called()
            self.objects.pop(path, None)

    def folders(self, prefix: str) -> Sequence[str]:
        self._called()
        below = (path.removeprefix(prefix) for path in self.objects if path.startswith(prefix))
        return sorted({path.partition("/")[0] for path in below if "/" in path})

    def purge(self, prefix: str, *, below: Sequence[str] | None = None, current: bool = False) -> Purged:
        self._called()
        gone = [
            path
            for path in self.objects
            if current
            and path.startswith(prefix)
            and (below is None or path.removeprefix(prefix).partition("/")[0] in below)
        ]
        for path in gone:
            del self.objects[path]
        return Purged(len(gone))

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        yield

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        folder = Path(tempfile.mkdtemp())
        try:
            yield folder
        finally:
            shutil.rmtree(folder)

    def uri_of(self, path: str) -> str:
        return f"{self.uri}/{path}"

    @contextlib.contextmanager
    def at_call(self, number: int, happens: Callable[[], object]) -> Iterator[None]:
        """Before the call with this number (from 0) something happens, once."""
        left = number

        def count() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                self.before_call = None
                happens()

        self.before_call = count
        try:
            yield
        finally:
            self.before_call = None


def killed() -> None:
    """What happens at a call that is never made."""
    raise Killed
