"""Which answer wins, what is final, and the winners' rows in each table. Pure: no file, no clock.

Input are landing rows (`tables.LANDING`). The rules stand in the contract's section 'One row per id'.
"""

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from liveness_etl.transform import tables

NOT_ASKED: Final = "NotAsked"
IMAGE_NOT_STORED: Final = "ImageNotStored"
FINISHED: Final = ("SUCCEEDED", "FAILED")
NO_SUCH_SESSION: Final = ("SessionNotFoundException", "InvalidParameterException")


def rank(status: str | None, error_code: str | None) -> int:
    """The rank of one row, -1 to 5: the highest one of an id wins."""
    if error_code == NOT_ASKED:
        return -1
    if status in FINISHED:
        return 4 if error_code == IMAGE_NOT_STORED else 5
    if status == "EXPIRED":
        return 3
    if status is not None:
        return 1
    return 2 if error_code in NO_SUCH_SESSION else 0


RANK_SQL: Final = f"""CASE
    WHEN error_code IS NOT DISTINCT FROM '{NOT_ASKED}' THEN -1
    WHEN status IN {FINISHED} THEN if(error_code IS NOT DISTINCT FROM '{IMAGE_NOT_STORED}', 4, 5)
    WHEN status = 'EXPIRED' THEN 3
    WHEN status IS NOT NULL THEN 1
    WHEN error_code IN {NO_SUCH_SESSION} THEN 2
    ELSE 0 END"""
"""`rank` as DuckDB SQL over landing columns (a test holds the two together)."""

WINNER_ORDER_SQL: Final = f"""{RANK_SQL} DESC,
    if(status IN {FINISHED}, len(images), NULL) DESC NULLS LAST,
    if(status IN {FINISHED}, len(list_filter(images, lambda image: image.image_uri IS NOT NULL)), NULL)
        DESC NULLS LAST,
    if(status IN {FINISHED}, epoch_ms(fetched_at), -epoch_ms(fetched_at)) ASC NULLS LAST,
    run_id ASC"""
"""Orders one id's rows, the winner first: rank; among finished ones most images, most referenced ones, the
earliest; among others the latest; then the run id and the row's content."""


def first_of_each(batch: pa.RecordBatch, last_id: str | None) -> pa.RecordBatch:
    """Of rows sorted by session_id, those whose id differs from the row before (`last_id` before the first)."""
    ids = batch.column("session_id")
    if not len(ids):
        return batch
    before = pa.concat_arrays([pa.array([last_id], ids.type), ids.slice(0, len(ids) - 1)])
    return batch.filter(pc.fill_null(pc.not_equal(ids, before), True))


def normalize_sessions(winners: pa.RecordBatch) -> pa.RecordBatch:
    """The `sessions` rows of winning landing rows, one each."""
    outcome = pc.coalesce(winners.column("status"), winners.column("error_code"))
    return _batch(
        tables.SESSIONS,
        {name: outcome if name == "outcome" else winners.column(name) for name in tables.SESSIONS.names},
    )


def normalize_challenges(winners: pa.RecordBatch) -> pa.RecordBatch:
    """The `challenges` rows of winning landing rows, at most one each."""
    having = winners.filter(pc.is_valid(winners.column("challenge")))
    challenge = having.column("challenge")
    return _batch(
        tables.CHALLENGES,
        {
            "session_id": having.column("session_id"),
            "type": pc.struct_field(challenge, "type"),
            "version": pc.struct_field(challenge, "version"),
        },
    )


def normalize_bounding_boxes(winners: pa.RecordBatch) -> pa.RecordBatch:
    """The `bounding_boxes` rows of winning landing rows: one per returned image, with or without a box."""
    session_id, _, image = _exploded(winners, "images")
    box = pc.struct_field(image, "box")
    return _batch(
        tables.BOUNDING_BOXES,
        {
            "session_id": session_id,
            **{
                name: pc.struct_field(box, name.removeprefix("box_"))
                if name.startswith("box_")
                else pc.struct_field(image, name)
                for name in tables.BOUNDING_BOXES.names[1:]
            },
        },
    )


def normalize_feedback(winners: pa.RecordBatch) -> pa.RecordBatch:
    """The `feedback` rows of winning landing rows, in the answer's order."""
    session_id, index, entry = _exploded(winners, "feedback")
    return _batch(
        tables.FEEDBACK,
        {
            "session_id": session_id,
            "feedback_index": index,
            "code": pc.struct_field(entry, "code"),
            "message": pc.struct_field(entry, "message"),
        },
    )


NORMALIZE: Final = {
    "challenges": normalize_challenges,
    "bounding_boxes": normalize_bounding_boxes,
    "feedback": normalize_feedback,
    "sessions": normalize_sessions,
}
"""Each table's function, in the order in which the tables are replaced."""


def _exploded(winners: pa.RecordBatch, name: str) -> tuple[pa.Array, pa.Array, pa.Array]:
    """A list column's (session_id, position in its list, element), one each per element."""
    lists = winners.column(name)
    parents = pc.list_parent_indices(lists)
    # An element's position is its distance from the first element with the same parent.
    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    starts = pc.subtract(pc.cumulative_sum(lengths), lengths)
    numbers = pa.arange(0, len(parents))
    index = pc.subtract(numbers, pc.take(starts, parents).cast(pa.int64()))
    return winners.column("session_id").take(parents), index, pc.list_flatten(lists)


def _batch(schema: pa.Schema, columns: dict[str, pa.Array]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([columns[field.name].cast(field.type) for field in schema], schema=schema)
