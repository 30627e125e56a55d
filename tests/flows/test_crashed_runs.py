"""The automation of config/crashed-runs.yaml on a real Prefect server: a run that SIGKILL ended becomes Crashed."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from liveness_etl.local import LocalConfig, LocalRekognition
from tests.flows.conftest import FLOWS
from tests.running import ids, read_rows, wait_until, write_manifest

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
