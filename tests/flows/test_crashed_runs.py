"""The automation of config/crashed-runs.yaml, on a Prefect server of its own: a run that SIGKILL ended is Crashed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from liveness_etl.local import LocalConfig, LocalRekognition
from tests.flows.conftest import FLOWS
from tests.processes import free_port
from tests.running import ids, read_rows, wait_until, write_manifest

pytestmark = pytest.mark.slow  # Prefect's server takes ten to thirty seconds to start

AUTOMATION = FLOWS.parent / "config" / "crashed-runs.yaml"
WITHIN_SECONDS = 8


@pytest.fixture
def prefect(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A server; the environment of its clients."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    port = free_port()
    environment = kept | {
        "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "1",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port), "--no-ui"]
    with (tmp_path / "server.out").open("wb") as output:
        server = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wait_until(lambda: answers(f"{environment['PREFECT_API_URL']}/health"), 120)
        yield environment
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def answers(url: str) -> bool:
    """Whether the server is up."""
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def test_run_that_sigkill_ended_is_crashed(prefect: dict[str, str], tmp_path: Path) -> None:
    """Without the automation it stays Running for good. Made as the file says, but for its 90 seconds."""
    shorter = AUTOMATION.read_text().replace("within: 90", f"within: {WITHIN_SECONDS}")
    assert shorter != AUTOMATION.read_text()
    (tmp_path / "shorter.yaml").write_text(shorter)
    make = [sys.executable, "-m", "prefect", "automation", "create", "--from-file", str(tmp_path / "shorter.yaml")]
    made = subprocess.run(make, env=prefect, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    output, manifest = tmp_path / "output", write_manifest(tmp_path / "m.csv", ids(3000))
    slow = LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 1.0})
    with LocalRekognition(slow) as rekognition:
        run = [sys.executable, str(FLOWS / "nightly.py"), str(manifest), "--output", str(output)]
        run += ["--endpoint-url", rekognition.endpoint_url, "--region", "us-east-1", "--max-tps", "20"]
        process = subprocess.Popen(run, env=prefect, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: bool(read_rows(output, "landing")), 120)
        finally:
            process.kill()
            process.wait()
    (row,) = read_rows(output, "runs")

    def state() -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{prefect['PREFECT_API_URL']}/flow_runs/{row['flow_run_id']}").json()
        return found["state"]

    assert state()["type"] == "RUNNING"
    wait_until(lambda: state()["type"] == "CRASHED", 60)
    assert "its process was killed" in state()["message"]
