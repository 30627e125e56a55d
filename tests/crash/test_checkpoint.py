"""At most `checkpoint_seconds` of answers are ever unlanded: SIGKILL at any moment of a sweep costs no more."""

import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from liveness_etl.local import LocalRekognition
from tests.crash.launcher import Running
from tests.running import SUCCEEDING, ids, read_rows, wait_until, write_manifest

pytestmark = [pytest.mark.slow, pytest.mark.alone]

CHECKPOINT_SECONDS = 2.0
ASKED = ids(2400)  # more than three sweeps can ask before they are killed


@contextmanager
def watched(rekognition: LocalRekognition) -> Iterator[list[tuple[float, dict[str, int]]]]:
    """A list that grows by (time, answers by id until then) many times a second."""
    seen: list[tuple[float, dict[str, int]]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            answered = dict(rekognition.stats()["answers_by_id"])
            seen.append((time.monotonic(), answered))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield seen
    finally:
        over.set()
        watching.join()


def landed_ids(output: Path) -> set[str]:
    return {row["session_id"] for row in read_rows(output, "landing")}


def test_a_kill_costs_at_most_checkpoint_seconds_of_answers(tmp_path: Path) -> None:
    """Three sweeps at 200/s are killed at moments of chance: every id that was answered earlier than
    checkpoint_seconds before has landed, and is never asked again; a fourth one completes."""
    chance = random.Random(20260301)
    manifest, output = write_manifest(tmp_path / "manifest.csv", ASKED), tmp_path / "output"
    environment = {"LIVENESS_ETL__SWEEP__CHECKPOINT_SECONDS": str(CHECKPOINT_SECONDS)}

    with LocalRekognition(SUCCEEDING) as rekognition, watched(rekognition) as seen:
        command = ("sweep", str(manifest), "--output", str(output), "--max-tps", "200")
        endpoint = ("--endpoint-url", rekognition.endpoint_url, "--region", "us-east-1")
        answers: dict[str, int] = {}
        for _ in range(3):
            landed = landed_ids(output)
            sweep = Running((*command, *endpoint), environment)
            asked_before = sum(answers.values())
            wait_until(lambda before=asked_before: rekognition.stats()["requests"] > before)  # type: ignore[misc]
            time.sleep(CHECKPOINT_SECONDS + chance.uniform(0.3, 1.5))
            killed_at = time.monotonic()
            sweep.send(signal.SIGKILL)
            assert sweep.wait().code == -signal.SIGKILL
            in_time = [answered for at, answered in seen if at <= killed_at - CHECKPOINT_SECONDS][-1]
            due = {one for one, count in in_time.items() if count > answers.get(one, 0)}
            assert due
            assert due <= landed_ids(output)
            now = rekognition.stats()["answers_by_id"]
            assert not [one for one in landed if now[one] != answers[one]]
            answers = now
        lost = set(answers) - landed_ids(output)
        assert Running((*command, *endpoint), environment).wait().code == 0
        again = rekognition.stats()["answers_by_id"]
    assert {one for one in again if again[one] != answers.get(one, 0)} == lost | (set(ASKED) - set(answers))
    assert sorted(row["session_id"] for row in read_rows(output, "landing")) == sorted(ASKED)
