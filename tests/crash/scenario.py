"""An output with a past, a manifest with more ids than it knows, and what a run must make of them, killed or not."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow.parquet as pq

from liveness_etl import pipeline
from liveness_etl.local import LocalConfig, LocalRekognition
from liveness_etl.storage import rescue_folder
from tests.crash.launcher import Ended, Mishap, Running
from tests.crash.mishaps import Place
from tests.running import ids, make_job, read_rows

TABLES = ("sessions", "challenges", "bounding_boxes", "feedback")
DAYS = ("2026-03-01", "2026-03-02")
OLD, RESCUED = 12, 4
"""So many ids landed and were published long ago; so many more wait in rescue parts."""

_CONFIG = LocalConfig(
    answer_any=True,
    count_ids=True,
    image_mode="mixed",
    image_bytes=64,
    outcome_shares={"SUCCEEDED": 0.6, "FAILED": 0.1, "CREATED": 0.1, "EXPIRED": 0.1, "SessionNotFoundException": 0.1},
)
_DIFFERS = ("run_id", "fetched_at", "attempts")  # between a run that was killed and one that was not


@dataclass(frozen=True)
class Scenario:
    """The manifest, the output before the run, and the tables and images that a run which nobody kills makes of it."""

    asked: tuple[str, ...]
    manifest: Path
    past: Path | None
    rescued: Path | None
    tables: dict[str, list[dict[str, Any]]]
    images: dict[str, str]


@dataclass(frozen=True)
class Case:
    """One output that starts with the scenario's past, and the server that its runs ask. Output and state folder are
    told by `place`; `fetch` brings the output as a folder."""

    scenario: Scenario
    place: Place
    folder: Path
    rekognition: LocalRekognition
    fetch: Callable[[], Path]
    environment: dict[str, str]

    def run(self, mishap: Mishap | None = None) -> Ended:
        """`liveness-etl run` in a process of its own. The landing parts are written at its end."""
        return self.start(mishap).wait()

    def start(self, mishap: Mishap | None = None, command: str = "run", **environment: str) -> Running:
        """The same, on its way."""
        return Running(
            (
                *(command, str(self.scenario.manifest), "--output", self.place.uri, "--max-tps", "1000"),
                *("--region", "us-east-1", "--endpoint-url", self.rekognition.endpoint_url),
            ),
            self.environment
            | {"XDG_STATE_HOME": str(self.place.state), "LIVENESS_ETL__SWEEP__CHECKPOINT_SECONDS": "60"}
            | environment,
            mishap,
        )

    def command(self, *arguments: str) -> Running:
        """Another command on the same output, on its way."""
        state = {"XDG_STATE_HOME": str(self.place.state)}
        return Running((*arguments, "--output", self.place.uri), self.environment | state)

    def answers(self) -> dict[str, int]:
        """How often the server answered for each id."""
        return dict(self.rekognition.stats()["answers_by_id"])


Open = Callable[[str], AbstractContextManager[Case]]
"""Opens a new case, under a name."""


def make_scenario(folder: Path, asked: int) -> Scenario:
    """Write the manifest, and make the past and the reference with runs in this process."""
    all_ids = ids(OLD + RESCUED + asked)
    old, rescued, new = all_ids[:OLD], all_ids[OLD : OLD + RESCUED], all_ids[OLD + RESCUED :]
    past = folder / "past"
    with LocalRekognition(_CONFIG) as rekognition:

        def run(name: str, session_ids: list[str], output: Path, command: str = "run") -> None:
            job = make_job(_manifest(folder / name, session_ids), output, rekognition.endpoint_url, command=command)
            assert pipeline.run(job).exit_code == 0

        run("old.csv", old, past)
        before = {path: path.read_bytes() for path in past.rglob("*.parquet")}
        run("rescued.csv", rescued, past, "sweep")
        for part in [path for path in (past / "landing").rglob("*.parquet") if path not in before]:
            waiting = folder / "rescued" / part.parent.name / part.name
            waiting.parent.mkdir(parents=True, exist_ok=True)
            part.rename(waiting)
        reference = folder / "reference"
        shutil.copytree(past, reference)
        put_rescued(folder / "rescued", str(reference), Path(os.environ["XDG_STATE_HOME"]))
        run("all.csv", all_ids, reference)
    manifest = folder / "all.csv"
    manifest.write_text(manifest.read_text() + f"no-uuid,{DAYS[0]}T12:00:00Z\n{old[0]},{DAYS[0]}T12:00:00Z\n")
    return Scenario(tuple(new), manifest, past, folder / "rescued", tables_of(reference), images_of(reference))


def without_past(scenario: Scenario) -> Scenario:
    """The same manifest, for an output that does not exist yet."""
    return replace(scenario, asked=tuple(ids(OLD + RESCUED + len(scenario.asked))), past=None, rescued=None)


def put_rescued(parts: Path | None, uri: str, state: Path) -> None:
    """Rescue parts for an output, as a run that could not write to it left them."""
    if parts is None:
        return
    waiting = state / "liveness-etl" / rescue_folder(uri).relative_to(rescue_folder(uri).parents[1])
    shutil.copytree(parts, waiting)


@contextmanager
def folder_case(scenario: Scenario, folder: Path, **config: Any) -> Iterator[Case]:
    """The scenario in a folder of its own."""
    output, state = folder / "output", folder / "state"
    if scenario.past is not None:
        shutil.copytree(scenario.past, output)
    put_rescued(scenario.rescued, str(output), state)
    with LocalRekognition(replace(_CONFIG, faults=_faults(scenario), **config)) as rekognition:
        yield Case(scenario, Place(str(output), state), folder, rekognition, lambda: output, {})


@contextmanager
def s3_case(scenario: Scenario, folder: Path, s3: Any, endpoint: str) -> Iterator[Case]:
    """The scenario in a prefix of a bucket of its own."""
    bucket = folder.name
    s3.create_bucket(Bucket=bucket)
    for path in () if scenario.past is None else scenario.past.rglob("*"):
        if path.is_file() and ".lock" not in path.name:
            s3.put_object(Bucket=bucket, Key=f"output/{path.relative_to(scenario.past)}", Body=path.read_bytes())
    uri, state = f"s3://{bucket}/output", folder / "state"
    put_rescued(scenario.rescued, uri, state)
    tags: dict[Path, str] = {}

    def fetch() -> Path:
        found = {
            folder / entry["Key"]: entry
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="output/")
            for entry in page.get("Contents", ())
        }
        for path in tags.keys() - found.keys():
            path.unlink()
            del tags[path]
        for path, entry in found.items():
            if tags.get(path) != entry["ETag"]:
                tags[path] = entry["ETag"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read())
        return folder / "output"

    environment = {"LIVENESS_ETL__OUTPUT__ENDPOINT_URL": endpoint, "LIVENESS_ETL__OUTPUT__REGION": "us-east-1"}
    with LocalRekognition(replace(_CONFIG, faults=_faults(scenario))) as rekognition:
        yield Case(scenario, Place(uri, state, endpoint), folder, rekognition, fetch, environment)


def check_killed(case: Case) -> dict[str, dict[str, Any]]:
    """What holds for an output at any moment; returns its landed rows by id, those that wait to be landed included."""
    output = case.fetch()
    for path in output.rglob("*.parquet"):
        assert ".tmp" not in path.parts
        pq.read_table(path, partitioning=None)  # each file is whole
    for run in read_rows(output, "runs"):
        assert run["finished_at"] is not None or not run["completed"]
    for table in TABLES:
        for days in (output / table).glob("dt=*"):
            assert [path.name for path in days.iterdir()] in ([], ["part-00000.parquet"])
    waiting = [row for path in case.place.state.rglob("*.parquet") for row in pq.read_table(path).to_pylist()]
    return {row["session_id"]: row for row in read_rows(output, "landing") + waiting}


def check_completed(case: Case, ended: Ended, landed: dict[str, dict[str, Any]], answered: dict[str, int]) -> None:
    """What holds after the run that followed: `landed` and `answered` are from the moment of the mishap."""
    assert ended.code == 0, ended.said
    output = case.fetch()
    for table, rows in tables_of(output).items():
        expected = case.scenario.tables[table]
        differing = [pair for pair in zip(rows, expected, strict=False) if pair[0] != pair[1]]
        assert (len(rows), differing[:1]) == (len(expected), []), table
    assert images_of(output) == case.scenario.images
    sessions = {row["session_id"]: row for row in read_rows(output, "sessions")}
    for session_id, row in landed.items():  # what was landed is never lost, nor asked again
        kept = sessions[session_id]
        assert (kept["run_id"], kept["fetched_at"]) == (row["run_id"], row["fetched_at"])
    asked_now = {session_id: count - answered.get(session_id, 0) for session_id, count in case.answers().items()}
    has_answer = [one for one in case.scenario.asked if sessions[one]["status"] is not None]
    assert {session_id: count for session_id, count in asked_now.items() if count} == {
        session_id: 1 for session_id in has_answer if session_id not in landed
    }
    assert any(run["completed"] for run in runs_since(case))
    assert not list(case.place.state.rglob("*.parquet"))


def runs_since(case: Case) -> list[dict[str, Any]]:
    """The records of runs that are not of the past, in the order of their start."""
    past = [] if case.scenario.past is None else read_rows(case.scenario.past, "runs")
    found = [run for run in read_rows(case.fetch(), "runs") if run not in past]
    return sorted(found, key=lambda run: str(run["run_id"]))


def tables_of(output: Path) -> dict[str, list[dict[str, Any]]]:
    """All rows of the four tables, without what must differ between runs and outputs."""
    tables = {table: read_rows(output, table) for table in TABLES}
    for rows in tables.values():
        for row in rows:
            for column in _DIFFERS:
                row.pop(column, None)
            if row.get("image_uri"):
                row["image_uri"] = unquote(row["image_uri"].rpartition("/images/")[2] or row["image_uri"])
    return tables


def images_of(output: Path) -> dict[str, str]:
    """Every stored image with its hash."""
    return {
        str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (output / "images").rglob("*.*")
        if path.is_file()
    }


def _faults(scenario: Scenario) -> dict[str, Any]:
    """The first asks of some ids fail."""
    one, two, three = scenario.asked[:3]
    return {one: ["500", None], two: ["throttle", None], three: ["garbage", None]}


def _manifest(path: Path, session_ids: list[str]) -> Path:
    lines = [f"{one},{DAYS[number % 2]}T12:00:00Z\n" for number, one in enumerate(session_ids)]
    path.write_text("session_id,created_at\n" + "".join(lines))
    return path
