"""SIGINT and SIGTERM at awkward moments: an end within ten seconds, with all that was answered kept."""

import signal
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from liveness_etl.local import LocalRekognition
from tests.crash.launcher import Ended, Running
from tests.crash.mishaps import Stalled
from tests.crash.scenario import Case, Open, check_completed, check_killed, runs_since
from tests.running import SUCCEEDING, ids, wait_until, write_manifest

pytestmark = pytest.mark.slow

LIMIT_SECONDS = 10.0


def signalled(running: Running, number: signal.Signals = signal.SIGTERM) -> tuple[Ended, float]:
    """Its end after a signal, and how many seconds that took."""
    sent_at = time.monotonic()
    running.send(number)
    ended = running.wait(20)
    return ended, time.monotonic() - sent_at


def stalled(case: Case, mishap: Stalled) -> Running:
    """A run of the case that has come to where it stalls."""
    running = case.start(mishap)
    wait_until(lambda: Stalled.SAYS in running.said())
    return running


def test_calls_that_outlive_the_drain_do_not_hold_up_the_end(outputs: Mapping[str, Open]) -> None:
    """With the default drain_seconds: answers that came are landed, and the run is recorded as not completed."""
    with outputs["new folder"]("slow") as case:
        slow = case.scenario.asked[::2]
        case.rekognition.configure(faults=dict.fromkeys(slow, "stall"), stall_seconds=60.0)
        running = case.start(LIVENESS_ETL__SWEEP__CALL_TIMEOUT_SECONDS="60")
        wait_until(lambda: case.rekognition.stats()["in_flight"] == len(slow))
        ended, seconds = signalled(running)
        assert (ended.code, seconds < LIMIT_SECONDS) == (3, True), (ended, seconds)
        landed, answered = check_killed(case), case.answers()
        assert not list(case.fetch().glob("sessions/*/*"))
        (record,) = runs_since(case)
        assert (record["completed"], record["finished_at"] is not None) == (False, True)
        case.rekognition.configure(faults={})
        kept = {one: row for one, row in landed.items() if row["error_code"] is None or one not in slow}
        assert answered.keys() <= kept.keys()
        check_completed(case, case.run(), kept, answered)


def test_a_signal_while_planning_ends_the_run_before_any_call(tmp_path: Path) -> None:
    """Nothing is asked and nothing is left behind."""
    manifest = write_manifest(tmp_path / "manifest.csv", ids(400_000))
    with LocalRekognition(SUCCEEDING) as rekognition:
        endpoint = ("--endpoint-url", rekognition.endpoint_url, "--region", "us-east-1")
        running = Running(("run", str(manifest), "--output", str(tmp_path / "output"), *endpoint), {})
        wait_until(lambda: bool(list(tmp_path.glob("output/.tmp/scratch-*"))))
        ended, seconds = signalled(running)
        assert (ended.code, seconds < LIMIT_SECONDS) == (3, True), (ended, seconds)
        assert "stopped while planning: nothing was asked" in ended.said
        assert "Traceback" not in ended.said
        assert rekognition.stats()["requests"] == 0
    assert not (tmp_path / "output").exists()


def test_a_signal_before_the_first_call_keeps_it_from_being_made(outputs: Mapping[str, Open]) -> None:
    """A run that is told to stop while it takes its lease asks nobody."""
    with outputs["new folder"]("leasing") as case:
        running = stalled(case, Stalled(case.place, "rename lease", seconds=1.0))
        ended, seconds = signalled(running, signal.SIGINT)
        assert (ended.code, seconds < LIMIT_SECONDS) == (3, True), (ended, seconds)
        assert case.rekognition.stats()["requests"] == 0
        (record,) = runs_since(case)
        assert (record["completed"], record["calls"], record["finished_at"] is not None) == (False, 0, True)
        check_completed(case, case.run(), {}, {})


def test_a_signal_while_publishing_leaves_the_other_partitions_to_the_next_run(outputs: Mapping[str, Open]) -> None:
    """The partition that is being published is finished; the run is recorded as not completed."""
    with outputs["new folder"]("publishing") as case:
        running = stalled(case, Stalled(case.place, "rename challenges", seconds=1.0))
        ended, seconds = signalled(running, signal.SIGINT)
        assert (ended.code, seconds < LIMIT_SECONDS) == (3, True), (ended, seconds)
        assert [path.name for path in (case.fetch() / "sessions").iterdir()] == ["dt=2026-03-01"]
        (record,) = runs_since(case)
        assert (record["completed"], record["landed"], record["finished_at"] is not None) == (False, 28, True)
        landed, answered = check_killed(case), case.answers()
        check_completed(case, case.run(), landed, answered)


@pytest.mark.alone
def test_a_second_signal_does_not_wait_for_a_publish_that_stalls(outputs: Mapping[str, Open]) -> None:
    """The first one would wait for ten seconds, the second one ends it at once."""
    with outputs["new folder"]("twice") as case:
        running = stalled(case, Stalled(case.place, "rename sessions"))
        running.send(signal.SIGTERM)
        wait_until(lambda: "stopping:" in running.said())
        ended, seconds = signalled(running)
        assert (ended.code, seconds < 1.5) == (3, True), (ended, seconds)
        landed, answered = check_killed(case), case.answers()
        check_completed(case, case.run(), landed, answered)


@pytest.mark.alone
@pytest.mark.parametrize("for_good", [False, True], ids=["one write", "every write"])
def test_a_signal_while_landing_stalls_rescues_what_was_answered(outputs: Mapping[str, Open], for_good: bool) -> None:
    """The error says where it is, though the record of the run may stall as well; the next run lands it."""
    with outputs["new folder"]("stalled") as case:
        running = stalled(case, Stalled(case.place, "create landing", for_good=for_good))
        ended, seconds = signalled(running)
        assert (ended.code, seconds < LIMIT_SECONDS) == (1, True), (ended, seconds)
        assert "they are safe in" in ended.said
        assert "Traceback" not in ended.said
        landed, answered = check_killed(case), case.answers()
        assert landed.keys() == set(case.scenario.asked)
        check_completed(case, case.run(), landed, answered)
