"""One session is found without its date, with every row that the output has of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liveness_etl.analysis.show import find_session
from liveness_etl.load import landing, publish
from liveness_etl.load.tombstones import put_tombstones
from liveness_etl.storage import Store
from liveness_etl.storage_folder import LocalStore
from liveness_etl.transform.tables import LANDING, TABLES
from tests.analysis.conftest import DAYS, publish_days
from tests.landing_rows import DT, MORNING, image, land, row, session_id


def test_session_is_shown_with_its_children_and_every_landing_row(store: Store, options: dict[str, Any]) -> None:
    """The rows that lost too, in the order of their runs; nothing of other sessions."""
    later = MORNING + timedelta(hours=1)
    land(store, [row(1, "EXPIRED", fetched_at=later, run_id="run-2"), row(2)])
    land(store, [row(1, None, error_code="NotAsked", fetched_at=None, run_id="run-0", attempts=0)])
    answer = row(
        1,
        images=[image(kind="reference"), image(0)],
        feedback=[{"code": "A", "message": "m"}],
        challenge={"type": "T", "version": "2.0.0"},
        attributes={"plan": "free"},
    )
    land(store, [row(3), answer])
    publish.publish_partition(store, DT)
    (shown,) = find_session(store.uri, session_id(1), **options).partitions
    assert shown.dt == DT
    assert {table: len(rows) for table, rows in shown.tables.items()} == {
        "sessions": 1,
        "challenges": 1,
        "bounding_boxes": 2,
        "feedback": 1,
    }
    assert (shown.tables["sessions"][0]["outcome"], shown.tables["sessions"][0]["dt"]) == ("SUCCEEDED", DT)
    assert [one["run_id"] for one in shown.landing] == ["run-0", "run-1", "run-2"]
    assert dict(shown.landing[1]) == answer


def test_session_in_several_partitions_is_shown_in_each(folder_store: LocalStore) -> None:
    """Oldest first, each with its own landing rows."""
    publish_days(folder_store)
    found = find_session(folder_store.uri, session_id(1)).partitions
    assert [shown.dt for shown in found] == list(DAYS)
    assert [shown.tables["sessions"][0]["confidence"] for shown in found] == [90.0, 91.0, 92.0]
    assert [[one["confidence"] for one in shown.landing] for shown in found] == [[90.0], [91.0], [92.0]]


def test_session_that_is_not_published_yet_is_found_in_landing(store: Store, options: dict[str, Any]) -> None:
    """In a partition without tables, and in one whose tables are older than its landing."""
    publish_days(store)
    land(store, [row(7)], DAYS[0])
    land(store, [row(7, "CREATED")], DT - timedelta(days=1))
    found = find_session(store.uri, session_id(7), **options).partitions
    assert [(shown.dt, shown.landing[0]["status"]) for shown in found] == [
        (DT - timedelta(days=1), "CREATED"),
        (DAYS[0], "SUCCEEDED"),
    ]
    assert all(not any(shown.tables.values()) for shown in found)


def test_landing_that_is_published_is_not_looked_through(folder_store: LocalStore) -> None:
    """What it holds is in the tables: an unknown id does not cost a scan of the history. Proven by damaged parts."""
    publish_days(folder_store)
    for entry in list(folder_store.list("landing/")):
        folder_store.put(entry.path, b"not Parquet at all")
    assert find_session(folder_store.uri, session_id(9)).partitions == []


def test_only_row_groups_that_hold_the_id_are_read_whole(
    folder_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Landing is not sorted; of the other row groups the ids are enough."""
    read: list[tuple[int, bool]] = []
    plain = pq.ParquetFile.read_row_group

    def noted(self: Any, group: int, columns: Any = None, **rest: Any) -> Any:
        read.append((group, columns is None))
        return plain(self, group, columns=columns, **rest)

    whole = pq.read_table(pa.BufferReader(landing.part_bytes([row(number) for number in range(6)])))
    grouped = pa.BufferOutputStream()
    pq.write_table(whole, grouped, row_group_size=2)
    landing.append_part(folder_store, DT, "part", grouped.getvalue().to_pybytes())
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    (shown,) = find_session(folder_store.uri, session_id(3)).partitions
    assert [one["session_id"] for one in shown.landing] == [session_id(3)]
    assert read == [(0, False), (1, False), (1, True), (2, False)]


def test_erased_session_is_told_from_one_that_never_was(store: Store, options: dict[str, Any]) -> None:
    """The tombstone says so; without one, it is unknown."""
    publish_days(store)
    put_tombstones(store, [session_id(8)], datetime.now(UTC))
    assert find_session(store.uri, session_id(8), **options).forgotten
    unknown = find_session(store.uri, session_id(9), **options)
    assert (unknown.partitions, unknown.forgotten) == ([], False)


def test_part_that_is_folded_away_meanwhile_is_no_error(
    folder_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts again from the listing."""
    publish_days(folder_store)
    before = landing.read_landed(folder_store, DT)
    folder_store.delete([before.parts[0].path])
    land(folder_store, [row(1)], DT, "fresh")
    now = landing.read_landed(folder_store, DT)
    listings = iter([before, now])
    monkeypatch.setattr(landing, "read_landed", lambda store, dt: next(listings) if dt == DT else now)
    shown = find_session(folder_store.uri, session_id(1)).partitions[0]
    assert len(shown.landing) == 1


def test_what_is_shown_has_every_column(folder_store: LocalStore) -> None:
    """Of the tables and of landing: a script that reads the JSON misses none."""
    publish_days(folder_store)
    shown = find_session(folder_store.uri, session_id(1)).partitions[0]
    assert list(shown.tables) == list(TABLES)
    assert list(shown.landing[0]) == LANDING.names
