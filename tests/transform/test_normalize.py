"""Ranks, the first row of each id, and one landing row as rows of four tables."""

import itertools
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liveness_etl.transform import tables
from liveness_etl.transform.normalize import NORMALIZE, RANK_SQL, first_of_each, rank
from tests.landing_rows import MORNING, image, row, session_id

STATUSES = [None, "CREATED", "IN_PROGRESS", "SUCCEEDED", "FAILED", "EXPIRED", "PAUSED", ""]
ERROR_CODES = [
    None,
    "NotAsked",
    "ImageNotStored",
    "SessionNotFoundException",
    "InvalidParameterException",
    "ThrottlingException",
    "UnreadableAnswer",
    "",
]


def batch(*rows: dict[str, Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), schema=tables.LANDING)


@pytest.mark.parametrize(
    ("status", "error_code", "expected"),
    [
        ("SUCCEEDED", None, 5),
        ("FAILED", None, 5),
        ("SUCCEEDED", "ImageNotStored", 4),
        ("FAILED", "ImageNotStored", 4),
        ("EXPIRED", None, 3),
        (None, "SessionNotFoundException", 2),
        (None, "InvalidParameterException", 2),
        ("CREATED", None, 1),
        ("IN_PROGRESS", None, 1),
        ("PAUSED", None, 1),
        (None, "ThrottlingException", 0),
        (None, "AccessDeniedException", 0),
        (None, "UnreadableAnswer", 0),
        (None, "NotAsked", -1),
    ],
)
def test_rank_is_that_of_the_contract(status: str | None, error_code: str | None, expected: int) -> None:
    """The contract's table, line by line."""
    assert rank(status, error_code) == expected


def test_both_spellings_of_the_rank_agree() -> None:
    """Python and SQL give the same rank for every status with every error code."""
    pairs = list(itertools.product(STATUSES, ERROR_CODES))
    rows = pa.table(
        {"status": [status for status, _ in pairs], "error_code": [code for _, code in pairs]},
        schema=pa.schema([("status", pa.string()), ("error_code", pa.string())]),
    )
    with duckdb.connect() as connection:
        connection.register("rows", rows)
        found = connection.execute(f"SELECT status, error_code, {RANK_SQL} FROM rows").fetchall()
    assert len(found) == len(pairs)
    assert [(status, code, rank(status, code)) for status, code, _ in found] == found


@given(st.lists(st.integers(0, 4)).map(sorted), st.lists(st.integers(0, 30), max_size=4).map(sorted))
def test_first_row_of_each_id_is_found_wherever_batches_end(numbers: list[int], cuts: list[int]) -> None:
    """Sorted rows in any batches, empty ones too, give every id once, with its first row."""
    rows = [row(number, attempts=position) for position, number in enumerate(numbers)]
    found: list[tuple[str, int]] = []
    last_id = None
    whole = batch(*rows)
    for start, end in itertools.pairwise([0, *cuts, len(rows)]):
        part = whole.slice(start, max(end - start, 0))
        firsts = first_of_each(part, last_id)
        found += zip(firsts["session_id"].to_pylist(), firsts["attempts"].to_pylist(), strict=True)
        last_id = part["session_id"][-1].as_py() if len(part) else last_id
    assert found == [(session_id(number), numbers.index(number)) for number in sorted(set(numbers))]


def test_sessions_row_tells_the_outcome() -> None:
    """The outcome is the status where an answer came, ImageNotStored or not, else the error code."""
    rows = NORMALIZE["sessions"](
        batch(
            row(0, confidence=0.0, created_at=MORNING, attributes=[("team", "a")]),
            row(1, error_code="ImageNotStored"),
            row(2, None, error_code="NotAsked", attempts=0, fetched_at=None),
        )
    ).to_pylist()
    assert [found["outcome"] for found in rows] == ["SUCCEEDED", "SUCCEEDED", "NotAsked"]
    assert rows[0] == {
        "session_id": session_id(0),
        "source": "default",
        "region": "us-east-1",
        "outcome": "SUCCEEDED",
        "status": "SUCCEEDED",
        "confidence": 0.0,
        "sdk_type": None,
        "created_at": MORNING,
        "fetched_at": MORNING,
        "attempts": 1,
        "error_code": None,
        "error_message": None,
        "attributes": [("team", "a")],
        "run_id": "run-1",
    }
    assert rows[2]["fetched_at"] is None


def test_challenge_row_exists_where_the_answer_had_one() -> None:
    """No row for an absent challenge; an empty one is a row of NULLs."""
    rows = NORMALIZE["challenges"](
        batch(row(0), row(1, challenge={"type": "T", "version": "2.0.0"}), row(2, challenge={}))
    ).to_pylist()
    assert rows == [
        {"session_id": session_id(1), "type": "T", "version": "2.0.0"},
        {"session_id": session_id(2), "type": None, "version": None},
    ]


def test_bounding_box_row_exists_for_every_image() -> None:
    """One row an image in the answer's order, with NULLs where it had no box, and none for a row without images."""
    box = {"left": -0.5, "top": 1.25, "width": 0.5, "height": None}
    stored = {"image_uri": "file:///a.jpg", "image_sha256": "ab", "image_size_bytes": 3}
    s3_object = {"s3_bucket": "b", "s3_name": "n", "s3_version": "v", "image_uri": "s3://b/n"}
    rows = NORMALIZE["bounding_boxes"](
        batch(
            row(0, images=[]),
            row(1, images=[image(0, "reference", box=box, **s3_object), image(0), image(1, **stored)]),
            row(2, images=None),
            row(3, images=[image(0, "reference", box={})]),
        )
    ).to_pylist()
    assert [(found["session_id"], found["image_type"], found["image_index"]) for found in rows] == [
        (session_id(1), "reference", 0),
        (session_id(1), "audit", 0),
        (session_id(1), "audit", 1),
        (session_id(3), "reference", 0),
    ]
    plain = dict.fromkeys(tables.BOUNDING_BOXES.names[3:])
    assert [{name: found[name] for name in plain} for found in rows] == [
        plain | {"box_left": -0.5, "box_top": 1.25, "box_width": 0.5} | s3_object,
        plain,
        plain | stored,
        plain,
    ]


def test_feedback_keeps_the_answers_order() -> None:
    """The index counts from 0 in each session, whatever stands before it."""
    rows = NORMALIZE["feedback"](
        batch(
            row(0, feedback=[{"code": "Z", "message": "1"}, {"code": "A", "message": None}, {}]),
            row(1, feedback=None),
            row(2, feedback=[]),
            row(3, feedback=[{"code": "B", "message": "2"}]),
        )
    ).to_pylist()
    assert [tuple(found.values()) for found in rows] == [
        (session_id(0), 0, "Z", "1"),
        (session_id(0), 1, "A", None),
        (session_id(0), 2, None, None),
        (session_id(3), 0, "B", "2"),
    ]


LISTS = st.none() | st.lists(st.sampled_from("abc"), max_size=3)


@given(st.lists(LISTS, max_size=8), st.integers(0, 8), st.integers(0, 8))
def test_a_slice_of_a_batch_is_normalized_like_a_batch_of_its_own(
    lists: list[list[str] | None], start: int, length: int
) -> None:
    """Rows out of the middle of a larger batch bring nothing of their neighbours along."""
    rows = [
        row(
            number,
            feedback=codes and [{"code": code, "message": None} for code in codes],
            images=codes and [image(index, s3_name=code) for index, code in enumerate(codes)],
            challenge=None if codes is None else {"type": "".join(codes)},
        )
        for number, codes in enumerate(lists)
    ]
    for table, normalize in NORMALIZE.items():
        part = batch(*rows).slice(start, length)
        assert normalize(part).to_pylist() == normalize(batch(*rows[start : start + length])).to_pylist(), table
        assert normalize(part).schema == tables.SCHEMAS[table]


@pytest.mark.parametrize("table", NORMALIZE)
def test_no_rows_make_no_rows(table: str) -> None:
    """An empty batch gives an empty batch of the table's schema."""
    found = NORMALIZE[table](batch())
    assert len(found) == 0
    assert found.schema == tables.SCHEMAS[table]
