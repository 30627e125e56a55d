"""`log.format = "json"` holds for the flow too."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from liveness_etl.local import LocalConfig, LocalRekognition
from tests.flows.conftest import FLOWS
from tests.running import ids, read_rows, write_manifest
from tests.test_json_logs import parsed

pytestmark = pytest.mark.slow  # Prefect's server takes ten to thirty seconds to start


def test_every_line_of_a_flow_run_is_an_object(nightly_module: ModuleType, prefect_home: Path, tmp_path: Path) -> None:
    """Prefect's lines for the flow run, ours, the figures, and why it failed; with the ids of run and flow run."""
    from prefect.settings import PREFECT_API_URL

    (tmp_path / "liveness.toml").write_text('[log]\nformat = "json"\n')
    manifest, output = write_manifest(tmp_path / "m.csv", ids(40)), tmp_path / "output"
    config = LocalConfig(answer_any=True, outcome_shares={"EXPIRED": 1.0})
    with LocalRekognition(config) as rekognition:
        run = [sys.executable, FLOWS / "nightly.py", manifest, "--output", output, "--max-tps", "500"]
        run += ["--endpoint-url", rekognition.endpoint_url, "--region", "us-east-1"]
        run += ["--config", tmp_path / "liveness.toml"]
        environment = os.environ | {"PREFECT_API_URL": PREFECT_API_URL.value()}
        done = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr  # each id is final
    lines = parsed(done.stderr)
    (row,) = read_rows(output, "runs")
    assert {line["run_id"] for line in lines} == {row["run_id"]}
    of_prefect = [line for line in lines if line["logger"].startswith("prefect.")]
    assert {line["flow_run_id"] for line in of_prefect if "flow_run_id" in line} == {row["flow_run_id"]}
    assert any(line["message"].startswith("alert: 100.0 % of 40 ids were EXPIRED") for line in of_prefect)
    assert any("40 landed" in line["message"] for line in lines if line["logger"] == "liveness_etl")
