"""What a flow run that ends badly tells a webhook, on a real Prefect server."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from liveness_etl import run_sweep
from liveness_etl.local import LocalConfig, LocalRekognition
from tests.alerts.test_watch import die_holding_a_lease, record
from tests.flows.test_nightly import in_prefect, run_flow
from tests.running import ids, read_rows, write_manifest
from tests.webhook_receiver import SECRET, Receiver, receiving

pytestmark = pytest.mark.slow  # the harness alone takes ten to thirty seconds


@pytest.fixture
def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """The webhook of every flow run in here."""
    with receiving(tmp_path) as running:
        monkeypatch.setenv("SSL_CERT_FILE", str(running.authority))
        monkeypatch.setenv("LIVENESS_ETL__ALERTS__WEBHOOK_URL", running.url)
        yield running


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_manifest(tmp_path / "manifest.csv", ids(100))


def told(receiver: Receiver, state: Any) -> dict[str, Any]:
    """The one message, of which neither ids nor the webhook's address are anywhere in it or in Prefect."""
    (message,) = receiver.messages
    flow_run, artifacts, log = in_prefect(state)
    everything = f"{message} {flow_run} {artifacts} {log}"
    assert SECRET not in everything
    assert not any(session_id in everything for session_id in ids(100))
    return message


def test_limits_turn_a_run_into_failed_after_all_was_saved(
    nightly_module: ModuleType, manifest: Path, output: Path, receiver: Receiver
) -> None:
    """With the plain reason as its message, tables and record complete, and the figures at the webhook."""
    with LocalRekognition(LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 0.6, "EXPIRED": 0.4})) as server:
        state = run_flow(nightly_module, manifest, output, server.endpoint_url)
    (row,) = read_rows(output, "runs")
    expired = row["by_outcome"]["EXPIRED"]
    reason = f"{expired}.0 % of 100 ids were EXPIRED (alerts.max_expired_share = 5 %): sweep every minute"
    assert (state.name, state.message) == ("Failed", reason)
    assert (row["completed"], len(read_rows(output, "sessions"))) == (True, 100)
    message = told(receiver, state)
    assert (message["code"], message["reasons"]) == ("Threshold", [reason])
    assert message["run"]["outcomes"] == row["by_outcome"]
    assert message["run"]["flow_run_id"] == str(state.state_details.flow_run_id)
    assert f"alert: {reason}" in in_prefect(state)[2]


def test_incomplete_run_tells_what_is_missing_and_which_limit_it_left(
    nightly_module: ModuleType, manifest: Path, output: Path, receiver: Receiver
) -> None:
    """Both sentences, and the code of the errors."""
    denied = dict.fromkeys(ids(100)[:10], "denied")
    config = LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 1.0}, faults=denied)
    with LocalRekognition(config) as server:
        state = run_flow(nightly_module, manifest, output, server.endpoint_url)
    message = told(receiver, state)
    assert message["code"] == "Incomplete"
    assert message["reasons"] == [
        "90 of 100 final, 10 denied; run it again to ask for the rest",
        "10.0 % of 100 ids ended in an error (alerts.max_error_share = 1 %): AccessDeniedException 10",
    ]
    assert state.message == ". ".join(message["reasons"])


def test_error_is_told_by_its_code(
    nightly_module: ModuleType, tmp_path: Path, output: Path, receiver: Receiver
) -> None:
    """Its sentence stays in Prefect."""
    state = run_flow(nightly_module, tmp_path / "missing.csv", output, "http://127.0.0.1:9")
    message = told(receiver, state)
    assert message["text"] == "liveness-etl: ended with NoManifest (exit code 2); the log of the run says more"


def test_bug_is_told_without_its_words(
    nightly_module: ModuleType,
    manifest: Path,
    output: Path,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They may hold anything."""

    def bug(*_: Any, **__: Any) -> Any:
        raise KeyError("something private")

    monkeypatch.setattr(run_sweep, "sweep_source", bug)
    with LocalRekognition(LocalConfig(answer_any=True)) as server:
        state = run_flow(nightly_module, manifest, output, server.endpoint_url)
    assert state.is_failed()
    (message,) = receiver.messages
    assert message["code"] == "KeyError"
    assert message["run"]["completed"] is False
    assert message["run"]["requested"] == 100
    assert "private" not in str(message)


def test_webhook_that_fails_changes_nothing(
    nightly_module: ModuleType, tmp_path: Path, output: Path, receiver: Receiver
) -> None:
    """The run's own sentence is the state's message."""
    receiver.answers.append((500, {}))
    state = run_flow(nightly_module, tmp_path / "missing.csv", output, "http://127.0.0.1:9")
    assert state.is_failed()
    assert "missing.csv" in state.message
    assert len(receiver.posts) == 1


def test_completed_run_tells_of_one_that_was_killed(
    nightly_module: ModuleType, manifest: Path, output: Path, receiver: Receiver
) -> None:
    """And of nothing else."""
    from datetime import UTC, datetime, timedelta

    from liveness_etl.storage import open_store

    dead = record(open_store(str(output)), datetime.now(UTC) - timedelta(minutes=3), ended=False)
    die_holding_a_lease(open_store(str(output)), dead)
    with LocalRekognition(LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 1.0})) as server:
        state = run_flow(nightly_module, manifest, output, server.endpoint_url)
    assert state.is_completed()
    message = told(receiver, state)
    assert (message["code"], message["run"]["run_id"]) == ("RunKilled", dead)


@pytest.mark.parametrize("name", ["Crashed", "Cancelling"])
def test_run_whose_process_is_gone_is_told_from_its_record(
    nightly_module: ModuleType, output: Path, receiver: Receiver, name: str
) -> None:
    """As a worker calls the hooks for a run that it has lost: flow and parameters are all there is."""
    import uuid
    from datetime import UTC, datetime, timedelta

    from prefect.client.schemas.objects import FlowRun, State, StateType

    from liveness_etl.storage import open_store

    flow_run_id, now, store = uuid.uuid4(), datetime.now(UTC), open_store(str(output))
    for minute in range(3):
        record(store, now - timedelta(minutes=minute), flow_run_id=str(uuid.uuid4()))
    run_id = record(store, now - timedelta(minutes=9), ended=False, flow_run_id=str(flow_run_id), requested=50)
    flow_run = FlowRun(id=flow_run_id, flow_id=uuid.uuid4(), parameters={"output": str(output), "manifest": "m.csv"})
    hooks = nightly_module.nightly.on_crashed_hooks + nightly_module.nightly.on_cancellation_hooks
    (hook,) = set(hooks)
    hook(nightly_module.nightly, flow_run, State(type=StateType[name.upper()], name=name))
    (message,) = receiver.messages
    assert message["text"].endswith(f"{run_id}: the flow run ended as {name}; Prefect says more")
    assert (message["code"], message["run"]["requested"]) == (name, 50)
