"""A day whose outcomes differ from the four weeks before it is told, and an ordinary one is not."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liveness_etl.alerts.drift import drift_reason, outcomes_of
from liveness_etl.storage_folder import LocalStore

DAY = date(2026, 3, 10)
USUAL = {"SUCCEEDED": 880, "FAILED": 60, "EXPIRED": 40, "SessionNotFoundException": 10, "InvalidParameterException": 10}


def write_day(output: Path, dt: date, counts: dict[str, int]) -> None:
    """A partition of `sessions` with these outcomes, and nothing else in it."""
    path = output / f"sessions/dt={dt}/part-00000.parquet"
    path.parent.mkdir(parents=True)
    outcomes = [name for name, count in counts.items() for _ in range(count)]
    pq.write_table(pa.table({"outcome": pa.array(outcomes, pa.string())}), path)


def four_weeks(output: Path, counts: dict[str, int] | None = None) -> LocalStore:
    """An output with the 28 days before DAY."""
    for days in range(1, 29):
        write_day(output, DAY - timedelta(days), counts or USUAL)
    return LocalStore(output)


def test_day_that_differs_is_told_with_what_moved_most(tmp_path: Path) -> None:
    """The share that moved most, and both figures."""
    store = four_weeks(tmp_path)
    write_day(tmp_path, DAY, USUAL | {"SUCCEEDED": 600, "FAILED": 340})
    reason = drift_reason(store, DAY)
    assert reason is not None
    assert reason.startswith("the outcomes of 2026-03-10 differ from those of the 28 days before it (alerts.drift; ")
    assert reason.endswith(": SUCCEEDED 60.0 % instead of 88.0 %")


def test_ordinary_days_are_not_told(tmp_path: Path) -> None:
    """Fifty days of 600 sessions, drawn with the usual shares."""
    store = four_weeks(tmp_path)
    shares = np.array(list(USUAL.values())) / 1000
    generator = np.random.default_rng(7)
    for count, drawn in enumerate(generator.multinomial(600, shares, 50)):
        output = tmp_path / "drawn" / str(count)
        write_day(output, DAY, dict(zip(USUAL, drawn.tolist(), strict=True)))
        (tmp_path / f"sessions/dt={DAY}").mkdir(exist_ok=True)
        (output / f"sessions/dt={DAY}/part-00000.parquet").replace(tmp_path / f"sessions/dt={DAY}/part-00000.parquet")
        assert drift_reason(store, DAY) is None


def test_errors_and_pending_ids_are_no_property_of_the_day(tmp_path: Path) -> None:
    """They have limits of their own."""
    store = four_weeks(tmp_path)
    write_day(tmp_path, DAY, USUAL | {"AccessDeniedException": 5_000, "CREATED": 5_000, "NotAsked": 900})
    assert outcomes_of(store, DAY) == [880, 60, 40, 20]
    assert drift_reason(store, DAY) is None


@pytest.mark.parametrize(("before", "day"), [(None, 499), (17, 600), (0, 600)])
def test_too_few_sessions_are_not_judged(tmp_path: Path, before: int | None, day: int) -> None:
    """Fewer than 500 of the day, or of all days before it, or none."""
    store = four_weeks(tmp_path, {"SUCCEEDED": before} if before is not None else None)
    write_day(tmp_path, DAY, {"EXPIRED": day})
    assert drift_reason(store, DAY) is None
