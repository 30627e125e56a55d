"""One partition's tables from its landing: a pure function of the parts, replaced atomically.

Rows are sorted by DuckDB (which spills to disk), so that the winner of an id is the first of its rows, and
stream through `transform.normalize` into one open Parquet writer per table: memory is bounded at any size.
"""

import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from liveness_etl.engine import open_engine
from liveness_etl.errors import Conflict, Missing, StoreError
from liveness_etl.load import landing, rewrite
from liveness_etl.load.tombstones import NONE, Tombstones, read_tombstones
from liveness_etl.storage import ABSENT, Store
from liveness_etl.transform import normalize, tables

FINGERPRINT_KEY: Final = b"liveness_etl.landing_fingerprint"

_TRIES: Final = 20
_BATCH_ROWS: Final = 65_536


@dataclass(frozen=True)
class Published:
    """What became of one partition: `sessions` rows written, or 0 where its tables were current."""

    dt: date
    changed: bool
    sessions: int


class RowsOfForgotten(Exception):
    """Landing holds rows of an id that was erased."""


def table_path(table: str, dt: date) -> str:
    """Where a partition's file of a table stands below the output."""
    return f"{table}/dt={dt.isoformat()}/part-00000.parquet"


def publish_partition(
    store: Store,
    dt: date,
    *,
    rebuild: bool = False,
    fold: bool = True,
    row_group_rows: int = 131_072,
    memory_limit: str = "1GB",
) -> Published:
    """Make the four tables of a partition right for what its landing holds now. Tables of an older contract are not.

    Raises StoreError, and NewerContract where a newer version made a table or landed a part: then nothing is written.
    Safe at the same time as any other publish, fold or sweep: it starts again when it was overtaken.
    """
    with store.lock(f"partition-{dt}"):
        for again in range(_TRIES):
            try:
                published = _publish_once(store, dt, rebuild, row_group_rows, memory_limit)
            except RowsOfForgotten:
                rewrite.erase_forgotten(store, dt)
                continue
            except (Conflict, Missing):
                time.sleep(random.uniform(0, min(5.0, 0.1 * 2**again)))
                continue
            if fold:
                rewrite.fold(store, dt)
            return published
    raise StoreError(f"publishing {dt} was overtaken {_TRIES} times by other writers: try again later")


def is_current(store: Store, dt: date, fingerprint: str) -> bool:
    """Whether all four files of a partition carry this fingerprint and are of the present contract.

    Raises NewerContract for a file of a newer one, and StoreError.
    """
    found = [_fingerprint_of(store, table, dt) for table in tables.TABLES]  # of all: each may be a newer one's
    return all(one == fingerprint for one in found)


def _publish_once(store: Store, dt: date, rebuild: bool, row_group_rows: int, memory_limit: str) -> Published:
    # Tags first, landing second: whoever replaces a table in between has seen at least as much as we shall.
    before = {table: store.head(table_path(table, dt)) for table in tables.TABLES}
    landed = landing.read_landed(store, dt)
    if not landed.parts or (is_current(store, dt, landed.fingerprint) and not rebuild):
        return Published(dt, False, 0)
    # Landing first, tombstones second: a row that came in after its tombstone is met with it.
    tombstones = read_tombstones(store)
    with store.scratch() as folder:
        sessions = write_tables(store, landed, folder, row_group_rows, memory_limit, tombstones)
        for table in tables.TABLES:
            found = before[table]
            store.put(table_path(table, dt), folder / table, expect=found.etag if found else ABSENT)
    return Published(dt, True, sessions)


def write_tables(
    store: Store,
    landed: landing.Landed,
    folder: Path,
    row_group_rows: int,
    memory_limit: str,
    tombstones: Tombstones = NONE,
) -> int:
    """Write `folder/<table>` for each table of a partition; returns the number of sessions.

    Raises RowsOfForgotten where landing holds rows of ids with one of the tombstones, and StoreError.
    """
    metadata = {
        landing.VERSION_KEY: tables.CONTRACT_VERSION,
        FINGERPRINT_KEY: landed.fingerprint,
    }
    sessions = 0
    with contextlib.ExitStack() as stack:
        writers = {
            table: stack.enter_context(_TableWriter(folder / table, table, metadata, row_group_rows))
            for table in tables.TABLES
        }
        for winners in read_winners(store, landed, folder, memory_limit, tombstones):
            sessions += len(winners)
            for table, writer in writers.items():
                writer.write(normalize.NORMALIZE[table](winners))
    return sessions


def read_winners(
    store: Store, landed: landing.Landed, folder: Path, memory_limit: str, tombstones: Tombstones = NONE
) -> Iterator[pa.RecordBatch]:
    """The winning landing rows of a partition, sorted by session_id. `folder` takes what spills.

    Raises as `write_tables` does.
    """
    parts, known = landing.local_parts(store, landed.parts, folder)
    columns = ", ".join(known)
    schema = pa.schema([field.remove_metadata() for field in tables.LANDING])
    with open_engine(folder, memory_limit) as connection:
        try:
            if tombstones.digests and _hold_any(connection, parts, tombstones):
                raise RowsOfForgotten
            rows = connection.execute(
                f"SELECT {columns} FROM read_parquet($parts, union_by_name = true) "
                f"ORDER BY session_id, {normalize.WINNER_ORDER_SQL}, hash({columns})",
                {"parts": [str(part) for part in parts]},
            ).to_arrow_reader(_BATCH_ROWS)
            last_id = None
            for batch in rows:
                if len(batch):
                    winners = normalize.first_of_each(batch, last_id)
                    last_id = batch.column("session_id")[-1].as_py()
                    yield landing.conformed(winners, schema)
        except duckdb.Error as error:
            _raise_cause(store, landed, error)


def _hold_any(connection: duckdb.DuckDBPyConnection, parts: Sequence[Path], tombstones: Tombstones) -> bool:
    connection.register("forgotten", pa.table({"digest": tombstones.hex_digests()}))
    found = connection.execute(
        "SELECT 1 FROM read_parquet($parts, union_by_name = true) SEMI JOIN forgotten ON sha256(session_id) = digest "
        "LIMIT 1",
        {"parts": [str(part) for part in parts]},
    ).fetchone()
    return found is not None


def _raise_cause(store: Store, landed: landing.Landed, error: duckdb.Error) -> None:
    """DuckDB tells of a damaged or missing part in its own way: find it again, to name it."""
    for _ in landing.scan(store, landed.parts):
        pass
    raise StoreError(f"DuckDB could not sort the partition: {str(error).splitlines()[0]}") from None


class _TableWriter:
    """One table's Parquet file, in row groups of the given size."""

    def __init__(self, path: Path, table: str, metadata: dict[bytes, str], row_group_rows: int) -> None:
        schema = tables.SCHEMAS[table].with_metadata(metadata)
        self._rows = row_group_rows
        self._held: list[pa.RecordBatch] = []
        index = [name for name in ("image_index", "feedback_index") if name in schema.names]
        self._schema = schema
        self._writer = pq.ParquetWriter(
            path,
            schema,
            compression="zstd",
            write_page_checksum=True,
            write_page_index=True,
            bloom_filter_options={"session_id": {"ndv": row_group_rows, "fpp": 0.01}},
            sorting_columns=[pq.SortingColumn(schema.names.index(name)) for name in ["session_id", *index]],
        )

    def write(self, batch: pa.RecordBatch) -> None:
        self._held.append(batch)
        if sum(len(one) for one in self._held) >= self._rows:
            self._flush()

    def _flush(self) -> None:
        table = pa.Table.from_batches(self._held, schema=self._schema.remove_metadata())
        whole = len(table) - len(table) % self._rows
        self._writer.write_table(table.slice(0, whole).cast(self._schema), row_group_size=self._rows)
        self._held = table.slice(whole).to_batches()

    def __enter__(self) -> "_TableWriter":
        return self

    def __exit__(self, *raised: object) -> None:
        if raised[0] is None and self._held:
            self._writer.write_table(
                pa.Table.from_batches(self._held, schema=self._schema.remove_metadata()).cast(self._schema),
                row_group_size=self._rows,
            )
        self._writer.close()


def _fingerprint_of(store: Store, table: str, dt: date) -> str | None:
    path = table_path(table, dt)
    try:
        with store.open(path) as source, pq.ParquetFile(source) as file:
            schema = file.schema_arrow
    except Missing:
        return None
    except (pa.ArrowException, OSError):
        return None  # a damaged table file is made again
    metadata = schema.metadata or {}
    version = landing.version_of(metadata)
    if version is not None:
        landing.check_version(metadata, f"{store.uri}/{path}")
    # An older version may have published since a column was added.
    if version != int(tables.CONTRACT_VERSION) or not set(tables.SCHEMAS[table].names) <= set(schema.names):
        return None
    return str(metadata.get(FINGERPRINT_KEY, b"").decode("ascii", "replace"))
