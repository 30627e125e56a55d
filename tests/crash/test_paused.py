"""A run stands still at every change it makes while other processes publish, fold and forget on the same output.

Real processes, stopped by SIGSTOP, on a folder (where they wait for its locks) and on S3 (where there are none).
"""

import re
import signal
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.crash.launcher import AT_ONCE, Running
from tests.crash.mishaps import PausedAt
from tests.crash.scenario import TABLES, Case, Open, images_of, tables_of
from tests.running import ids, read_rows

pytestmark = pytest.mark.slow

WAITING = 1.5
"""Seconds after which a process that has not ended is taken to wait for the one that stands still."""


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_others_work_on_the_output_while_a_run_stands_still_at_any_of_its_changes(
    kind: str, outputs: Mapping[str, Open], boundaries: Mapping[str, Counter[str]]
) -> None:
    """A publish with its fold, then a forget of an id that landed long ago and of one that the run asks for: afterwards
    all is as if they had come one after the other, and of the forgotten ids nothing is left anywhere."""

    def stand_still(name: str) -> str | None:
        with outputs[kind](re.sub(r"\W+", "-", f"paused {name}")) as case:
            try:
                overtaken(case, name)
            except AssertionError as error:
                return str(error)
        return None

    names = [name for name in boundaries[kind] if not name.endswith(", cut")]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        problems = {name: problem for name, problem in zip(names, pool.map(stand_still, names), strict=True) if problem}
    assert not problems, "\n\n".join(f"{name}: {problem}" for name, problem in problems.items())


def overtaken(case: Case, name: str) -> None:
    """A run stands still at a boundary until the others have ended, or wait for it; all come to a good end."""
    forgotten = {ids(1)[0], case.scenario.asked[-1]}
    run = case.start(PausedAt(case.place, name))
    while not run.is_paused():
        assert not run.ended(0.02), run.wait().said
    others = [case.command("publish"), case.command("forget", *forgotten)]
    until = time.monotonic() + WAITING
    for other in others:
        other.ended(max(0.0, until - time.monotonic()))
    run.send(signal.SIGCONT)
    for process in (*others, run):
        check_ended(process)
    check_ended(case.command("publish"))
    output = case.fetch()
    check_tables(case, output, forgotten)
    for path in [*output.rglob("*"), *case.place.state.rglob("*")]:
        assert not any(one in str(path) for one in forgotten), path
    held = {row["session_id"] for row in read_rows(output, "landing")}
    assert forgotten.isdisjoint(held)


def check_ended(process: Running) -> None:
    ended = process.wait()
    assert ended.code == 0, f"exit code {ended.code}: {ended.said}"


def check_tables(case: Case, output: Path, forgotten: set[str]) -> None:
    """Those of a run that nobody overtook, without the forgotten ids."""
    found: dict[str, list[dict[str, Any]]] = tables_of(output)
    for table in TABLES:
        expected = [row for row in case.scenario.tables[table] if row["session_id"] not in forgotten]
        differing = [pair for pair in zip(found[table], expected, strict=False) if pair[0] != pair[1]]
        assert (len(found[table]), differing[:1]) == (len(expected), []), table
    expected_images = {
        path: digest for path, digest in case.scenario.images.items() if not any(one in path for one in forgotten)
    }
    assert images_of(output) == expected_images
