"""Landing parts written again: many as one (`fold`), or without the rows of erased ids (`erase_rows`).

Either puts a part that names those it takes the place of, and only then deletes them, so that a crash in between
leaves rows twice, never none. An erasing also names the tombstones: the fingerprint changes, and the tables with it.

Whoever still runs an older version must be able to go on, and may know less of a row than stands in it. So a fold
leaves parts of other versions alone, and columns that this program does not know stay as they are.
"""

import json
import logging
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liveness_etl.errors import Missing, NewerContract, StoreError
from liveness_etl.load.landing import (
    FOLD_MARK,
    FOLDED_KEY,
    VERSION_KEY,
    folder_of,
    read_landed,
    read_schema,
    scan,
    scan_as,
    scan_partition,
    stem,
    version_of,
)
from liveness_etl.load.tombstones import read_tombstones
from liveness_etl.storage import ABSENT, Entry, Store
from liveness_etl.transform import tables

MANY_PARTS: Final = 200
"""Landing parts of a partition from which on `fold_crowded` folds them."""

_FOLD_UNTIL_BYTES: Final = 64 * 1024 * 1024  # a larger part is left alone: folding must not grow with history
_READ_AT_ONCE: Final = 8
_TRIES: Final = 20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Erased:
    """What an erasing came to: landing rows, and the parts that are deleted. `touched`: now, or by an earlier one."""

    rows: int
    parts: tuple[str, ...]
    touched: bool


def fold(store: Store, dt: date, *, at_least: int = 2) -> int:
    """Make one part of a partition's small parts, if there are `at_least` so many; returns how many went.

    Deletes only parts whose rows are in a durable fold, and carries over no row of an erased id. Touches nothing that
    another version wrote. The caller holds the partition's lock.
    """
    try:
        landed = read_landed(store, dt)
        store.delete(part.path for part in landed.covered)
        small = {part: pa.schema([]) for part in landed.parts if part.size < _FOLD_UNTIL_BYTES}
        if len(small) >= at_least:
            small = {part: schema for part, schema in _schemas(store, small).items() if _is_ours(schema)}
        if len(small) < at_least:
            return 0
        before = read_tombstones(store)
        if before.digests and (forgotten := before.among(_ids(scan(store, list(small), ["session_id"])))):
            erase_forgotten(store, dt, forgotten)
            return fold(store, dt, at_least=at_least)
        _write_again(store, dt, small)
        if read_tombstones(store) is not before:
            erase_forgotten(store, dt)
    except Missing:
        return 0  # another fold was faster
    except NewerContract:
        return 0  # a newer version has folded here
    store.delete(part.path for part in small)
    return len(small)


def fold_crowded(store: Store, partitions: Iterable[date]) -> None:
    """Fold those of the partitions that have MANY_PARTS. Raises StoreError."""
    for dt in partitions:
        with store.lock(f"partition-{dt}"):
            fold(store, dt, at_least=MANY_PARTS)


def erase_forgotten(store: Store, dt: date, session_ids: Collection[str] = ()) -> None:
    """Erase a partition's rows of these ids, which have tombstones; without any, of all ids that have one.

    Whoever meets such a row calls this: it was landed while the id was erased, perhaps by a process that died before
    it could look. Raises StoreError, and NewerContract before it writes anything.
    """
    tombstones = read_tombstones(store)
    forgotten = session_ids or tombstones.among(_ids(scan_partition(store, dt, ["session_id"])))
    if not forgotten:
        return
    erased = erase_rows(store, dt, forgotten, tombstones.names(forgotten))
    try:
        for path in erased.parts:
            store.purge(path)
    except StoreError as error:  # a sweep need not have the right to, and must not stop for it
        log.warning("%s: run the forget once more that erased sessions of %s", error, dt)


def erase_rows(
    store: Store,
    dt: date,
    session_ids: Collection[str],
    tombstones: Collection[str],
    erasing: Callable[[pa.RecordBatch], None] | None = None,
) -> Erased:
    """Write the parts that hold rows of these ids again as one part without them, and delete them.

    `tombstones` are the names of theirs. `erasing` is shown the rows (session_id, images) before they go, perhaps
    more than once. Raises StoreError, and NewerContract before it writes anything.
    """
    wanted = pa.array(sorted(session_ids), pa.string())
    for again in range(_TRIES):
        try:
            landed = read_landed(store, dt)
            with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
                rows = list(pool.map(lambda part: _count_rows(store, part, wanted), landed.parts))
            holding = [part for part, count in zip(landed.parts, rows, strict=True) if count]
            if holding:
                if erasing is not None:
                    for batch in scan(store, holding, ["session_id", "images"]):
                        erasing(batch.filter(pc.is_in(batch.column("session_id"), wanted)))
                _write_again(store, dt, _schemas(store, holding), without=wanted, tombstones=tombstones)
            break
        except Missing:
            if again == _TRIES - 1:
                raise
    gone = tuple(part.path for part in (*landed.covered, *holding))
    store.delete(gone)
    return Erased(sum(rows), gone, bool(holding) or not landed.origins.isdisjoint(tombstones))


def _schemas(store: Store, parts: Collection[Entry]) -> dict[Entry, pa.Schema]:
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        return dict(zip(parts, pool.map(lambda part: read_schema(store, part), parts), strict=True))


def _is_ours(schema: pa.Schema) -> bool:
    return version_of(schema.metadata) == int(tables.CONTRACT_VERSION)


def _ids(batches: Iterable[pa.RecordBatch]) -> Iterator[str]:
    return (session_id for batch in batches for session_id in batch.column("session_id").to_pylist())


def _count_rows(store: Store, part: Entry, wanted: pa.Array) -> int:
    return sum(pc.sum(pc.is_in(batch.column(0), wanted)).as_py() or 0 for batch in scan(store, [part], ["session_id"]))


def _write_again(
    store: Store,
    dt: date,
    parts: Mapping[Entry, pa.Schema],
    without: pa.Array | None = None,
    tombstones: Collection[str] = (),
) -> None:
    origins = set(tombstones)
    columns = {field.name: field for field in tables.LANDING}
    for part, written in parts.items():
        held = (written.metadata or {}).get(FOLDED_KEY)
        origins |= set(json.loads(held)) if held else {stem(part)}
        if without is not None:
            origins.add(stem(part))  # a fold, too, must not count beside what was written without its rows
        for field in written:
            columns.setdefault(field.name, field.with_nullable(True))
    metadata = {VERSION_KEY: tables.CONTRACT_VERSION, FOLDED_KEY: json.dumps(sorted(origins))}
    schema = pa.schema(columns.values())
    with store.scratch() as folder:
        ready = folder / "fold"
        with pq.ParquetWriter(
            ready, schema.with_metadata(metadata), compression="zstd", write_page_checksum=True
        ) as writer:
            for table in _row_groups(scan_as(store, list(parts), schema)):
                kept = table if without is None else table.filter(pc.invert(pc.is_in(table["session_id"], without)))
                writer.write_table(kept)
        store.put(f"{folder_of(dt)}{FOLD_MARK}{uuid.uuid4().hex}.parquet", ready, expect=ABSENT)


def _row_groups(batches: Iterable[pa.RecordBatch], rows: int = 32_768) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(len(one) for one in held) >= rows:
            yield pa.Table.from_batches(held)
            held.clear()
    if held:
        yield pa.Table.from_batches(held)
