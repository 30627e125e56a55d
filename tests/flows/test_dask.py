"""Sweeps in slices on Dask workers: together they keep to one limit, and a worker that dies costs nothing."""

import json
import os
import pickle
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from liveness_etl import run_plan, run_sweep
from liveness_etl.errors import StoreError
from liveness_etl.local import LocalRekognition
from tests.flows.test_nightly_script import group_is_gone, start
from tests.running import SUCCEEDING, ids, make_job, read_rows, wait_until, write_manifest

pytest.importorskip("prefect_dask", reason="the extra [dask] is not installed")
pytestmark = pytest.mark.slow  # Prefect, and a cluster of processes that import it

LIMIT = 60


@pytest.fixture
def endpoint() -> Iterator[str]:
    """The address of a server in a process of its own that accepts LIMIT calls a second."""
    config = {"answer_any": True, "outcome_shares": {"SUCCEEDED": 1.0}, "count_ids": True, "limit_tps": LIMIT}
    command = [sys.executable, "-m", "liveness_etl.local", "--config", json.dumps(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.terminate()


def stats(endpoint_url: str) -> dict[str, Any]:
    """What the server counted."""
    with urllib.request.urlopen(f"{endpoint_url}/_local/stats") as answer:
        found: dict[str, Any] = json.load(answer)
    return found


@pytest.fixture
def cluster(nightly_module: ModuleType, tmp_path: Path) -> Iterator[str]:
    """The address of a scheduler with two workers, each a process; none of them can import the flow's files."""
    code = """if True:
        import sys
        from distributed import LocalCluster
        if __name__ == "__main__":
            with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
                print(cluster.scheduler_address, flush=True)
                sys.stdin.read()
    """
    from prefect.settings import PREFECT_API_URL

    (tmp_path / "cluster.py").write_text(code)
    with subprocess.Popen(
        [sys.executable, tmp_path / "cluster.py"],
        env=os.environ | {"PREFECT_API_URL": PREFECT_API_URL.value()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()


def run_flow(module: ModuleType, manifest: Path, output: Path, endpoint_url: str, scale: str) -> Any:
    """The state that the flow ends in, with a section [scale]."""
    config = output.with_suffix(".toml")
    config.write_text(f'[scale]\nrunner = "dask"\n{scale}')
    return module.nightly(
        manifest=str(manifest),
        output=str(output),
        config=config,
        region="us-east-1",
        endpoint_url=endpoint_url,
        max_tps=LIMIT,
        return_state=True,
    )


@pytest.mark.alone
def test_slices_keep_to_one_limit_together(nightly_module: ModuleType, tmp_path: Path, endpoint: str) -> None:
    """Two processes that know nothing of each other use up one limit and hardly ever meet it."""
    manifest, output = write_manifest(tmp_path / "manifest.csv", ids(600)), tmp_path / "output"
    state = run_flow(nightly_module, manifest, output, endpoint, "slices = 2")
    assert state.is_completed(), state.message
    counted = stats(endpoint)
    asked = [a + b for a, b in zip(counted["accepted_per_second"], counted["rejected_per_second"], strict=True)]
    assert max(asked) <= LIMIT * 1.1, "more than the limit and its burst"
    assert max(asked) >= LIMIT * 0.9, "the slices did not run at the same time"
    assert counted["throttled"] <= 0.02 * counted["requests"]
    landed = [row["session_id"] for row in read_rows(output, "landing")]
    assert sorted(landed) == sorted(ids(600))
    (run,) = read_rows(output, "runs")
    assert (run["completed"], run["landed"], run["not_asked"]) == (True, 600, 0)

    assert run_flow(nightly_module, manifest, output, endpoint, "slices = 2").is_completed()
    assert stats(endpoint)["requests"] == counted["requests"], "what is final was asked again"


def test_killed_worker_loses_nothing(nightly_module: ModuleType, tmp_path: Path, endpoint: str, cluster: str) -> None:
    """Its slice is swept again by another worker; every id has one row, and the figures hold the rows once."""
    from distributed import Client

    manifest, output = write_manifest(tmp_path / "manifest.csv", ids(600)), tmp_path / "output"

    def kill() -> None:
        wait_until(lambda: all(list(output.glob(f"landing/*/*-default-{part}-*.parquet")) for part in range(2)))
        with Client(cluster, set_as_default=False) as client:
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

    with ThreadPoolExecutor() as pool:
        killing = pool.submit(kill)
        scale = f'slices = 2\naddress = "{cluster}"\n[publish]\nfold = false'
        state = run_flow(nightly_module, manifest, output, endpoint, scale)
        killing.result()
    assert state.is_completed(), state.message
    assert sorted(row["session_id"] for row in read_rows(output, "sessions")) == sorted(ids(600))
    landed = Counter(row["session_id"] for row in read_rows(output, "landing"))
    assert set(landed.values()) == {1, 2}, "the slice of the killed worker was not asked again"
    assert set(stats(endpoint)["asks_by_id"].values()) == {1, 2}
    (run,) = read_rows(output, "runs")
    assert (run["completed"], run["landed"], run["not_asked"]) == (True, 600, 0)


def test_slice_that_dask_gives_up_on_is_left_to_the_next_run(
    nightly_module: ModuleType, tmp_path: Path, endpoint: str
) -> None:
    """A worker that dies, where Dask may not try again: Failed with a sentence, recorded, and the next run finishes."""
    import distributed

    manifest, output = write_manifest(tmp_path / "manifest.csv", ids(300)), tmp_path / "output"

    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        cluster.scheduler.allowed_failures = 0

        def kill() -> None:
            landing = output / "landing"
            wait_until(lambda: all(list(landing.glob(f"*/*-default-{part}-*.parquet")) for part in range(2)))
            os.kill(cluster.workers[0].pid, signal.SIGKILL)

        with ThreadPoolExecutor() as pool:
            killing = pool.submit(kill)
            address = f'address = "{cluster.scheduler_address}"'
            state = run_flow(nightly_module, manifest, output, endpoint, f"slices = 2\n{address}")
            killing.result()
    assert state.is_failed()
    assert state.message.startswith("Dask gave up on a slice of source default (KilledWorker); what it landed is safe")
    (run,) = read_rows(output, "runs")
    assert (run["completed"], run["landed"]) == (False, 150)
    assert not read_rows(output, "sessions")

    assert run_flow(nightly_module, manifest, output, endpoint, "slices = 2").is_completed()
    assert set(stats(endpoint)["asks_by_id"].values()) <= {1, 2}
    assert sorted(row["session_id"] for row in read_rows(output, "sessions")) == sorted(ids(300))
    landed = Counter(row["session_id"] for row in read_rows(output, "landing"))
    assert set(landed.values()) == {1}


@pytest.mark.alone
def test_ctrl_c_drains_the_workers(tmp_path: Path, endpoint: str) -> None:
    """SIGINT to all processes, as a terminal sends it: every answer is landed and counted, exit code 3."""
    manifest, output = write_manifest(tmp_path / "manifest.csv", ids(3000)), tmp_path / "output"
    (tmp_path / "dask.toml").write_text('[scale]\nrunner = "dask"\nslices = 2\n')
    given = ("--config", tmp_path / "dask.toml", "--endpoint-url", endpoint, "--region", "us-east-1", "--max-tps", "60")
    process = start(tmp_path / "home", manifest, "--output", output, *given)
    try:
        wait_until(lambda: process.poll() is not None or bool(read_rows(output, "landing")))
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 3, err
    assert "Traceback" not in err
    (run,) = read_rows(output, "runs")
    assert not run["completed"]
    assert run["landed"] == len(read_rows(output, "landing")) == stats(endpoint)["answers"] < 3000
    wait_until(lambda: group_is_gone(process.pid))


def test_what_travels_to_a_worker_and_back_is_pickled(tmp_path: Path) -> None:
    """Job, plan and report come out as they went in; the plan holds no ids, so that it stays small."""
    with LocalRekognition(SUCCEEDING) as rekognition:
        job = make_job(write_manifest(tmp_path / "m.csv", ids(500)), tmp_path / "output", rekognition.endpoint_url)
        plan, _ = run_plan.plan_run(job)
        report = run_sweep.sweep_source(job, plan, "default", part=1, parts=2)
    for value in (job, plan, report, StoreError("safe in a folder")):
        assert repr(pickle.loads(pickle.dumps(value))) == repr(value)
    assert len(pickle.dumps((job, plan))) < 5000


@pytest.mark.parametrize(
    ("scale", "says"),
    [
        ('address = "tcp://127.0.0.1:9"', "no Dask scheduler answers at tcp://127.0.0.1:9: start it"),
        ('address = "nonsense://x"', "no Dask scheduler answers at nonsense://x: start it"),
    ],
)
def test_cluster_that_does_not_answer(
    nightly_module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: str, says: str
) -> None:
    """One sentence, and neither the output nor Rekognition was touched."""
    monkeypatch.setattr(nightly_module.nightly_dask, "CONNECT_SECONDS", 0.5)
    manifest, output = write_manifest(tmp_path / "manifest.csv", ids(1)), tmp_path / "output"
    state = run_flow(nightly_module, manifest, output, "http://127.0.0.1:9", scale)
    assert state.is_failed()
    assert state.message.startswith(says)
    assert not output.exists()


def test_cluster_without_workers(nightly_module: ModuleType, tmp_path: Path) -> None:
    """A scheduler that would let the run wait for ever is an error at once."""
    import distributed

    manifest = write_manifest(tmp_path / "manifest.csv", ids(1))
    with distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster:
        address = cluster.scheduler_address
        state = run_flow(nightly_module, manifest, tmp_path / "out", "http://127.0.0.1:9", f'address = "{address}"')
    assert state.message == f"the Dask scheduler at {address} has no workers: start some"


def test_missing_extra(nightly_module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Dask is not installed, the sentence says what to install."""
    monkeypatch.setitem(sys.modules, "prefect_dask", None)
    manifest, output = write_manifest(tmp_path / "manifest.csv", ids(1)), tmp_path / "output"
    state = run_flow(nightly_module, manifest, output, "http://127.0.0.1:9", "")
    assert state.is_failed()
    assert state.message == 'scale.runner is "dask", which needs: pip install "liveness-etl[dask]"'
