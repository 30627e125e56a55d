"""The scheduled flows on a real Prefect server, in this process: how they end, and what they leave in Prefect."""

import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from liveness_etl.load.lease import held_leases
from liveness_etl.local import LocalConfig, LocalRekognition
from liveness_etl.storage_folder import LocalStore
from tests.flows.conftest import FLOWS
from tests.flows.test_nightly import in_prefect
from tests.running import DT, SUCCEEDING, ids, read_rows, write_manifest

pytestmark = pytest.mark.slow  # the harness alone takes ten to thirty seconds


@pytest.fixture
def flows(nightly_module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """flows/deployed.py, with configurations in a folder of the test's own."""
    from prefect.utilities.importtools import load_script_as_module

    monkeypatch.setenv("LIVENESS_ETL_CONFIG_FOLDER", str(tmp_path))
    return load_script_as_module(str(FLOWS / "deployed.py"))


@pytest.fixture
def rekognition() -> Iterator[LocalRekognition]:
    with LocalRekognition(SUCCEEDING) as running:
        yield running


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


def configure(tmp_path: Path, output: Path, endpoint_url: str) -> None:
    """The configuration that runs without parameters have."""
    (tmp_path / "liveness.toml").write_text(
        f'[manifest]\nuri = "{tmp_path}/{{date}}.csv"\n[output]\nuri = "{output}"\n'
        f'[sources.eu]\nregion = "eu-west-1"\nendpoint_url = "{endpoint_url}"\nmax_tps = 500\n'
    )


def test_sweep_then_publish(flows: ModuleType, tmp_path: Path, output: Path, rekognition: LocalRekognition) -> None:
    """A sweep makes no tables, publish makes those of what it landed, and once only."""
    configure(tmp_path, output, rekognition.endpoint_url)
    write_manifest(tmp_path / f"{datetime.now(UTC).date()}.csv", ids(50))
    swept = flows.sweep(return_state=True)
    assert (swept.name, swept.message) == ("Completed", "50 of 50 final")
    assert not read_rows(output, "sessions")
    run, artifacts, _ = in_prefect(swept)
    assert run.name == f"sweep {datetime.now(UTC).date()} {datetime.now(UTC).date()}.csv"
    assert {artifact.key for artifact in artifacts} == {"liveness-run", "liveness-outcomes", "liveness-progress-eu"}

    published = flows.publish(return_state=True)
    assert published.message == f"1 of 1 partitions published; {DT}: 50 sessions"
    assert len(read_rows(output, "sessions")) == 50
    assert flows.publish(return_state=True).message == "0 of 1 partitions published"


def test_sweep_with_nothing_to_ask_leaves_no_artifact(
    flows: ModuleType, tmp_path: Path, output: Path, rekognition: LocalRekognition
) -> None:
    """1,440 a day would bury the others."""
    configure(tmp_path, output, rekognition.endpoint_url)
    (tmp_path / f"{datetime.now(UTC).date()}.csv").write_text("session_id\n")
    state = flows.sweep(return_state=True)
    assert (state.name, state.message) == ("Completed", "0 of 0 final")
    assert not in_prefect(state)[1]


def test_sweep_beside_another_is_skipped(
    flows: ModuleType, tmp_path: Path, output: Path, rekognition: LocalRekognition
) -> None:
    """A green run whose state names the holder; nothing was asked, no record is left, and no stack trace."""
    configure(tmp_path, output, rekognition.endpoint_url)
    write_manifest(tmp_path / f"{datetime.now(UTC).date()}.csv", ids(50))
    with held_leases(LocalStore(output), ["eu"], "the-other-run", 1.0, lambda: None):
        state = flows.sweep(return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "Skipped")
    assert state.message.startswith("source eu is being swept by run the-other-run")
    assert rekognition.stats()["requests"] == 0
    assert not read_rows(output, "runs")
    assert "Traceback" not in "".join(in_prefect(state)[2])


def test_sweep_before_the_days_manifest_is_skipped(flows: ModuleType, tmp_path: Path, output: Path) -> None:
    """Every minute until it comes; but a day that somebody names must have one."""
    configure(tmp_path, output, "http://127.0.0.1:9")
    state = flows.sweep(return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "Skipped")
    assert "There is no file" in state.message
    state = flows.sweep(date=DT, return_state=True)
    assert (state.type.value, state.name) == ("FAILED", "Failed")
    (tmp_path / "liveness.toml").write_text(
        (tmp_path / "liveness.toml").read_text().replace("{date}", "always-the-same")
    )
    assert flows.sweep(return_state=True).is_failed()


def test_state_says_where_the_ids_stand(flows: ModuleType, tmp_path: Path, output: Path) -> None:
    """How many are final, and what keeps the others from it, with the source whose quota they wait for."""
    faults = {ids(50)[number]: kind for number, kind in ((1, "denied"), (2, "denied"), (3, "throttle"))}
    config = LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 1.0}, faults=faults)
    write_manifest(tmp_path / f"{DT}.csv", ids(50))
    with LocalRekognition(config) as rekognition:
        configure(tmp_path, output, rekognition.endpoint_url)
        with (tmp_path / "liveness.toml").open("a") as file:
            file.write("[sweep]\nretry_seconds = 1\n")
        state = flows.nightly(date=DT, return_state=True)
    assert state.is_failed()
    assert state.message == "47 of 50 final, 2 denied, 1 waiting on the quota of eu; run it again to ask for the rest"


def test_report_without_its_extra_is_figures_and_a_plain_line(
    flows: ModuleType,
    tmp_path: Path,
    output: Path,
    rekognition: LocalRekognition,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run is none the worse for it."""
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    configure(tmp_path, output, rekognition.endpoint_url)
    write_manifest(tmp_path / f"{DT}.csv", ids(50))
    state = flows.nightly(date=DT, return_state=True)
    assert state.is_completed()
    _, artifacts, log = in_prefect(state)
    assert [path.name for path in (tmp_path / "reports" / "liveness").iterdir()] == [f"{DT}.json"]
    assert not any(artifact.key == "liveness-report" for artifact in artifacts)
    assert any('pip install "liveness-etl[report]"' in line for line in log)


def test_artifacts_that_cannot_be_saved_cost_a_warning(
    flows: ModuleType,
    tmp_path: Path,
    output: Path,
    rekognition: LocalRekognition,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither a server that refuses them nor one that never answers keeps the sweep from its end."""
    import httpx

    given_up = threading.Event()

    def refuse(*given: Any) -> None:
        raise httpx.ConnectError("nobody listens")

    def stall(*given: Any) -> None:
        given_up.wait(60)

    artifacts = flows.save_figures.__globals__
    monkeypatch.setitem(artifacts, "create_markdown_artifact", refuse)
    monkeypatch.setitem(artifacts, "create_progress_artifact", stall)
    configure(tmp_path, output, rekognition.endpoint_url)
    write_manifest(tmp_path / f"{DT}.csv", ids(50))
    state = flows.sweep(date=DT, return_state=True)
    assert not given_up.is_set()
    given_up.set()
    assert state.is_completed()
    assert "an artifact could not be saved (ConnectError)" in in_prefect(state)[2]


@pytest.mark.parametrize("given", [{"config": "nowhere"}, {"manifest": "/etc/passwd"}])
@pytest.mark.parametrize("name", ["nightly", "sweep"])
def test_parameter_that_leads_nowhere_is_a_failure_with_its_sentence(
    flows: ModuleType, tmp_path: Path, output: Path, name: str, given: dict[str, Any]
) -> None:
    """What the API cannot know. Nothing is written, and no log has a stack trace."""
    configure(tmp_path, output, "http://127.0.0.1:9")
    state = getattr(flows, name)(**given, return_state=True)
    assert state.is_failed()
    assert "no such configuration" in state.message or "may only be below" in state.message
    assert not output.exists()
    assert "Traceback" not in "".join(in_prefect(state)[2])
