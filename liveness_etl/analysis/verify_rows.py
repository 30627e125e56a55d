"""Where a table's rows differ from what they should be, found by DuckDB within its memory limit."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liveness_etl.analysis.findings import EXAMPLES, Finding, finding
from liveness_etl.engine import sql_text
from liveness_etl.load.publish import table_path
from liveness_etl.transform.tables import SCHEMAS

Engine = duckdb.DuckDBPyConnection

Forgotten = Callable[[Iterable[str]], set[str]]
"""Those of some session ids that were erased, and so may be missing."""

KEYS: Final = {
    "sessions": ("session_id",),
    "challenges": ("session_id",),
    "bounding_boxes": ("session_id", "image_type", "image_index"),
    "feedback": ("session_id", "feedback_index"),
}
"""What is unique in a partition, by table."""

_BATCH_ROWS: Final = 65_536


@dataclass(frozen=True)
class TableFile:
    """A table file whose header is sound. `fingerprint` is None where it says nothing of its landing."""

    table: str
    path: Path
    columns: tuple[str, ...]
    has_schema: bool
    fingerprint: str | None
    rows: int

    def location(self, dt: date) -> str:
        """Its path below the output."""
        return table_path(self.table, dt)

    @property
    def is_comparable(self) -> bool:
        """Whether it has the table's columns, whatever their types."""
        return set(SCHEMAS[self.table].names) <= set(self.columns)


def parquet_sql(*paths: Path) -> str:
    """These files as a table of DuckDB's."""
    listed = ", ".join(sql_text(str(path)) for path in paths)
    return f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"


def compare(engine: Engine, dt: date, file: TableFile, expected: Path, sessions: TableFile | None) -> list[Finding]:
    """The findings of a table that is not what publish makes of landing (`expected`).

    Contents are compared where the schema is right, keys in any case.
    """
    keys = ", ".join(KEYS[file.table])
    content = f"hash({', '.join(_quoted(file.columns))})" if file.has_schema else "0"
    rows = (
        f"SELECT {', '.join(f'{key}::VARCHAR AS {key}' for key in KEYS[file.table])}, count(*) AS many, "
        f"bit_xor({content}) AS content FROM {{source}} GROUP BY ALL"
    )
    engine.execute(
        f"CREATE OR REPLACE TABLE differing AS "
        f"SELECT session_id, is_.many AS found, ought.many AS expected "
        f"FROM ({rows.format(source=parquet_sql(file.path))}) AS is_ "
        f"FULL JOIN ({rows.format(source=parquet_sql(expected))}) AS ought USING ({keys}) "
        f"WHERE is_.many IS DISTINCT FROM ought.many OR is_.content IS DISTINCT FROM ought.content"
    )
    orphan = "false"
    if file.table != "sessions" and sessions is not None and sessions.is_comparable:
        orphan = f"session_id NOT IN (SELECT session_id FROM {parquet_sql(sessions.path)} WHERE session_id IS NOT NULL)"
    kinds = {
        "row-missing": ("found IS NULL OR found < expected", "expected - coalesce(found, 0)"),
        "row-orphan": (f"expected IS NULL AND {orphan}", "found"),
        "row-surplus": (f"expected IS NULL AND NOT ({orphan})", "1"),
        "row-doubled": ("found > coalesce(expected, 1)", "found - coalesce(expected, 1)"),
        "row-altered": ("found = expected", "found"),
    }
    findings = []
    for check, (condition, count) in kinds.items():
        findings += _counted(
            engine, check, dt, file, f"SELECT session_id, {count} AS n FROM differing WHERE {condition}"
        )
    return findings or _unsorted(dt, file)


def verify_alone(engine: Engine, dt: date, file: TableFile, sessions: TableFile | None) -> list[Finding]:
    """What a table must fulfil whatever landing says; with `sessions` of the same landing, its children too."""
    keys = ", ".join(KEYS[file.table])
    findings = _counted(
        engine,
        "row-doubled",
        dt,
        file,
        f"SELECT session_id, count(*) - 1 AS n FROM {parquet_sql(file.path)} GROUP BY {keys} HAVING n > 0",
    )
    if sessions is not None and file.table != "sessions":
        findings += _counted(
            engine,
            "row-orphan",
            dt,
            file,
            f"SELECT session_id, 1 AS n FROM {parquet_sql(file.path)} "
            f"ANTI JOIN {parquet_sql(sessions.path)} AS sessions USING (session_id)",
        )
    return findings or _unsorted(dt, file)


def lost(engine: Engine, dt: date, sessions: TableFile, parts: Sequence[Path], forgotten: Forgotten) -> Finding | None:
    """Published answers that no landing part holds, of sessions that were not forgotten."""
    absent = f"SELECT session_id FROM {parquet_sql(sessions.path)} AS sessions"
    if parts:
        absent += (
            f" ANTI JOIN {parquet_sql(*parts)} AS landed ON sessions.session_id = landed.session_id "
            "AND sessions.run_id = landed.run_id AND sessions.fetched_at IS NOT DISTINCT FROM landed.fetched_at "
            "AND sessions.outcome = coalesce(landed.status, landed.error_code)"
        )
    count = 0
    examples: list[str] = []
    for batch in engine.execute(absent).to_arrow_reader(_BATCH_ROWS):
        session_ids = batch.column("session_id").to_pylist()
        session_ids = sorted(set(session_ids) - forgotten(session_ids))
        count += len(session_ids)
        examples = sorted([*examples, *session_ids[:EXAMPLES]])[:EXAMPLES]
    if not count:
        return None
    return finding("landing-lost", sessions.location(dt), count, examples, dt=dt)


def _counted(engine: Engine, check: str, dt: date, file: TableFile, rows: str) -> list[Finding]:
    """A finding for rows (session_id, n), if there are any."""
    count, examples = engine.execute(
        f"SELECT coalesce(sum(n), 0)::BIGINT, min(session_id, {EXAMPLES}) FROM ({rows})"
    ).fetchall()[0]
    return [finding(check, file.location(dt), count, examples or (), dt=dt)] if count else []


def _unsorted(dt: date, file: TableFile) -> list[Finding]:
    index = next((key for key in KEYS[file.table] if key.endswith("_index")), None)
    count, last = 0, None
    with pq.ParquetFile(file.path, pre_buffer=False) as parquet:
        for batch in parquet.iter_batches(_BATCH_ROWS, columns=["session_id", *([index] if index else [])]):
            here = pa.Table.from_batches([batch])
            rows = here if last is None else pa.concat_tables([last, here])
            before, after = rows.slice(0, len(rows) - 1), rows.slice(1)
            wrong = pc.greater(before["session_id"], after["session_id"])
            if index:
                same = pc.equal(before["session_id"], after["session_id"])
                wrong = pc.or_(wrong, pc.and_(same, pc.greater(before[index], after[index])))
            count += pc.sum(wrong).as_py() or 0
            last = here.slice(len(here) - 1)
    return [finding("row-order", file.location(dt), count, dt=dt)] if count else []


def _quoted(names: Iterable[str]) -> list[str]:
    return ['"' + name.replace('"', '""') + '"' for name in names]
