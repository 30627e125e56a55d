"""A run is killed with SIGKILL at every change it makes to its output, and the next one has to make up for it.

The changes are not listed here: a run that is not killed tells them (see `boundaries`), and each of them is then a
place to die at. README's table of crash points is held against them.
"""

import re
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.crash.launcher import AT_ONCE
from tests.crash.mishaps import KilledAt
from tests.crash.scenario import Case, Open, check_completed, check_killed, runs_since

pytestmark = pytest.mark.slow

README = Path(__file__).parents[2] / "README.md"
AFTER_THE_RECORD = ("PUT record of the end, unanswered", "remove plan", "rmdir plan", "DELETE plan", "end")
CUT_SHORT = ("record of the start", "images", "landing", "sessions", "DELETE landing")
"""What is also killed in the middle of its request to S3: one of each kind of request. S3 ignores half a request, so
this leaves what the request before it left."""
OUTPUTS = ("folder", "new folder", "s3")


@pytest.mark.parametrize("kind", OUTPUTS)
def test_a_run_killed_at_any_change_is_completed_by_the_next(
    kind: str, outputs: Mapping[str, Open], boundaries: Mapping[str, Counter[str]]
) -> None:
    """All rows and images as if nobody had been killed; what had landed keeps its run and its time, and is not asked
    again; all else is asked once more. Of what a run does many times, the first and the last time stand for all; in a
    new folder, what is not done in an old one."""

    def die(death: tuple[str, int]) -> str | None:
        with outputs[kind](re.sub(r"\W+", "-", f"{death[0]} {death[1]}")) as case:
            try:
                killed_and_run_again(case, *death)
            except AssertionError as error:
                return str(error)
        return None

    deaths = [
        (name, time)
        for name, count in boundaries[kind].items()
        if kind != "new folder" or name not in boundaries["folder"]
        if not name.endswith(", cut") or name.removeprefix("PUT ").removesuffix(", cut") in CUT_SHORT
        for time in sorted({0, count - 1} if kind == "folder" else {count - 1})
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        problems = {death: problem for death, problem in zip(deaths, pool.map(die, deaths), strict=True) if problem}
    assert problems == {}


def killed_and_run_again(case: Case, name: str, time: int) -> None:
    """A run is killed at a boundary; what is left is right at any moment, and complete after the next run."""
    ended = case.run(KilledAt(case.place, name, time))
    assert ended.code == -9, f"exit code {ended.code}: {ended.said}"
    landed, answered = check_killed(case), case.answers()
    killed = runs_since(case)
    if not name.startswith(AFTER_THE_RECORD):
        assert [run["completed"] for run in killed] in ([], [False])
    check_completed(case, case.run(), landed, answered)
    *before, last = runs_since(case)
    assert before == killed
    assert last["completed"]


def test_readme_names_every_change_and_no_other(
    boundaries: Mapping[str, Counter[str]], growing_boundaries: Mapping[str, Counter[str]]
) -> None:
    """The words in backticks in the first column of its table are the names of what a run, or a sweep of a growing
    manifest, writes and deletes."""
    recorded = [*boundaries.values(), *growing_boundaries.values()]
    found = {written(boundary) for counts in recorded for boundary in counts}
    table = README.read_text().partition("| killed at |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert sorted(named) == sorted(found)


def written(boundary: str) -> str:
    """What a boundary's write is, without the kind of the change."""
    found = re.fullmatch(r"(create|half of|rename|mkdir|PUT) (.*?)(, cut|, unanswered)?", boundary)
    if found:
        return found[2]
    if "scratch" in boundary:
        return "scratch"
    return re.sub(r"^(remove|rmdir|DELETE) (.*?)(, cut|, unanswered)?$", r"deleting \2", boundary)
