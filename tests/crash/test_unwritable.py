"""A full disk, and an output that must not be written: said in a sentence, nothing half-written counts."""

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.crash.launcher import AT_ONCE, Ended
from tests.crash.mishaps import FullDisk, FullOutput, ReadOnlyOutput
from tests.crash.scenario import Open, check_completed, check_killed
from tests.running import files_of

pytestmark = pytest.mark.slow


def check_said(ended: Ended, reason: str) -> None:
    """Exit code 1, and an error of plain sentences which name the reason."""
    assert ended.code == 1, ended.said
    assert "Traceback" not in ended.said
    _, error = ended.said.split("error: ")
    assert all(line.endswith(reason) or "they are safe in" in line for line in error.splitlines())


def test_a_disk_that_is_full_from_any_write_on_is_said_and_the_next_run_completes(
    outputs: Mapping[str, Open], boundaries: Mapping[str, Counter[str]]
) -> None:
    """One sentence, whatever was being written; nothing is half-written, and with space again all is as it should."""
    writes = [name for name in boundaries["folder"] if name.startswith(("half of", "rows of"))]
    assert len(writes) > 10

    def fill_up(name: str) -> None:
        with outputs["folder"]("full") as case:
            check_said(case.run(FullDisk(case.place, name)), "File too large")
            landed, answered = check_killed(case), case.answers()
            check_completed(case, case.run(), landed, answered)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(fill_up, writes))


@pytest.mark.parametrize(("mishap", "reason"), [(FullOutput, "File too large"), (ReadOnlyOutput, "Permission denied")])
def test_answers_that_the_output_does_not_take_are_rescued_and_landed_by_the_next_run(
    mishap: type[FullOutput | ReadOnlyOutput], reason: str, outputs: Mapping[str, Open]
) -> None:
    """The error says where they are; they are not asked again."""
    with outputs["new folder"]("unwritable") as case:
        happened = mishap(case.place, "create landing")
        ended = case.run(happened)
        check_said(ended, reason)
        rescued = list(case.place.state.rglob("*.parquet"))
        assert len(rescued) == 2
        assert f"{reason}; they are safe in {rescued[0].parents[1]}, and the next run with this output lands them" in (
            ended.said
        )
        if isinstance(happened, ReadOnlyOutput):
            happened.open()
        landed, answered = check_killed(case), case.answers()
        assert landed.keys() == set(case.scenario.asked)
        check_completed(case, case.run(), landed, answered)


def test_a_read_only_output_is_said_before_any_call(outputs: Mapping[str, Open]) -> None:
    """Nothing is asked whose answer could not be kept, and nothing changes."""
    with outputs["folder"]("read-only") as case:
        read_only = ReadOnlyOutput(case.place)
        before = files_of(case.fetch(), ".")
        check_said(case.run(read_only), "Permission denied")
        assert (case.rekognition.stats()["requests"], files_of(case.fetch(), ".")) == (0, before)
        read_only.open()
        landed = check_killed(case)
        check_completed(case, case.run(), landed, {})
