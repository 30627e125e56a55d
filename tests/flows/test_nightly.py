"""The flow itself, on a real Prefect server: what it leaves in the tables and in Prefect, and how it fails."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from liveness_etl import pipeline, run_plan, run_sweep
from liveness_etl.errors import ManifestError, StoreError
from liveness_etl.job import Job
from liveness_etl.local import LocalConfig, LocalRekognition
from tests.running import DT, SUCCEEDING, asks, ids, make_job, read_rows, write_manifest

pytestmark = pytest.mark.slow  # the harness alone takes ten to thirty seconds


@pytest.fixture
def rekognition() -> Iterator[LocalRekognition]:
    with LocalRekognition(SUCCEEDING) as running:
        yield running


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_manifest(tmp_path / "manifest.csv", ids(200))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


def run_flow(
    module: ModuleType, manifest: Path | str, output: Path, endpoint_url: str | None = None, **given: Any
) -> Any:
    """The state that the flow ends in."""
    parameters = {"endpoint_url": endpoint_url, "region": "us-east-1", "max_tps": 500} if endpoint_url else {}
    return module.nightly(manifest=str(manifest), output=str(output), **(parameters | given), return_state=True)


def in_prefect(state: Any) -> tuple[Any, list[Any], list[str]]:
    """What the Prefect server knows of a run: the flow run, its artifacts, and its log lines."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, LogFilter, LogFilterFlowRunId
    from prefect.logging.handlers import APILogWorker

    flow_run_id = state.state_details.flow_run_id
    APILogWorker.instance().drain()
    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
        )
        logs = client.read_logs(log_filter=LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id])))
        return client.read_flow_run(flow_run_id), artifacts, [line.message for line in logs]


def test_run_lands_publishes_and_records(
    nightly_module: ModuleType, manifest: Path, output: Path, rekognition: LocalRekognition
) -> None:
    """A flow run leaves what `liveness-etl run` does, and its record names the flow run."""
    state = run_flow(nightly_module, manifest, output, rekognition.endpoint_url)
    assert state.is_completed()
    assert {row["session_id"] for row in read_rows(output, "sessions")} == set(ids(200))
    (run,) = read_rows(output, "runs")
    assert run["flow_run_id"] == str(state.state_details.flow_run_id)
    assert (run["command"], run["completed"], run["landed"]) == ("run", True, 200)


def test_prefect_has_the_figures_and_no_session_id(
    nightly_module: ModuleType, manifest: Path, output: Path, rekognition: LocalRekognition
) -> None:
    """The artifact says what the run did; neither it nor the log nor the parameters hold a session id."""
    flow_run, artifacts, log = in_prefect(run_flow(nightly_module, manifest, output, rekognition.endpoint_url))
    (artifact,) = [artifact for artifact in artifacts if artifact.key == "liveness-run"]
    for line in (
        "| landed | 200 |",
        "| SUCCEEDED | 200 |",
        "| default | 200 | 200 | 200 | 0 | 500/s | configured max_tps |",
        f"| {DT} | 200 sessions |",
    ):
        assert line in artifact.data
    assert "default: 200 of 200, " in "".join(log)
    everything = f"{artifacts} {log} {flow_run}"
    assert not any(session_id in everything for session_id in ids(200))


def test_flow_run_is_named_after_its_date_and_manifest(
    nightly_module: ModuleType, tmp_path: Path, output: Path, rekognition: LocalRekognition
) -> None:
    """`yesterday` is the day before the run was scheduled, in the manifest's name and in the flow run's."""
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    write_manifest(tmp_path / f"{yesterday}.csv", ids(3), created_at=None)
    state = run_flow(nightly_module, tmp_path / "{date}.csv", output, rekognition.endpoint_url, date="yesterday")
    assert in_prefect(state)[0].name == f"liveness-nightly {yesterday} {yesterday}.csv"
    assert (output / "sessions" / f"dt={yesterday}").exists()


def test_bad_manifest_fails_with_its_sentence_alone(
    nightly_module: ModuleType, tmp_path: Path, output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What a user can cause is the state's message as it stands, and no log holds a stack trace."""
    missing = tmp_path / "missing.csv"
    state = run_flow(nightly_module, missing, output, "http://127.0.0.1:9")
    with pytest.raises(ManifestError) as raised:
        run_plan.plan_run(make_job(missing, output, "http://127.0.0.1:9"))
    assert state.is_failed()
    flow_run, _, log = in_prefect(state)
    assert flow_run.state.message == state.message == str(raised.value)
    assert "Traceback" not in "".join([*log, *capfd.readouterr()])


@pytest.mark.parametrize(
    "given", [{"max_tps": -1}, {"max_tps": "fast"}, {"share": 2}, {"date": "2026-13-01"}, {"date": "tomorrow"}]
)
def test_parameters_are_validated(nightly_module: ModuleType, given: dict[str, Any]) -> None:
    """A value that cannot be is refused before anything runs, and the message names the parameter."""
    from prefect.exceptions import ParameterTypeError

    with pytest.raises(ParameterTypeError, match=next(iter(given))):
        nightly_module.nightly.validate_parameters({"manifest": "m.csv"} | given)


def test_incomplete_run_is_failed_after_all_was_saved(nightly_module: ModuleType, manifest: Path, output: Path) -> None:
    """Ids without a result make the run Failed, with a plain sentence; the tables and the record are there."""
    config = LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 1.0}, faults={ids(200)[7]: "denied"})
    with LocalRekognition(config) as rekognition:
        state = run_flow(nightly_module, manifest, output, rekognition.endpoint_url)
    assert (state.type.value, state.name) == ("FAILED", "Failed")
    assert state.message == "199 of 200 final, 1 denied; run it again to ask for the rest"
    assert len(read_rows(output, "sessions")) == 200
    assert read_rows(output, "runs")[0]["completed"]
    assert in_prefect(state)[1]


def test_one_source_that_fails_keeps_no_other_from_its_ids(
    nightly_module: ModuleType,
    tmp_path: Path,
    output: Path,
    rekognition: LocalRekognition,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other source's answers are landed, the run is recorded as not completed, and the sentence that says where
    answers are reaches the state."""
    lines = [f"{session_id},{DT},{name}" for name, seed in (("a", 1), ("b", 2)) for session_id in ids(30, seed)]
    (tmp_path / "two.csv").write_text("\n".join(["session_id,created_at,source", *lines]))
    (tmp_path / "two.toml").write_text(
        "".join(
            f'[sources.{name}]\nregion = "us-east-1"\nendpoint_url = "{rekognition.endpoint_url}"\nmax_tps = 200\n'
            for name in ("a", "b")
        )
    )
    sweep_source = run_sweep.sweep_source

    def full_disk(job: Job, plan: Any, source: str, **given: Any) -> Any:
        if source == "a":
            raise StoreError("the disk is full; they are safe in /somewhere")
        return sweep_source(job, plan, source, **given)

    monkeypatch.setattr(run_sweep, "sweep_source", full_disk)
    state = run_flow(nightly_module, tmp_path / "two.csv", output, config=str(tmp_path / "two.toml"))
    assert state.is_failed()
    assert state.message == "the disk is full; they are safe in /somewhere"
    assert {row["session_id"] for row in read_rows(output, "landing")} == set(ids(30, 2))
    (run,) = read_rows(output, "runs")
    assert (run["completed"], run["landed"], run["not_asked"]) == (False, 30, 30)
    assert not read_rows(output, "sessions")


def test_publish_is_tried_again(
    nightly_module: ModuleType,
    manifest: Path,
    output: Path,
    rekognition: LocalRekognition,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A store that fails for a moment does not cost the run, and no id is asked a second time for it."""
    publish_partition, tried = pipeline.publish_partition, []

    def flaky(settings: Any, dt: date) -> Any:
        tried.append(dt)
        if len(tried) == 1:
            raise StoreError("the store is away for a moment")
        return publish_partition(settings, dt)

    monkeypatch.setattr(pipeline, "publish_partition", flaky)
    assert run_flow(nightly_module, manifest, output, rekognition.endpoint_url).is_completed()
    assert tried == [DT, DT]
    assert set(asks(rekognition).values()) == {1}


@pytest.mark.parametrize("count", [0, 1, 100, 101, 3650])
def test_publish_tasks_are_few(nightly_module: ModuleType, count: int) -> None:
    """However many partitions a manifest touches, they make at most a hundred task runs, in their order."""
    partitions = [DT + timedelta(days=day) for day in range(count)]
    shares = list(nightly_module.partition_shares(partitions))
    assert len(shares) <= 100
    assert [dt for share in shares for dt in share] == partitions


def test_library_does_not_import_prefect() -> None:
    """The command line and the pipeline run without Prefect."""
    code = "import sys, liveness_etl.cli, liveness_etl.pipeline, liveness_etl.demo; sys.exit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
