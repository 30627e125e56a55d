"""Which ids were erased: one small object in `_state/forgotten/` for each `forget`, with the SHA-256 of every id.

It is written before anything is erased, and stays for good. Whoever writes rows looks for it after the write: so either
the erasing lists what was written, or the writer sees the tombstone. An object is the digests of the lower-case
ids, 32 bytes each, sorted; it is never changed, so a process reads each once.
"""

import hashlib
import uuid
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Final

from liveness_etl.errors import StoreError
from liveness_etl.storage import ABSENT, Store

FOLDER: Final = "_state/forgotten/"

_DIGEST_BYTES: Final = 32
_READ_AT_ONCE: Final = 8


@dataclass(frozen=True)
class Tombstones:
    """The digests of erased ids: all of them, and those of each object by its name."""

    digests: frozenset[bytes]
    by_name: Mapping[str, frozenset[bytes]]

    def among(self, session_ids: Iterable[str]) -> set[str]:
        """Those of the ids that were erased."""
        if not self.digests:
            return set()
        return {session_id for session_id in session_ids if digest_of(session_id) in self.digests}

    def hex_digests(self) -> list[str]:
        """The digests as DuckDB's sha256() gives them."""
        return [digest.hex() for digest in self.digests]

    def names(self, session_ids: Iterable[str]) -> set[str]:
        """The names of the tombstones of these ids."""
        wanted = {digest_of(session_id) for session_id in session_ids}
        return {name for name, digests in self.by_name.items() if not wanted.isdisjoint(digests)}


NONE: Final = Tombstones(frozenset(), {})

_read: dict[str, Tombstones] = {}  # by the store's address


def digest_of(session_id: str) -> bytes:
    """SHA-256 of an id as text: it tells nothing of an id to whoever does not know that id already."""
    return hashlib.sha256(session_id.encode()).digest()


def put_tombstones(store: Store, session_ids: Collection[str], now: datetime) -> None:
    """Write the tombstones of these ids, durable when this returns. Raises StoreError."""
    name = f"forgotten-{now:%Y%m%dT%H%M%S%f}Z-{uuid.uuid4().hex[:8]}"
    store.put(FOLDER + name, b"".join(sorted({digest_of(session_id) for session_id in session_ids})), expect=ABSENT)


def read_tombstones(store: Store) -> Tombstones:
    """All tombstones now: one listing, and a read of what is new since. The same object while nothing is new."""
    names = [PurePosixPath(entry.path).name for entry in store.list(FOLDER)]
    known = last_read(store)
    if names == list(known.by_name):
        return known
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        held = pool.map(lambda name: known.by_name[name] if name in known.by_name else _digests(store, name), names)
        by_name = dict(zip(names, held, strict=True))
    _read[store.uri] = Tombstones(frozenset().union(*by_name.values()), by_name)
    return _read[store.uri]


def last_read(store: Store) -> Tombstones:
    """The tombstones that this process has read already; makes no call."""
    return _read.get(store.uri, NONE)


def _digests(store: Store, name: str) -> frozenset[bytes]:
    with store.open(FOLDER + name) as file:
        content = bytes(file.read())
    if len(content) % _DIGEST_BYTES:
        raise StoreError(f"{store.uri}/{FOLDER}{name} is damaged: restore it from a backup, it keeps erased ids out")
    return frozenset(content[at : at + _DIGEST_BYTES] for at in range(0, len(content), _DIGEST_BYTES))
