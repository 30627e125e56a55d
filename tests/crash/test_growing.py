"""A sweep of a growing manifest is killed with SIGKILL at every change that it makes to what it remembers."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest

from tests.crash.growing import FILES, IDS, Growing
from tests.crash.launcher import AT_ONCE
from tests.crash.mishaps import KilledAt
from tests.running import ids

pytestmark = pytest.mark.slow

ALSO = ("rename lease", "rename record of the start", "PUT record of the start, unanswered")
"""A sweep of this kind takes its lease before it writes its record, other than a run."""


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_what_a_killed_sweep_did_not_remember_costs_a_look_and_no_question(
    kind: str,
    growing_outputs: Mapping[str, Callable[[str], AbstractContextManager[Growing]]],
    growing_boundaries: Mapping[str, Counter[str]],
) -> None:
    """Whatever of the memory is left, the next two sweeps ask for no id that has landed, and remember every file."""
    deaths = [
        (name, time)
        for name, count in growing_boundaries[kind].items()
        if ("memory" in name and not name.endswith(", cut")) or name in ALSO
        for time in sorted({0, count - 1})
    ]
    assert len(deaths) >= 4

    def die(death: tuple[str, int]) -> str | None:
        with growing_outputs[kind](re.sub(r"\W+", "-", f"{death[0]} {death[1]}")) as case:
            killed = case.sweep(KilledAt(case.place, *death))
            if killed.code != -9:
                return f"exit code {killed.code}: {killed.said}"
            asked = case.asks()
            codes = [case.sweep().code, case.sweep().code]
            problems = [] if codes == [0, 0] else [f"exit codes {codes}"]
            if again := [one for one, times in case.asks().items() if times > 1 and asked.get(one) != times]:
                problems.append(f"{len(again)} ids were asked again")
            if case.asks().keys() != {one for number in range(1, FILES) for one in ids(IDS, number)}:
                problems.append("not every id was asked")
            if case.done() != {f"{number}.csv" for number in range(FILES)}:
                problems.append(f"remembers {case.done()}")
            return "; ".join(problems) or None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        problems = {death: problem for death, problem in zip(deaths, pool.map(die, deaths), strict=True) if problem}
    assert problems == {}
