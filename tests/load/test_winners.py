"""One row per id: the published winner against the contract's words, written out naively."""

import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liveness_etl.load import publish
from liveness_etl.storage_folder import LocalStore
from liveness_etl.transform import tables
from tests.landing_rows import DT, MORNING, image, land, row, session_id, sessions, table
from tests.stored import read

Row = dict[str, Any]

LOST, KEPT, DISCARDED = {"image_sha256": "0" * 64}, {"image_uri": "s3://b/n"}, {"image_sha256": "f" * 64}


def contract_rank(row: Row) -> int:
    """The table of ranks, from the contract."""
    status, code = row["status"], row["error_code"]
    if status in ("SUCCEEDED", "FAILED"):
        return 4 if code == "ImageNotStored" else 5
    if status is not None:
        return 3 if status == "EXPIRED" else 1
    if code in ("SessionNotFoundException", "InvalidParameterException"):
        return 2
    return -1 if code == "NotAsked" else 0


def best(rows: list[Row], worth: Callable[[Row], Any]) -> list[Row]:
    most = max(map(worth, rows))
    return [row for row in rows if worth(row) == most]


def contract_winners(rows: list[Row]) -> list[Row]:
    """The rows of one id among which only their content still decides."""

    def age(row: Row) -> float:
        moment: datetime | None = row["fetched_at"]
        return -1.0 if moment is None else (moment - MORNING).total_seconds()

    rows = best(rows, contract_rank)
    if contract_rank(rows[0]) >= 4:
        rows = best(rows, lambda row: len(row["images"]))
        rows = best(rows, lambda row: sum(image["image_uri"] is not None for image in row["images"]))
        rows = best(rows, lambda row: -age(row))
    else:
        rows = best(rows, age)
    first_run = min(row["run_id"] for row in rows)
    return [row for row in rows if row["run_id"] == first_run]


MOMENTS = st.integers(0, 2).map(lambda number: MORNING + timedelta(milliseconds=number))
OUTCOMES = st.sampled_from(
    [
        *[("SUCCEEDED", None), ("FAILED", None), ("SUCCEEDED", "ImageNotStored")],
        *[("EXPIRED", None), ("CREATED", None), ("PAUSED", None)],
        *[(None, "SessionNotFoundException"), (None, "InvalidParameterException")],
        *[(None, "ThrottlingException"), (None, "UnreadableAnswer"), (None, "NotAsked")],
    ]
)


@st.composite
def landing_rows(draw: st.DrawFn) -> Row:
    status, error_code = draw(OUTCOMES)
    images = draw(st.lists(st.sampled_from([KEPT, LOST]), max_size=2)) if status in ("SUCCEEDED", "FAILED") else []
    return row(
        draw(st.integers(0, 5)),
        status,
        error_code=error_code,
        images=[image(index, **members) for index, members in enumerate(images)],
        fetched_at=None if error_code == "NotAsked" else draw(MOMENTS),
        run_id=draw(st.sampled_from(["run-1", "run-2"])),
        confidence=draw(st.sampled_from([None, 50.0, 99.0])),
    )


def published(parts: list[list[Row]]) -> tuple[list[Row], dict[str, int], list[bytes]]:
    """The `sessions` rows, how many images each has in `bounding_boxes`, and the four files' bytes."""
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(Path(folder))
        for number, rows in enumerate(parts):
            land(store, rows, name=f"part-{number}")
        publish.publish_partition(store, DT, row_group_rows=2, fold=False)
        images = table(store, "bounding_boxes").column("session_id").to_pylist()
        files = [read(store, publish.table_path(name, DT)) for name in tables.TABLES]
        found = sessions(store)
        return found, {one["session_id"]: images.count(one["session_id"]) for one in found}, files


@settings(max_examples=20)
@given(st.lists(landing_rows(), min_size=1, max_size=40))
def test_published_winner_is_the_contracts(rows: list[Row]) -> None:
    """Every id has exactly one row, and that is one that the contract's words pick."""
    found, image_counts, _ = published([rows])
    by_id: dict[str, list[Row]] = {}
    for one in rows:
        by_id.setdefault(one["session_id"], []).append(one)
    assert [one["session_id"] for one in found] == sorted(by_id)
    for one in found:
        candidates = contract_winners(by_id[one["session_id"]])
        names = ["status", "error_code", "fetched_at", "run_id", "confidence"]
        assert any(
            all(one[name] == candidate[name] for name in names)
            and image_counts[one["session_id"]] == len(candidate["images"])
            for candidate in candidates
        )


@settings(max_examples=10)
@given(st.data())
def test_order_and_distribution_of_the_rows_never_show(data: st.DataObject) -> None:
    """The same rows, some of them landed twice, in any order and any parts give the same bytes."""
    rows = data.draw(st.lists(landing_rows(), min_size=3, max_size=20))
    rows += data.draw(st.lists(st.sampled_from(rows), max_size=3))
    shuffled = data.draw(st.permutations(rows))
    cut, other_cut = data.draw(st.integers(1, len(rows) - 1)), data.draw(st.integers(1, len(rows) - 1))
    first = published([rows[:cut], rows[cut:]])
    again = published([shuffled[:other_cut], shuffled[other_cut:]])
    assert first == again


GOOD = row(images=[image(0, "reference", **KEPT), image(0, **KEPT)], confidence=1.0)
LATER = MORNING + timedelta(minutes=1)


PAIRS = [
    (GOOD, row(status="EXPIRED", fetched_at=LATER)),
    (GOOD, row(images=[image(**KEPT)], fetched_at=MORNING - timedelta(minutes=1))),
    (GOOD, row(status="FAILED", images=GOOD["images"], fetched_at=LATER)),
    (GOOD, row(images=[image(**KEPT)] * 4, error_code="ImageNotStored")),
    (GOOD | {"fetched_at": LATER}, row(images=[image(**DISCARDED)] * 2)),
    (
        row(images=[image(**KEPT), image(**LOST)], error_code="ImageNotStored", fetched_at=LATER),
        row(images=[image(**LOST), image(**LOST)], error_code="ImageNotStored"),
    ),
    (row(status="EXPIRED"), row(status=None, error_code="SessionNotFoundException", fetched_at=LATER)),
    (row(status=None, error_code="SessionNotFoundException"), row(status="CREATED", fetched_at=LATER)),
    (row(status="IN_PROGRESS", fetched_at=LATER), row(status="CREATED")),
    (row(status="CREATED"), row(status=None, error_code="ThrottlingException", fetched_at=LATER)),
    (row(status=None, error_code="UnreadableAnswer"), row(status=None, error_code="NotAsked", fetched_at=None)),
    (row(status="EXPIRED", run_id="run-1"), row(status="EXPIRED", run_id="run-2")),
]


@pytest.mark.parametrize("order", [["winner", "loser"], ["loser", "winner"], ["loser", "winner", "loser"]])
def test_better_row_wins_whichever_was_landed_first(order: list[str]) -> None:
    """A good answer is never replaced by the EXPIRED or the poorer one that another read got."""
    parts: list[list[Row]] = []
    for which in order:
        rows = [winner if which == "winner" else loser for winner, loser in PAIRS]
        parts.append([one | {"session_id": session_id(number)} for number, one in enumerate(rows)])
    found, image_counts, _ = published(parts)
    assert len(found) == len(PAIRS)
    for number, (winner, _) in enumerate(PAIRS):
        for name in ("status", "error_code", "fetched_at", "run_id"):
            assert found[number][name] == winner[name], PAIRS[number]
        assert image_counts[session_id(number)] == len(winner["images"]), PAIRS[number]


def test_rows_that_differ_in_content_alone_have_one_winner_in_any_order() -> None:
    """Where rank, images, time and run are the same, the row's content decides, at any depth of it."""
    box = {"left": 0.5, "top": 0.5, "width": 0.5}
    tied = [
        *[row(0, confidence=float(number)) for number in range(6)],
        *[row(1, images=[image(0, box=box | {"height": float(number)}, **KEPT)]) for number in range(6)],
        *[row(2, attributes=[("key", str(number))]) for number in range(6)],
        *[row(3, feedback=[{"code": "A", "message": str(number)}]) for number in range(6)],
    ]
    first = published([tied[:13], tied[13:]])
    for step in (5, 7, 11):  # coprime to the number of rows: each one a permutation
        mixed = [tied[number * step % len(tied)] for number in range(len(tied))]
        assert published([mixed[:4], mixed[4:]]) == first
