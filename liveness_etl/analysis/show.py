"""One session as the output holds it: its rows in the tables, and every row that landing has of it."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import duckdb
import pyarrow.compute as pc

from liveness_etl.analysis.query import connect, translated
from liveness_etl.errors import Missing
from liveness_etl.load import landing, publish
from liveness_etl.load.tombstones import read_tombstones
from liveness_etl.storage import Entry, Store, open_store
from liveness_etl.transform.tables import LANDING, TABLES

Row = Mapping[str, Any]

_TRIES: Final = 10
_PARTS_AT_ONCE: Final = 8


@dataclass(frozen=True)
class Shown:
    """What one partition has of a session: rows by table (`sessions` none before the publish), and landing rows in
    the order of their runs."""

    dt: date
    tables: Mapping[str, Sequence[Row]]
    landing: Sequence[Row]


@dataclass(frozen=True)
class Found:
    """All partitions that have the session, oldest first; `forgotten` where none has and it was erased."""

    partitions: Sequence[Shown]
    forgotten: bool = False


def find_session(output: str, session_id: str, **s3_options: Any) -> Found:
    """Look a session up without its date. Raises StoreError, and UsageError as `connect` does.

    The tables say in which partitions it is. Where none has it, landing is looked through as far as it is not
    published yet; `session_id` is in lower case.
    """
    store = open_store(output, **s3_options)
    with translated(), connect(output, **s3_options) as connection:
        days = _select(connection, "SELECT DISTINCT dt FROM sessions WHERE session_id = $id ORDER BY dt", id=session_id)
        partitions = [_shown(store, connection, row["dt"], session_id) for row in days]
    if partitions:
        return Found(partitions)
    if read_tombstones(store).among({session_id}):
        return Found([], forgotten=True)
    return Found(_landed_only(store, session_id))


def _shown(store: Store, connection: duckdb.DuckDBPyConnection, dt: date, session_id: str) -> Shown:
    rows = {
        table: _select(connection, f"FROM {table} WHERE dt = $dt AND session_id = $id", dt=dt, id=session_id)
        for table in TABLES
    }
    return Shown(dt, rows, _landing_rows(store, dt, session_id))


def _select(connection: duckdb.DuckDBPyConnection, sql: str, **values: object) -> list[Row]:
    result = connection.execute(sql, values)
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _landed_only(store: Store, session_id: str) -> list[Shown]:
    found = []
    for dt in landing.list_partitions(store):
        # Every landed id of a partition whose tables are current is in them.
        if publish.is_current(store, dt, landing.read_landed(store, dt).fingerprint):
            continue
        if rows := _landing_rows(store, dt, session_id):
            found.append(Shown(dt, dict.fromkeys(TABLES, ()), rows))
    return found


def _landing_rows(store: Store, dt: date, session_id: str) -> list[Row]:
    for again in range(_TRIES):
        try:
            parts = landing.read_landed(store, dt).parts
            with ThreadPoolExecutor(_PARTS_AT_ONCE) as pool:
                found = pool.map(lambda part: _rows_of(store, part, session_id), parts)
                rows = [row for rows in found for row in rows]
            break
        except Missing:  # a fold took it meanwhile
            if again == _TRIES - 1:
                raise
    return sorted(rows, key=lambda row: (row["run_id"], str(row["fetched_at"] or "")))


def _rows_of(store: Store, part: Entry, session_id: str) -> list[Row]:
    """A part's rows of the session: of every row group the ids are read, the rest only where it is among them."""
    rows: list[Row] = []
    with landing.opened(store, part) as file:
        for group in range(file.num_row_groups):
            ids = file.read_row_group(group, columns=["session_id"], use_threads=False)["session_id"]
            if pc.index(ids, session_id).as_py() >= 0:
                whole = file.read_row_group(group, use_threads=False)
                for batch in whole.filter(pc.equal(whole["session_id"], session_id)).to_batches():
                    rows += landing.conformed(batch, LANDING).to_pylist(maps_as_pydicts="lossy")
    return rows
