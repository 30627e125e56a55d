"""Runs that were killed and days without a run: what nobody was left to tell of, the next run does.

Every run and sweep looks at the leases: a killed sweep leaves its name there, and one request a source tells. Once a
day the first `run` also reads the records of the two days before, for runs that were killed without a lease, and looks
for days on which there was none. What was noticed gets a name in `_state/noticed/`, written only if it is not there
yet: so it is told once, by one run.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from liveness_etl.errors import Conflict
from liveness_etl.load.lease import read_holders
from liveness_etl.load.records import read_run, run_paths
from liveness_etl.storage import ABSENT, Store

FOLDER: Final = "_state/noticed/"

LONGEST_WITHOUT_LEASE: Final = timedelta(hours=6)
"""A run publishes, and an import works, without a lease: so long one may be alive of which no lease tells."""

RECORD_DAYS: Final = 2
LONGEST_GAP_DAYS: Final = 6

_READ_AT_ONCE: Final = 16


def killed_runs(store: Store) -> list[dict[str, Any]]:
    """The records of runs that still stand in a lease and are dead, not told before. Raises StoreError."""
    dead = [run_id for run_id, alive in read_holders(store).items() if not alive]
    found = [row for run_id in dead if (row := _record_of(store, run_id)) and row["finished_at"] is None]
    return [row for row in found if _first_to_notice(store, row["run_id"])]


def is_news(store: Store, kind: str, now: datetime) -> bool:
    """Whether this kind of alert was not told by another run in this hour. Raises StoreError."""
    digest = hashlib.sha256(kind.encode()).hexdigest()[:12]
    return _first_to_notice(store, f"{now:%Y%m%dT%H}-{digest}")


def look_back(store: Store, now: datetime) -> tuple[list[dict[str, Any]], list[date]]:
    """Once a day: records of runs that must have been killed by now, and days on which a run is missing.

    Both are empty for all but the first caller of a day (UTC). Raises StoreError.
    """
    today = now.date()
    marker = f"looked-back-{today}"
    if store.head(FOLDER + marker) is not None:
        return [], []
    days = [today - timedelta(back) for back in range(LONGEST_GAP_DAYS + 8)]
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        paths = dict(zip(days, pool.map(lambda day: run_paths(store, day), days), strict=True))
    if not any(paths[day] for day in days[1:]) or not _first_to_notice(store, marker):
        return [], []
    alive = {run_id for run_id, is_alive in read_holders(store).items() if is_alive}
    killed = [
        row
        for day in days[: RECORD_DAYS + 1]
        for row in _read(store, paths[day])
        if row["finished_at"] is None and row["run_id"] not in alive and now - row["started_at"] > LONGEST_WITHOUT_LEASE
    ]
    had: dict[date, bool] = {}

    def had_run(day: date) -> bool:
        if day not in had:
            had[day] = any(row["command"] == "run" for row in _read(store, paths.get(day, ())))
        return had[day]

    missing = []
    for day in days[1 : LONGEST_GAP_DAYS + 1]:
        if had_run(day):
            break
        week_before = day - timedelta(7)
        if any(paths[old] for old in days if old <= week_before):
            expected = had_run(week_before)
        else:  # too young to have a week
            expected = had_run(day - timedelta(1)) and had_run(day - timedelta(2))
        if expected:
            missing.append(day)
    return [row for row in killed if _first_to_notice(store, row["run_id"])], sorted(missing)


def _read(store: Store, paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The records, in their order, a few at a time: who has seen enough reads no more."""
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        for start in range(0, len(paths), _READ_AT_ONCE):
            yield from filter(None, pool.map(lambda path: read_run(store, path), paths[start : start + _READ_AT_ONCE]))


def _record_of(store: Store, run_id: str) -> dict[str, Any] | None:
    try:
        day = datetime.strptime(run_id[:8], "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None  # no run id of ours
    # A job gets its time just before its id: midnight may lie between.
    found = (read_run(store, f"runs/dt={started}/{run_id}.parquet") for started in (day, day - timedelta(1)))
    return next(filter(None, found), None)


def _first_to_notice(store: Store, name: str) -> bool:
    try:
        store.put(FOLDER + name, b"", expect=ABSENT)
    except Conflict:
        return False
    return True
