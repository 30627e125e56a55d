"""Session ids across partitions, and those that a manifest asked for."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from liveness_etl.analysis.findings import EXAMPLES, Finding, finding
from liveness_etl.analysis.verify_rows import Forgotten
from liveness_etl.engine import open_engine

_BATCH_ROWS: Final = 65_536
_WANTED: Final = pa.schema([("session_id", pa.string()), ("dt", pa.date32())])


def write_wanted(chunks: Iterable[pa.RecordBatch], path: Path) -> None:
    """Keep the manifest's ids (columns session_id and dt) in their order. Raises what reading the manifest raises."""
    with pq.ParquetWriter(path, _WANTED, compression="zstd") as writer:
        for ids in chunks:
            writer.write_table(pa.Table.from_batches([ids]).select(_WANTED.names).cast(_WANTED))


def verify_ids(ids: Path, wanted: Path | None, scratch: Path, memory_limit: str, forgotten: Forgotten) -> list[Finding]:
    """The findings about ids that stand in two partitions, and about the `wanted` ones that stand in none.

    `ids` is a folder of Parquet files, one a partition, with session_id and dt.
    """
    with open_engine(scratch, memory_limit) as engine:
        engine.execute("CREATE TABLE ids (session_id UUID, dt DATE)")
        for file in sorted(ids.iterdir()):
            engine.execute("INSERT INTO ids SELECT try_cast(session_id AS UUID), dt FROM read_parquet(?)", [str(file)])
        findings = _in_two_partitions(engine)
        if wanted is not None:
            findings += _without_row(engine, wanted, forgotten)
    return findings


def _in_two_partitions(engine: duckdb.DuckDBPyConnection) -> list[Finding]:
    pairs = engine.execute(
        f"SELECT first, last, count(*), min(session_id, {EXAMPLES}) FROM ("
        "SELECT session_id, min(dt) AS first, max(dt) AS last FROM ids "
        "WHERE session_id IS NOT NULL GROUP BY session_id HAVING first <> last) GROUP BY first, last ORDER BY ALL"
    ).fetchall()
    return [
        finding(
            "id-in-two-partitions",
            f"sessions/dt={first}/, sessions/dt={last}/",
            count,
            [str(example) for example in examples],
            first=first,
            last=last,
        )
        for first, last, count, examples in pairs
    ]


def _without_row(engine: duckdb.DuckDBPyConnection, wanted: Path, forgotten: Forgotten) -> list[Finding]:
    """A repeated id counts by its first line, as it is asked."""
    rows = engine.execute(
        "SELECT dt, session_id::VARCHAR AS session_id, session_id IN (SELECT session_id FROM ids) AS elsewhere "
        "FROM (SELECT session_id::UUID AS session_id, arg_min(dt, file_row_number) AS dt "
        "FROM read_parquet($wanted, file_row_number = true) GROUP BY ALL) ANTI JOIN ids USING (session_id, dt)",
        {"wanted": str(wanted)},
    ).to_arrow_reader(_BATCH_ROWS)
    missing: Counter[date] = Counter()
    elsewhere: Counter[date] = Counter()
    examples: defaultdict[date, list[str]] = defaultdict(list)
    for batch in rows:
        excused = forgotten(batch.column("session_id").to_pylist())
        for dt, session_id, stands_elsewhere in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if session_id not in excused:
                missing[dt] += 1
                elsewhere[dt] += stands_elsewhere
                if len(examples[dt]) < EXAMPLES:
                    examples[dt].append(session_id)
    return [
        finding("manifest-id-missing", f"sessions/dt={dt}/", missing[dt], examples[dt], elsewhere=elsewhere[dt])
        for dt in sorted(missing)
    ]
