"""The ids of one source out of its plan file (`plan` writes it), each at its turn, in little memory."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liveness_etl.extract.ask import Ask

ALIVE, UNKNOWN, EXPIRED = 0, 1, 2
"""The groups of a plan, its column `turn`, in the order of their turns."""

_BATCH_ROWS: Final = 4_096


def read_asks(
    file: pa.NativeFile,
    *,
    part: int = 0,
    parts: int = 1,
    ttl_seconds: float = math.inf,
    clock: Callable[[], float] = time.time,
) -> Iterator[Ask]:
    """The ids of one source's plan file in the order of fetching; of every `parts` ids the one at `part`.

    The order holds at each id's turn (`clock`, epoch seconds): an id that was alive when the plan was made and has
    outlived `ttl_seconds` since waits until all that may be alive have had their turn; then the youngest is first.
    """
    with file, pq.ParquetFile(file) as plan:
        put_off: list[tuple[int, int]] = []  # ranges of rows, first to last; they grow older towards the front
        first = 0
        for batch in plan.iter_batches(_BATCH_ROWS):
            for row, (group, ask) in enumerate(_asks(batch), first):
                if row % parts != part:
                    continue
                if group == ALIVE and ask.expired(clock(), ttl_seconds):
                    follows = put_off and put_off[-1][1] == row - parts
                    put_off[-1:] = [(put_off[-1][0], row)] if follows else [*put_off[-1:], (row, row)]
                    continue
                if group == EXPIRED and put_off:
                    yield from _backwards(plan, put_off, part, parts)
                    put_off = []
                yield ask
            first += len(batch)
        yield from _backwards(plan, put_off, part, parts)


def expired_by_their_turn(file: pa.NativeFile, *, tps: float, ttl_seconds: float, now: float) -> int:
    """How many ids of a plan file will have outlived `ttl_seconds` when they are asked, at `tps` from `now` on."""
    with file, pq.ParquetFile(file) as plan:
        asked = expired = 0
        for batch in plan.iter_batches(columns=["turn", "created_ms"]):
            expired += pc.sum(pc.equal(batch.column("turn"), EXPIRED)).as_py() or 0
            alive = batch.filter(pc.equal(batch.column("turn"), ALIVE))
            for created_ms in alive.column("created_ms").to_pylist():
                in_time = created_ms / 1000 + ttl_seconds >= now + asked / tps
                asked += in_time
                expired += not in_time
    return expired


def _backwards(plan: pq.ParquetFile, ranges: Sequence[tuple[int, int]], part: int, parts: int) -> Iterator[Ask]:
    end = plan.metadata.num_rows
    for group in reversed(range(plan.num_row_groups)):
        start = end - plan.metadata.row_group(group).num_rows
        wanted = [
            row for low, high in ranges for row in range(max(low, start), min(high + 1, end)) if row % parts == part
        ]
        if wanted:
            asks = [ask for _, ask in _asks(plan.read_row_group(group))]
            yield from (asks[row - start] for row in reversed(wanted))
        end = start


def _asks(rows: pa.RecordBatch | pa.Table) -> Iterator[tuple[int, Ask]]:
    """The rows of a plan file, each with the group it belongs to."""
    columns = (rows.column(name).to_pylist() for name in rows.schema.names)
    for group, session_id, dt, created_ms, attributes, prior_rank, first_ms in zip(*columns, strict=True):
        yield (
            group,
            Ask(
                session_id,
                dt,
                None if created_ms is None else created_ms / 1000,
                None if attributes is None else tuple(attributes),
                prior_rank,
                None if first_ms is None else first_ms / 1000,
            ),
        )
