"""The ids of a manifest minus what landing already has, in the order of fetching, per source.

DuckDB holds the ids (16 bytes each, spilling beyond its limit), so that ten million fit into little memory; what
needs working memory, finding repeated ids and sorting, goes through them range by range. The result is one Parquet
file per source, which the sweep then streams: its memory is the window's.
"""

import contextlib
import math
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from liveness_etl.engine import sql_text
from liveness_etl.errors import ManifestError
from liveness_etl.extract.ceiling import Ceiling
from liveness_etl.extract.planned import ALIVE, EXPIRED, UNKNOWN
from liveness_etl.extract.prior import make_prior, take_prior

MOST_PARTITIONS: Final = 4_000
"""Days that one manifest may touch: more than Face Liveness will have had by 2033. Each costs a folder in every table
and a publish, so a hostile file must not make them at will."""

_RANGE_ROWS: Final = 131_072  # about so many ids are sorted or compared at a time,
_MOST_RANGES: Final = 64  # or more: each range is a scan, and the work must grow no faster than the ids
_GROUP_ROWS: Final = 16_384
_AFTER_ALL_LINES: Final = 10**15  # more than any line number or time in milliseconds, and exact as a double
_PLACE_SQL: Final = f"""CASE WHEN created_ms IS NULL THEN line WHEN created_ms > $oldest_ms
    THEN created_ms - {_AFTER_ALL_LINES} ELSE {_AFTER_ALL_LINES} - created_ms END"""
"""Orders a source's ids: live ones first, soonest to expire first; then those of unknown age in the manifest's
order; then the expired, youngest first."""


@dataclass(frozen=True)
class SourcePlan:
    """How many distinct ids one source has, how many of them are to be asked, and at most how fast."""

    source: str
    requested: int
    to_ask: int
    ceiling: Ceiling


@dataclass(frozen=True)
class Plan:
    """What a manifest comes to. `lines = requested + duplicates + rejected + forgotten`."""

    lines: int
    requested: int
    duplicates: int
    rejected: int
    forgotten: int
    sources: tuple[SourcePlan, ...]
    partitions: tuple[date, ...]

    @property
    def already_final(self) -> int:
        """Ids that are not asked again."""
        return self.requested - sum(source.to_ask for source in self.sources)


@dataclass(frozen=True)
class PlanOptions:
    """`regions` maps every source to its region, `ceiling_of` one that has ids to its ceiling. `now` is UTC;
    `ask_again` holds outcomes. Without `attributes` none are carried into the plan (they cost 32 bytes an id)."""

    regions: Mapping[str, str]
    ceiling_of: Callable[[str], Ceiling]
    now: datetime
    ttl_seconds: float
    ask_again: tuple[str, ...] = ()
    attributes: bool = True


def plan_manifest(
    engine: duckdb.DuckDBPyConnection,
    chunks: Iterable[tuple[pa.RecordBatch, int, int]],
    read_prior: Callable[[date, Sequence[str]], Iterable[pa.RecordBatch]],
    folder: Path,
    options: PlanOptions,
    forgotten: Sequence[str] = (),
    planned: Sequence[pa.ChunkedArray] = (),
) -> Plan:
    """Plan the chunks of a manifest, each (ids, lines, rejected), and write `folder/<source>` for each source.

    `read_prior(dt, columns)` gives those columns of a partition's landing rows. `forgotten` are the SHA-256 of erased
    ids, in hexadecimal: every line with one of them counts as forgotten, none as a duplicate. `planned` are the ids
    that the run has from earlier plans: a line with one of them is a duplicate.
    Raises ManifestError for a manifest that touches too many partitions.
    """
    lines, rejected = _take_lines(engine, chunks, options)
    erased = _drop_forgotten(engine, forgotten) if forgotten else 0
    duplicates = _drop_planned(engine, planned) + _drop_repeated(engine, lines)
    partitions = tuple(row[0] for row in engine.execute("SELECT DISTINCT dt FROM lines ORDER BY dt").fetchall())
    if len(partitions) > MOST_PARTITIONS:
        raise ManifestError(
            f"The manifest touches {len(partitions):,} days, and a run takes {MOST_PARTITIONS:,}:"
            " check its created_at, or split it."
        )
    make_prior(engine)
    for dt in partitions:
        take_prior(
            engine,
            dt,
            read_prior,
            regions=options.regions,
            ttl_seconds=options.ttl_seconds,
            ask_again=options.ask_again,
        )
    sources = tuple(
        _write_source(engine, source, requested, folder / source, options)
        for source, requested in engine.execute(
            "SELECT source, count(*) FROM lines GROUP BY source ORDER BY source"
        ).fetchall()
    )
    return Plan(
        lines=lines,
        requested=sum(source.requested for source in sources),
        duplicates=duplicates,
        rejected=rejected,
        forgotten=erased,
        sources=sources,
        partitions=partitions,
    )


def planned_ids(engine: duckdb.DuckDBPyConnection) -> pa.ChunkedArray:
    """The distinct ids of the plan that was just made with this engine, final ones included."""
    return engine.execute("SELECT session_id::VARCHAR FROM lines").to_arrow_table().column(0)


def unfinished_files(engine: duckdb.DuckDBPyConnection, ends: Sequence[int]) -> set[int]:
    """Which files of the plan that was just made with this engine have an id that is not known to be final.

    `ends` counts, for each file, the lines up to its end.
    """
    if not ends:
        return set()
    engine.register("files", pa.table({"number": range(len(ends)), "first": [0, *ends[:-1]], "beyond": ends}))
    found = engine.execute(
        """
        SELECT DISTINCT number FROM files JOIN (
            SELECT line FROM lines LEFT JOIN prior USING (session_id) WHERE NOT coalesce(final, false)
            UNION ALL SELECT line FROM planned_lines
        ) ON line >= first AND line < beyond
        """
    ).fetchall()
    engine.unregister("files")
    return {row[0] for row in found}


def _take_lines(
    engine: duckdb.DuckDBPyConnection, chunks: Iterable[tuple[pa.RecordBatch, int, int]], options: PlanOptions
) -> tuple[int, int]:
    names = ", ".join(map(sql_text, options.regions))
    engine.execute(f"CREATE TYPE source AS ENUM ({names})")  # a byte or two an id
    engine.execute("CREATE TABLE lines (session_id UUID, created_ms BIGINT, source source, dt DATE, line BIGINT)")
    if options.attributes:
        engine.execute("ALTER TABLE lines ADD COLUMN attributes MAP(VARCHAR, VARCHAR)")
    attributes = ", attributes" if options.attributes else ""
    lines = rejected = 0
    for ids, read, refused in chunks:
        if len(ids):
            order = pa.arange(lines, lines + len(ids))
            engine.register("chunk", pa.Table.from_batches([ids]).append_column("line", order))
            engine.execute(
                f"INSERT INTO lines SELECT session_id::UUID, epoch_ms(created_at), source, dt, line{attributes} "
                "FROM chunk"
            )
            engine.unregister("chunk")
        lines += read
        rejected += refused
    return lines, rejected


def _drop_forgotten(engine: duckdb.DuckDBPyConnection, forgotten: Sequence[str]) -> int:
    """Drop the lines whose id was erased; returns how many they were."""
    engine.register("forgotten", pa.table({"digest": pa.array(forgotten, pa.string())}))
    dropped = engine.execute("DELETE FROM lines USING forgotten WHERE sha256(session_id::VARCHAR) = digest").fetchone()
    engine.unregister("forgotten")
    return int(dropped[0]) if dropped else 0


def _drop_planned(engine: duckdb.DuckDBPyConnection, planned: Sequence[pa.ChunkedArray]) -> int:
    """Drop the lines whose id an earlier plan has; returns how many they were."""
    engine.execute("CREATE TABLE planned_lines (line BIGINT)")
    for ids in planned:
        engine.register("planned", pa.table({"session_id": ids}))
        engine.execute(
            "INSERT INTO planned_lines SELECT line FROM lines SEMI JOIN (SELECT session_id::UUID AS id FROM planned) "
            "ON lines.session_id = id"
        )
        engine.unregister("planned")
    dropped = engine.execute("DELETE FROM lines USING planned_lines WHERE lines.line = planned_lines.line").fetchone()
    return int(dropped[0]) if dropped else 0


def _drop_repeated(engine: duckdb.DuckDBPyConnection, lines: int) -> int:
    """Keep the first line of each id; returns how many went."""
    engine.execute("CREATE TABLE repeated (session_id UUID, first_line BIGINT)")
    ranges = _ranges(lines)
    for number in range(ranges):
        low, high = (uuid.UUID(int=(edge << 128) // ranges - (edge == ranges)) for edge in (number, number + 1))
        engine.execute(
            "INSERT INTO repeated SELECT session_id, min(line) FROM lines "
            f"WHERE session_id >= $low AND session_id <{'=' * (number + 1 == ranges)} $high "
            "GROUP BY session_id HAVING count(*) > 1",
            {"low": low, "high": high},
        )
    dropped = engine.execute(
        "DELETE FROM lines USING repeated WHERE lines.session_id = repeated.session_id AND line <> first_line"
    ).fetchone()
    engine.execute("DROP TABLE repeated")
    return int(dropped[0]) if dropped else 0


def _write_source(
    engine: duckdb.DuckDBPyConnection, source: str, requested: int, path: Path, options: PlanOptions
) -> SourcePlan:
    values = {"source": source, "oldest_ms": int((options.now.timestamp() - options.ttl_seconds) * 1000)}
    to_ask = 0
    with contextlib.ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        for low, high in pairwise(_edges(engine, requested, values)):
            reader = engine.execute(
                f"""
                SELECT
                    CASE WHEN created_ms IS NULL THEN {UNKNOWN} WHEN created_ms > $oldest_ms THEN {ALIVE}
                        ELSE {EXPIRED} END AS turn,
                    session_id::VARCHAR AS session_id, dt, created_ms,
                    {"attributes" if options.attributes else "NULL::MAP(VARCHAR, VARCHAR)"} AS attributes,
                    best_rank, first_read
                FROM lines LEFT JOIN prior USING (session_id)
                WHERE source = $source AND NOT coalesce(final, false) AND {_PLACE_SQL} BETWEEN $low AND $high - 1
                ORDER BY {_PLACE_SQL}, line
                """,
                values | {"low": low, "high": high},
            ).to_arrow_reader(_GROUP_ROWS)
            if writer is None:
                writer = stack.enter_context(pq.ParquetWriter(path, reader.schema, compression="zstd"))
            for batch in reader:
                to_ask += len(batch)
                writer.write_batch(batch, row_group_size=_GROUP_ROWS)
    return SourcePlan(source, requested, to_ask, options.ceiling_of(source))


def _ranges(rows: int) -> int:
    return min(math.ceil(rows / _RANGE_ROWS), _MOST_RANGES)


def _edges(engine: duckdb.DuckDBPyConnection, requested: int, values: Mapping[str, object]) -> list[int]:
    """Where to cut a source's ids by their place into ranges of about _RANGE_ROWS: the first edge to the last."""
    ranges = _ranges(requested)
    cuts: list[int] = []
    if ranges > 1:
        shares = [number / ranges for number in range(1, ranges)]
        found = f"SELECT approx_quantile({_PLACE_SQL}, {shares}::FLOAT[]) FROM lines WHERE source = $source"
        cuts = engine.execute(found, values).fetchall()[0][0]
    return sorted({-2 * _AFTER_ALL_LINES, *cuts, 2 * _AFTER_ALL_LINES})
