"""A plan that is one of several of its run: what it leaves to the others, and which of its files are done."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from liveness_etl.engine import open_engine
from liveness_etl.extract.ceiling import Ceiling
from liveness_etl.extract.plan import Plan, PlanOptions, plan_manifest, planned_ids, unfinished_files
from liveness_etl.transform.tables import LANDING
from tests.extract.test_plan import NOON, Landed, Line, chunk, landing_rows
from tests.running import ids

ONE, TWO, THREE, FOUR = ids(4)
FINAL = Landed("SUCCEEDED", created=0)


def plan_files(
    folder: Path,
    files: Sequence[Sequence[str]],
    *,
    final: Sequence[str] = (),
    forgotten: Sequence[str] = (),
    planned: Sequence[str] = (),
) -> tuple[Plan, set[int], set[str]]:
    """The plan of files of ids, which of the files are unfinished, and the ids that the plan has."""
    schema = pa.schema([LANDING.field(name) for name in LANDING.names])
    prior = [{name: row[name] for name in LANDING.names} for row in landing_rows((one, FINAL) for one in final)]
    ends = [sum(map(len, files[: number + 1])) for number in range(len(files))]
    with open_engine(folder, "1GB") as engine:
        plan = plan_manifest(
            engine,
            ((chunk(Line(one, 0) for one in file), len(file), 0) for file in files),
            lambda dt, columns: [pa.RecordBatch.from_pylist(prior, schema=schema).select(list(columns))],
            folder,
            PlanOptions({"eu": "eu-west-1"}, lambda source: Ceiling(1.0, ""), NOON, 180),
            forgotten=forgotten,
            planned=[pa.chunked_array([pa.array(planned, pa.string())])],
        )
        return plan, unfinished_files(engine, ends), set(planned_ids(engine).to_pylist())


@pytest.mark.parametrize(
    ("files", "final", "unfinished"),
    [
        ([[ONE, TWO], [THREE]], [], {0, 1}),
        ([[ONE, TWO], [THREE]], [ONE, THREE], {0}),
        ([[ONE, TWO], [THREE]], [ONE, TWO, THREE], set()),
        ([[ONE], [ONE], []], [], {0}),
        ([[], [ONE]], [], {1}),
        ([], [], set()),
    ],
)
def test_a_file_is_unfinished_while_an_id_of_it_is_not_final(
    tmp_path: Path, files: list[list[str]], final: list[str], unfinished: set[int]
) -> None:
    """A repeated id counts where it stands first; an empty file is done."""
    assert plan_files(tmp_path, files, final=final)[1] == unfinished


def test_ids_of_an_earlier_plan_are_duplicates_and_leave_their_file_unfinished(tmp_path: Path) -> None:
    """They may be waiting for their turn in this very run: the next one can tell."""
    plan, unfinished, planned = plan_files(
        tmp_path, [[ONE, TWO], [THREE], [FOUR]], final=[THREE, FOUR], planned=[ONE, FOUR]
    )
    assert (plan.lines, plan.requested, plan.duplicates, plan.already_final) == (4, 2, 2, 1)
    assert unfinished == {0, 2}
    assert planned == {TWO, THREE}
