"""A large object, read as a file: bounded memory, one ranged GET a read."""

import io
from typing import Protocol


class Ranges(Protocol):
    """Where pieces of one version of an object come from."""

    def read_range(self, path: str, start: int, end: int, etag: str) -> bytes: ...


class RangedObject(io.RawIOBase):
    """One version of an object as a seekable file: each read is one ranged GET."""

    def __init__(self, store: Ranges, path: str, size: int, etag: str) -> None:
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
