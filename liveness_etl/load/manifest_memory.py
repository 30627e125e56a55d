"""What a growing manifest's sweeps remember of its objects: `_state/manifests/<hash of the address>/*.parquet`.

A version of an object is known by a digest alone, since its name may be a session's id, which `forget` would have to
find here. Append-only: a sweep adds a small file under a new name, and many files become one that is written before
those are deleted. Every row is a fact about one version of an object, so it is no matter in how many files it stands. A
fact that is missing, because a sweep was killed, costs a look at the object and nothing else.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from liveness_etl.errors import Missing, StoreError
from liveness_etl.storage import ABSENT, Entry, Store

Version = bytes
"""Of an object: 16 bytes that change with it."""

MANY_FILES: Final = 200
"""Files above which they become one."""

_SCHEMA: Final = pa.schema(
    [
        pa.field("version", pa.binary(16), nullable=False),
        pa.field("done", pa.bool_(), nullable=False),
    ]
)
_READ_AT_ONCE: Final = 16
_TRIES: Final = 10


class ManifestMemory:
    """The facts of one address. `done` are versions in which nothing is left to ask; of those in `met`, the malformed
    lines stand in `rejects` already. Raises StoreError when made."""

    def __init__(self, store: Store, address: str) -> None:
        self._store = store
        self._folder = f"_state/manifests/{hashlib.sha256(address.encode()).hexdigest()[:16]}/"
        self.done: set[Version] = set()
        self.met: set[Version] = set()
        self._files: list[str] = []
        for _ in range(_TRIES):
            entries = [entry for entry in store.list(self._folder) if entry.path.endswith(".parquet")]
            try:
                with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
                    for facts in pool.map(self._read, entries):
                        self._take(facts)
            except Missing:
                continue  # another sweep made one file of many
            self._files = [entry.path for entry in entries]
            return
        raise StoreError(f"{store.uri}/{self._folder} changes too fast; try again")

    def remember(
        self, name: str, done: Collection[Version], met: Collection[Version], listed: Collection[Version] = ()
    ) -> None:
        """Add what is new among these, in a file whose name starts with `name`; make one of many files, without
        objects that are not `listed` any more. Raises StoreError."""
        new_done, new_met = set(done) - self.done, set(met) - self.met - set(done)
        if new_done or new_met:
            self._write(f"{name}.parquet", new_done, new_met)
            self.done |= new_done
            self.met |= new_met
        if len(self._files) > MANY_FILES:
            self.done &= set(listed)
            self.met = (self.met & set(listed)) - self.done
            old = self._files
            self._files = []
            self._write(f"{name}-all.parquet", self.done, self.met)
            self._store.delete(old)

    def _write(self, name: str, done: Iterable[Version], met: Iterable[Version]) -> None:
        facts = [(version, True) for version in sorted(done)] + [(version, False) for version in sorted(met)]
        columns = [[fact[place] for fact in facts] for place in range(len(_SCHEMA))]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pydict(dict(zip(_SCHEMA.names, columns, strict=True)), _SCHEMA), sink)
        self._store.put(self._folder + name, bytes(sink.getvalue()), expect=ABSENT)
        self._files.append(self._folder + name)

    def _read(self, entry: Entry) -> Sequence[tuple[Version, bool]]:
        try:
            with self._store.open(entry.path) as file:
                columns = pq.read_table(file, schema=_SCHEMA).to_pydict()
        except (pa.ArrowException, OSError):
            return ()  # its objects are looked at again
        return list(zip(*(columns[name] for name in _SCHEMA.names), strict=True))

    def _take(self, facts: Iterable[tuple[Version, bool]]) -> None:
        for version, done in facts:
            (self.done if done else self.met).add(version)
