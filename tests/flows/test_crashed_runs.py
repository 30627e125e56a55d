"""Flow runs that SIGKILL ended, on a real Prefect server: Crashed by the automation of config/crashed-runs.yaml,
and told by the hook in the process that had started them."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from liveness_etl.local import LocalConfig, LocalRekognition
from tests.flows.conftest import FLOWS
from tests.running import ids, read_rows, wait_until, write_manifest
from tests.webhook_receiver import receiving

pytestmark = pytest.mark.slow  # Prefect's server takes ten to thirty seconds to start

AUTOMATION = FLOWS.parent / "config" / "crashed-runs.yaml"
WITHIN_SECONDS = 10  # Prefect takes no less


def test_run_that_sigkill_ended_is_crashed(nightly_module: ModuleType, prefect_home: Path, tmp_path: Path) -> None:
    """Without the automation it stays Running for good. Made by the documented command, with 10 seconds for 90."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL

    environment = os.environ | {"PREFECT_API_URL": PREFECT_API_URL.value(), "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
    whole, file = AUTOMATION.read_text(), tmp_path / "crashed-runs.yaml"
    file.write_text(whole.replace("within: 90", f"within: {WITHIN_SECONDS}"))
    assert file.read_text() != whole
    make = [sys.executable, "-m", "prefect", "automation", "create", "--from-file", str(file)]
    made = subprocess.run(make, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr

    output, manifest = tmp_path / "output", write_manifest(tmp_path / "m.csv", ids(3000))
    with LocalRekognition(LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 1.0})) as rekognition:
        run = [sys.executable, str(FLOWS / "nightly.py"), str(manifest), "--output", str(output)]
        run += ["--endpoint-url", rekognition.endpoint_url, "--region", "us-east-1", "--max-tps", "20"]
        process = subprocess.Popen(run, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: process.poll() is not None or bool(read_rows(output, "landing")), 120)
            assert process.poll() is None
        finally:
            process.kill()
            process.wait()
    (row,) = read_rows(output, "runs")

    with get_client(sync_client=True) as client:
        assert client.read_flow_run(row["flow_run_id"]).state.name == "Running"
        wait_until(lambda: client.read_flow_run(row["flow_run_id"]).state.name == "Crashed", 90)
        assert "its process was killed" in client.read_flow_run(row["flow_run_id"]).state.message


def test_who_serves_a_flow_tells_of_a_run_that_sigkill_ended(
    nightly_module: ModuleType, prefect_home: Path, tmp_path: Path
) -> None:
    """Prefect calls the hook there: it has the webhook from the environment, and the figures from the record."""
    from prefect.client.orchestration import get_client
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import PREFECT_API_URL

    output, manifest = tmp_path / "output", write_manifest(tmp_path / "m.csv", ids(3000))
    serve = f"from prefect import flow; flow.from_source({str(FLOWS)!r}, 'nightly.py:nightly').serve(name='served')"
    config = LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 1.0})
    with receiving(tmp_path) as receiver, LocalRekognition(config) as rekognition, get_client(sync_client=True) as api:
        environment = os.environ | {
            "PREFECT_API_URL": PREFECT_API_URL.value(),
            "SSL_CERT_FILE": str(receiver.authority),
            "LIVENESS_ETL__ALERTS__WEBHOOK_URL": receiver.url,
        }
        command = [sys.executable, "-c", serve]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        serving = subprocess.Popen(command, env=environment, cwd=tmp_path, **quiet)  # it copies the flows to there
        try:

            def is_served() -> bool:
                try:
                    return api.read_deployment_by_name("liveness-nightly/served") is not None
                except ObjectNotFound:
                    return False

            wait_until(is_served, 120)
            parameters = {"manifest": str(manifest), "output": str(output), "region": "us-east-1", "max_tps": 20}
            parameters |= {"endpoint_url": rekognition.endpoint_url}
            flow_run = run_deployment("liveness-nightly/served", parameters=parameters, timeout=0)
            wait_until(lambda: bool(read_rows(output, "landing")), 120)
            for child in children(serving.pid):
                os.kill(child, signal.SIGKILL)
            wait_until(lambda: bool(receiver.posts))
        finally:
            for pid in [*children(serving.pid), serving.pid]:
                os.kill(pid, signal.SIGKILL)
            serving.wait()
    (message,) = receiver.messages
    assert message["code"] == "Crashed"
    assert message["run"]["flow_run_id"] == str(flow_run.id)
    assert (message["run"]["requested"], message["run"]["completed"]) == (3000, False)


def children(pid: int) -> list[int]:
    """The processes that a process has started (Linux)."""
    found = Path(f"/proc/{pid}/task").glob("*/children")  # each thread has its own
    return [int(child) for file in found for child in file.read_text().split()]
