"""Killed runs and missing days are noticed by the next run, once."""

import json
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from liveness_etl.alerts.watch import killed_runs, look_back
from liveness_etl.load.lease import held_leases
from liveness_etl.load.records import read_run, record_path, write_run
from liveness_etl.storage import Store
from tests.load.test_records import run_row

NOW = datetime(2026, 3, 10, 2, 5, tzinfo=UTC)
TODAY = NOW.date()


def record(store: Store, started_at: datetime, *, ended: bool = True, **columns: Any) -> str:
    """A record of a `run`; its id."""
    run_id = f"{started_at:%Y%m%dT%H%M%S%f}Z-0123abcd"
    plain = {"run_id": run_id, "started_at": started_at, "command": "run", "completed": ended}
    write_run(store, run_row(**plain | {"finished_at": started_at if ended else None} | columns))
    return run_id


def nights(store: Store, *days_ago: int, **columns: Any) -> None:
    """A run at two o'clock, so many days ago each."""
    for days in days_ago:
        record(store, NOW - timedelta(days, minutes=5), **columns)


def die_holding_a_lease(store: Store, run_id: str) -> None:
    """Leave a lease as a process of another host does that was killed over a minute ago."""
    holder = {"run_id": run_id, "host": "gone", "process": "gone/1/1", "pid": 1, "share": 1.0}
    content = {"holders": [holder | {"expires_at": time.time() - 1}]}
    store.put("_state/leases/default.json", json.dumps(content).encode())


def test_run_that_was_killed_while_it_asked_is_noticed_once(store: Store) -> None:
    """By the name that it left in the lease."""
    run_id = record(store, NOW - timedelta(minutes=2), ended=False, command="sweep")
    die_holding_a_lease(store, run_id)
    assert [row["run_id"] for row in killed_runs(store)] == [run_id]
    assert killed_runs(store) == []


def test_record_under_the_day_before_is_found(folder_store: Store) -> None:
    """A job that starts as midnight strikes has its record under the old day, and an id of the new one."""
    run_id = "20260310T000000000002Z-0123abcd"
    started_at = datetime(2026, 3, 9, 23, 59, 59, 999_999, tzinfo=UTC)
    write_run(folder_store, run_row(run_id=run_id, started_at=started_at))
    die_holding_a_lease(folder_store, run_id)
    assert [row["run_id"] for row in killed_runs(folder_store)] == [run_id]


def test_living_and_ended_runs_are_not_noticed(folder_store: Store) -> None:
    """One holds its lease, one has recorded its end, and of the third nothing was recorded."""
    alive, ended = record(folder_store, NOW, ended=False), record(folder_store, NOW - timedelta(minutes=1))
    with held_leases(folder_store, ["default"], alive, 1.0, lambda: None):
        assert killed_runs(folder_store) == []
    for run_id in (ended, "20260310T020000000000Z-ffffffff", "no-id-of-ours"):
        die_holding_a_lease(folder_store, run_id)
        assert killed_runs(folder_store) == []


def test_run_that_was_killed_without_a_lease_is_noticed_the_next_day(store: Store) -> None:
    """Killed while it published, say. One that has not ended since an hour may still be at work."""
    nights(store, 2)
    dead = record(store, NOW - timedelta(hours=7), ended=False)
    later = record(store, NOW - timedelta(hours=1), ended=False)

    def noticed(now: datetime) -> list[str]:
        return [row["run_id"] for row in look_back(store, now)[0]]

    assert noticed(NOW) == [dead]
    assert noticed(NOW + timedelta(hours=20)) == []  # it looks once a day
    assert noticed(NOW + timedelta(days=1)) == [later]
    assert noticed(NOW + timedelta(days=2)) == []


def test_run_that_works_for_long_is_alive_as_long_as_it_holds_its_lease(folder_store: Store) -> None:
    """A million ids at 25 a second take half a day."""
    alive = record(folder_store, NOW - timedelta(hours=12), ended=False)
    with held_leases(folder_store, ["default"], alive, 1.0, lambda: None):
        assert look_back(folder_store, NOW) == ([], [])


@pytest.mark.parametrize(
    ("days_ago", "missing_days_ago"),
    [
        ((), []),  # the first run of all
        ((2,), []),  # one night is no habit
        ((2, 3), [1]),
        ((1, 2, 3), []),
        ((3, 4), [2]),  # two nights away: the first of them is certain
        (range(3, 15), [2, 1]),
        (range(9, 15), [6, 5, 4, 3, 2]),  # eight nights away: nothing tells of the first after a week
        ((8, 11), [4, 1]),  # twice a week
    ],
)
def test_day_without_a_run_is_noticed_once(
    folder_store: Store, days_ago: tuple[int, ...], missing_days_ago: list[int]
) -> None:
    """If the same weekday a week before had one; in an output younger than that, the two days before."""
    nights(folder_store, *days_ago)
    expected = [TODAY - timedelta(days) for days in missing_days_ago]
    assert look_back(folder_store, NOW)[1] == expected
    assert look_back(folder_store, NOW)[1] == []


def test_weekend_without_a_run_is_no_news_where_it_is_the_custom(folder_store: Store) -> None:
    """Runs from Monday to Friday, for two weeks; then a Monday and a Wednesday after a Tuesday without."""
    monday = date(2026, 3, 9)
    workdays = [day for back in range(3, 15) if (day := monday - timedelta(back)).weekday() < 5]
    for day in workdays:
        record(folder_store, datetime(day.year, day.month, day.day, 2, tzinfo=UTC))
    noon = datetime(2026, 3, 9, 12, tzinfo=UTC)
    assert look_back(folder_store, noon)[1] == []
    record(folder_store, noon)
    assert look_back(folder_store, noon + timedelta(days=2))[1] == [date(2026, 3, 10)]


def test_sweeps_are_no_runs(folder_store: Store) -> None:
    """Where one is made every minute, the night's `run` is missing all the same; one that was killed was there."""
    nights(folder_store, 2, 3)
    for minute in range(40):
        record(folder_store, NOW - timedelta(days=1, minutes=minute), command="sweep")
    assert look_back(folder_store, NOW)[1] == [TODAY - timedelta(days=1)]


def test_damaged_record_is_passed_over(folder_store: Store) -> None:
    """Half a file, or none any more."""
    folder_store.put(record_path("runs", NOW, "half"), b"PAR1")
    assert read_run(folder_store, record_path("runs", NOW, "half")) is None
    assert read_run(folder_store, record_path("runs", NOW, "gone")) is None
