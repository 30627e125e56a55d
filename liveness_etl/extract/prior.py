"""What landing already has of a manifest's ids, and which of them are final."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from liveness_etl.transform.normalize import RANK_SQL, WINNER_ORDER_SQL
from liveness_etl.transform.tables import LANDING

PRIOR_COLUMNS: Final = ("session_id", "source", "region", "status", "error_code", "created_at", "fetched_at")
"""The landing columns that the already-final check needs."""

WINNER_COLUMNS: Final = ("images", "run_id")
"""Those that it needs besides, to know the outcome of an id's winning row (--ask-again)."""

_FEW_IDS: Final = 10_000
_COPIED_ROWS: Final = 262_144
_DAY_MS: Final = 86_400_000


def make_prior(engine: duckdb.DuckDBPyConnection) -> None:
    """The table that `take_prior` fills: of each id that landing has, whether it is final, its best rank, and when it
    was first read (milliseconds since 1970)."""
    engine.execute("CREATE TABLE prior (session_id UUID, final BOOLEAN, best_rank TINYINT, first_read BIGINT)")


def take_prior(
    engine: duckdb.DuckDBPyConnection,
    dt: date,
    read_prior: Callable[[date, Sequence[str]], Iterable[pa.RecordBatch]],
    *,
    regions: Mapping[str, str],
    ttl_seconds: float,
    ask_again: Sequence[str],
) -> None:
    """What landing says of this partition's ids (table `lines`), by the contract's rules of finality.

    `read_prior(dt, columns)` gives those columns of the partition's landing rows. `regions` maps every source to its
    region; ids whose winning row has an outcome in `ask_again` are not final.
    """
    columns = PRIOR_COLUMNS + (WINNER_COLUMNS if ask_again else ())
    if not _copy_landed(engine, dt, read_prior(dt, columns), columns):
        return
    engine.register("region", pa.table({"source": list(regions), "region": list(regions.values())}))
    asked_again = (
        f"list_contains($ask_again, first(coalesce(status, error_code) ORDER BY {WINNER_ORDER_SQL}))"
        if ask_again
        else "false"
    )
    engine.execute(
        f"""
        INSERT INTO prior
        WITH joined AS (
            SELECT lines.session_id AS id, landed.*, {RANK_SQL} AS rank,
                landed.source = lines.source AND landed.region = region.region AS same,
                epoch_ms(landed.fetched_at) AS read_ms,
                coalesce(lines.created_ms, epoch_ms(landed.created_at)) AS born_ms
            FROM landed
            JOIN lines ON lines.session_id = try_cast(landed.session_id AS UUID) AND lines.dt = $dt
            LEFT JOIN region ON region.source = lines.source
        )
        SELECT id,
            NOT {asked_again} AND coalesce(
                bool_or(rank = 5)
                OR bool_or(rank = 3 AND same)
                OR bool_or(rank = 2 AND same AND coalesce(read_ms > born_ms + $ttl_ms, true))
                OR max(read_ms) FILTER (rank IN (2, 3)) > min(read_ms) FILTER (rank IN (1, 4))
                OR bool_or(rank IN (1, 4) AND read_ms > born_ms + 2 * $ttl_ms)
                OR max(read_ms) FILTER (rank IN (1, 4) AND born_ms IS NULL)
                    >= min(read_ms) FILTER (rank >= 1) + {_DAY_MS},
                false),
            max(rank),
            min(read_ms) FILTER (rank >= 1)
        FROM joined GROUP BY id
        """,
        {"dt": dt, "ttl_ms": int(ttl_seconds * 1000)} | ({"ask_again": list(ask_again)} if ask_again else {}),
    )
    engine.execute("DROP TABLE landed")


def _copy_landed(
    engine: duckdb.DuckDBPyConnection, dt: date, batches: Iterable[pa.RecordBatch], columns: Sequence[str]
) -> int:
    """Copy a partition's landing rows into the table `landed`; returns how many.

    In pieces, since a stream that DuckDB reads itself keeps all of its Arrow memory until the query ends. Where the
    manifest has few ids for the partition, only their rows.
    """
    schema = pa.schema([LANDING.field(name) for name in columns])
    engine.register("chunk", schema.empty_table())
    engine.execute("CREATE OR REPLACE TABLE landed AS FROM chunk")
    few = engine.execute(
        "SELECT session_id::VARCHAR FROM lines WHERE dt = $dt LIMIT $most", {"dt": dt, "most": _FEW_IDS + 1}
    ).fetchall()
    wanted = pa.array([row[0] for row in few]) if len(few) <= _FEW_IDS else None
    held: list[pa.RecordBatch] = []
    copied = 0

    def copy() -> None:
        engine.register("chunk", pa.Table.from_batches(held, schema=schema.remove_metadata()))
        engine.execute("INSERT INTO landed FROM chunk")
        held.clear()

    for batch in batches:
        if wanted is not None:
            batch = batch.filter(pc.is_in(batch.column("session_id"), wanted))
        copied += len(batch)
        held.append(batch)
        if sum(map(len, held)) >= _COPIED_ROWS:
            copy()
    copy()
    engine.unregister("chunk")
    return copied
