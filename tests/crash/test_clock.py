"""A clock that is set back an hour while a run goes on, or between two."""

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from liveness_etl.local import LocalRekognition
from tests.crash.launcher import Running
from tests.crash.mishaps import ClockGoesBack, KilledAt, Place
from tests.crash.scenario import Open, check_completed, check_killed, runs_since
from tests.running import SUCCEEDING, ids, read_rows, wait_until, write_manifest

pytestmark = pytest.mark.slow


def test_a_clock_that_goes_back_in_the_middle_of_a_sweep_changes_no_result(tmp_path: Path) -> None:
    """The pace stays even, nobody else gets the lease meanwhile and everybody afterwards, no run takes less than no
    time, and every id has its row."""
    asked, place = ids(600), Place(str(tmp_path / "output"), tmp_path / "state")
    manifest = write_manifest(tmp_path / "manifest.csv", asked)
    environment = {"LIVENESS_ETL__SWEEP__CHECKPOINT_SECONDS": "1", "XDG_STATE_HOME": str(place.state)}
    with LocalRekognition(SUCCEEDING) as rekognition:
        endpoint = ("--endpoint-url", rekognition.endpoint_url, "--region", "us-east-1", "--max-tps", "100")
        command = ("run", str(manifest), "--output", place.uri, *endpoint)
        first = Running(command, environment, ClockGoesBack(place, "create landing"))
        wait_until(lambda: bool(list(tmp_path.glob("output/landing/*/*.parquet"))))
        second = Running(command, environment, ClockGoesBack(place)).wait()
        assert (second.code, "is being swept by run" in second.said) == (2, True)
        ended = first.wait()
        assert ended.code == 0, ended.said
        assert max(rekognition.stats()["accepted_per_second"]) <= 110
        assert Running(command, environment).wait().code == 0
        assert set(rekognition.stats()["asks_by_id"].values()) == {1}
    runs = read_rows(tmp_path / "output", "runs")
    assert [run["landed"] for run in runs if run["finished_at"] >= run["started_at"]] == [600, 0]
    sessions = read_rows(tmp_path / "output", "sessions")
    assert sorted(row["session_id"] for row in sessions) == sorted(asked)
    hour_behind = [row for row in sessions if row["fetched_at"].timestamp() < time.time() - 1800]
    assert 0 < len(hour_behind) < 600


def test_a_run_after_a_killed_one_on_a_clock_that_went_back_meanwhile_completes(outputs: Mapping[str, Open]) -> None:
    """It takes the dead process's lease, and what had landed keeps its time, later than its own."""
    with outputs["folder"]("clock") as case:
        assert case.run(KilledAt(case.place, "rename sessions", 1)).code == -9
        landed, answered = check_killed(case), case.answers()
        check_completed(case, case.run(ClockGoesBack(case.place)), landed, answered)
        again, killed = runs_since(case)
        assert (again["completed"], killed["completed"]) == (True, False)
        assert again["finished_at"] < killed["started_at"]
