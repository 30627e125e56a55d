"""config/prefect.yaml for real: a Prefect server, a worker and its flow processes, started by README's commands."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from liveness_etl.local import LocalConfig, LocalRekognition
from tests.flows.conftest import FLOWS
from tests.processes import free_port
from tests.running import SUCCEEDING, asks, ids, read_rows, wait_until, write_manifest

pytestmark = pytest.mark.slow  # a server, a worker, and seconds for every flow run's process

CHECKOUT = FLOWS.parent
PREFECT = [sys.executable, "-m", "prefect"]
FLOW = {"nightly": "liveness-nightly", "sweep": "liveness-sweep", "publish": "liveness-publish"}
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass(frozen=True)
class Deployed:
    """A server that has the deployments. Workers find their configurations in `folder`."""

    api_url: str
    environment: dict[str, str]
    folder: Path

    def ask(self, path: str, body: Any = None) -> Any:
        """What Prefect's API answers; raises HTTPError where it refuses. A server whose SQLite is busy is asked again,
        as Prefect's own clients do."""
        request = urllib.request.Request(
            f"{self.api_url}/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        for tries_left in reversed(range(5)):
            try:
                with urllib.request.urlopen(request) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code < 500 or not tries_left:
                    raise
                error.close()
                time.sleep(0.5)
        raise AssertionError("unreachable")

    def deployment(self, name: str) -> Any:
        """One deployment as the server has it."""
        return self.ask(f"deployments/name/{FLOW[name]}/{name}")

    def schedule(self, name: str, at: datetime, **parameters: Any) -> str:
        """Have a deployment run as of a time; returns the flow run's id."""
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": at.isoformat()}}
        body = {"parameters": parameters, "state": state}
        run: str = self.ask(f"deployments/{self.deployment(name)['id']}/create_flow_run", body)["id"]
        return run

    def ended(self, run: str) -> Any:
        """The flow run, once it has ended."""
        found: Any = {}

        def has_ended() -> bool:
            nonlocal found
            found = self.ask(f"flow_runs/{run}")
            return found["state_type"] in ENDED

        wait_until(has_ended, 120)
        return found

    def seen(self, run: str) -> tuple[dict[str, Any], str]:
        """A flow run's artifacts by key, and its log."""
        artifacts = self.ask("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}})
        lines = self.ask("logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}})
        return {artifact["key"]: artifact for artifact in artifacts}, "\n".join(line["message"] for line in lines)

    def start_worker(self) -> "subprocess.Popen[bytes]":
        """A worker, in a process of its own."""
        with (self.folder / "worker.log").open("ab") as log:
            return subprocess.Popen(
                [*PREFECT, "worker", "start", "--pool", "liveness"],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def configure(self, name: str, manifests: Path, output: Path, endpoint_url: str) -> None:
        """Write the configuration NAME.toml."""
        (self.folder / f"{name}.toml").write_text(
            f'[manifest]\nuri = "{manifests}/{{date}}.csv"\n[output]\nuri = "{output}"\n'
            f'[sources.prod_eu]\nregion = "eu-west-1"\nendpoint_url = "{endpoint_url}"\nmax_tps = 100\n'
        )


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """A new server with the work pool and the three deployments. It schedules nothing of its own accord."""
    folder, port = tmp_path_factory.mktemp("deployed"), free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = kept | {
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "LIVENESS_ETL_CONFIG_FOLDER": str(folder),
    }
    found = Deployed(environment["PREFECT_API_URL"], environment, folder)
    with (folder / "server.log").open("wb") as log:
        command = [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:

        def answers() -> bool:
            assert server.poll() is None, (folder / "server.log").read_text()
            try:
                return found.ask("health") is True
            except urllib.error.URLError:
                return False

        wait_until(answers, 120)
        for command in (
            ["work-pool", "create", "liveness", "--type", "process"],
            ["--no-prompt", "deploy", "--all", "--prefect-file", "config/prefect.yaml"],
        ):
            subprocess.run([*PREFECT, *command], env=environment, cwd=CHECKOUT, check=True, capture_output=True)
        yield found
    finally:
        end(server)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Prefect's worker does not always end after SIGTERM."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def workers(deployed: Deployed) -> Iterator[Callable[[], "subprocess.Popen[bytes]"]]:
    """A worker that is alive: the one that is there, or a new one."""
    started: list[subprocess.Popen[bytes]] = []

    def alive() -> "subprocess.Popen[bytes]":
        if not started or started[-1].poll() is not None:
            started.append(deployed.start_worker())
        return started[-1]

    yield alive
    for process in started:
        end(process)


def sweeping_process(output: Path) -> int:
    """Which process holds the lease of the source."""
    (holder,) = json.loads((output / "_state" / "leases" / "prod_eu.json").read_text())["holders"]
    return int(holder["pid"])


def test_deployments_are_what_the_file_says(deployed: Deployed) -> None:
    """Their schedules in UTC, what an overlap does, and that the API holds parameters against their schema."""
    of: Callable[[str], Any] = deployed.deployment
    crons = {name: [plan["schedule"]["cron"] for plan in of(name)["schedules"]] for name in FLOW}
    assert crons == {"nightly": ["0 2 * * *"], "sweep": ["* * * * *"], "publish": ["30 * * * *"]}
    assert {plan["schedule"]["timezone"] for name in FLOW for plan in of(name)["schedules"]} == {"UTC"}
    limits = {name: (of(name)["global_concurrency_limit"] or {}).get("limit") for name in FLOW}
    assert limits == {"nightly": None, "sweep": 1, "publish": 1}
    assert {of(name)["concurrency_options"]["collision_strategy"] for name in ("sweep", "publish")} == {"CANCEL_NEW"}
    assert all(of(name)["enforce_parameter_schema"] for name in FLOW)


def test_a_person_can_fill_in_the_form(deployed: Deployed) -> None:
    """A date, a configuration's name and a manifest are all that there is, each with words that explain it."""
    for name in FLOW:
        found = deployed.deployment(name)["parameter_openapi_schema"]
        assert set(found["properties"]) == {"config", "date"} | ({"manifest"} if name != "publish" else set())
        assert all(len(parameter["description"]) > 20 for parameter in found["properties"].values())
        assert not found.get("required")
        assert found["properties"]["date"]["anyOf"][0]["format"] == "date"


@pytest.mark.parametrize(
    "given",
    [
        {"config": "../secret"},
        {"config": "/etc/liveness"},
        {"config": ""},
        {"config": None},
        {"date": "yesterday"},
        {"date": "2026-13-01"},
        {"manifest": "manifests/../../other.csv"},
        {"manifest": 5},
    ],
    ids=str,
)
def test_parameter_that_is_no_good_is_refused_by_the_api(deployed: Deployed, given: dict[str, Any]) -> None:
    """Before there is a flow run, with a message that names the parameter."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        deployed.schedule("nightly", datetime.now(UTC), **given)
    with refused.value as answer:
        assert answer.code in (409, 422)
        assert f"'{next(iter(given))}'" in json.load(answer)["detail"]


def test_scheduled_run_is_executed_by_the_worker(
    deployed: Deployed, workers: Callable[[], Any], tmp_path: Path
) -> None:
    """Nine months late, and it is the day before it was scheduled that it reads; tables, report and figures are there.
    Neither a log line nor an artifact nor a name holds a session id."""
    workers()
    output, day = tmp_path / "output", date(2026, 3, 1)
    write_manifest(tmp_path / f"{day}.csv", ids(60), created_at=None)
    write_manifest(tmp_path / f"{datetime.now(UTC).date()}.csv", ids(60, 2), created_at=None)
    with LocalRekognition(SUCCEEDING) as rekognition:
        deployed.configure("one", tmp_path, output, rekognition.endpoint_url)
        run = deployed.schedule("nightly", datetime(2026, 3, 2, 2, tzinfo=UTC), config="one")
        found = deployed.ended(run)
    assert (found["state_name"], found["state"]["message"]) == ("Completed", "60 of 60 final")
    assert found["name"] == "nightly 2026-03-01 2026-03-01.csv"
    assert {row["session_id"] for row in read_rows(output, "sessions")} == set(ids(60))
    assert [path.name for path in (output / "sessions").iterdir()] == [f"dt={day}"]
    (row,) = read_rows(output, "runs")
    assert (row["flow_run_id"], row["completed"]) == (run, True)

    artifacts, log = deployed.seen(run)
    assert set(artifacts) == {"liveness-run", "liveness-outcomes", "liveness-progress-prod-eu", "liveness-report"}
    assert artifacts["liveness-progress-prod-eu"]["data"] == 100
    page = deployed.folder / "reports" / "one" / f"{day}.html"
    assert page.as_uri() in artifacts["liveness-report"]["data"]
    assert json.loads(page.with_suffix(".json").read_text())
    assert "prod_eu: 60 of 60" in log
    assert not any(session_id in f"{artifacts}{log}{found}" for session_id in ids(60))


def test_expected_failure_has_its_sentence_and_no_stack_trace(deployed: Deployed, workers: Callable[[], Any]) -> None:
    """Neither in Prefect nor in the worker's own log."""
    workers()
    (deployed.folder / "worker.log").write_bytes(b"")
    run = deployed.schedule("nightly", datetime.now(UTC), config="nowhere")
    found = deployed.ended(run)
    assert found["state_name"] == "Failed"
    assert found["state"]["message"].startswith("there is no such configuration in")
    wait_until(lambda: "Finished in state Failed" in deployed.seen(run)[1])
    assert "Traceback" not in deployed.seen(run)[1]
    assert "Traceback" not in (deployed.folder / "worker.log").read_text()


def test_parameter_that_the_flow_does_not_have_ends_the_run(deployed: Deployed, workers: Callable[[], Any]) -> None:
    """The API lets it through; nothing is asked with it."""
    workers()
    run = deployed.schedule("nightly", datetime.now(UTC), role_arn="arn:aws:iam::123456789012:role/x")
    assert deployed.ended(run)["state_type"] in ("CRASHED", "FAILED")


def test_overlapping_minute_is_cancelled(deployed: Deployed, workers: Callable[[], Any], tmp_path: Path) -> None:
    """While one sweep is at work the next one never starts. SIGTERM has the first one land what is in flight."""
    workers()
    output, now = tmp_path / "output", datetime.now(UTC)
    write_manifest(tmp_path / f"{now.date()}.csv", ids(30_000), created_at=None)
    with LocalRekognition(SUCCEEDING) as rekognition:
        deployed.configure("two", tmp_path, output, rekognition.endpoint_url)
        first = deployed.schedule("sweep", now, config="two")
        wait_until(lambda: bool(read_rows(output, "landing")), 120)
        second = deployed.ended(deployed.schedule("sweep", now, config="two"))
        os.kill(sweeping_process(output), signal.SIGTERM)
        stopped = deployed.ended(first)
        asked = asks(rekognition)
    assert (second["state_name"], second["run_count"]) == ("Cancelled", 0)
    assert second["state"]["message"] == "Deployment concurrency limit reached."
    assert stopped["state_name"] == "Failed"
    assert stopped["state"]["message"].startswith("stopped before it was through. ")
    assert set(asked.values()) == {1}
    assert {row["session_id"] for row in read_rows(output, "landing")} == set(asked)


def test_next_run_finishes_what_a_killed_worker_left(
    deployed: Deployed, workers: Callable[[], Any], tmp_path: Path
) -> None:
    """SIGKILL takes the worker and its flow's process in the middle. Another worker's run of the same night has one
    row for every id, and does not ask for what had landed."""
    output, scheduled = tmp_path / "output", datetime(2026, 3, 2, 2, tzinfo=UTC)
    write_manifest(tmp_path / "2026-03-01.csv", ids(800))
    with LocalRekognition(LocalConfig(**vars(SUCCEEDING) | {"latency_seconds": 0.1})) as rekognition:
        deployed.configure("three", tmp_path, output, rekognition.endpoint_url)
        killed = workers()
        deployed.schedule("nightly", scheduled, config="three")
        wait_until(lambda: bool(read_rows(output, "landing")), 120)
        killed.kill()
        os.kill(sweeping_process(output), signal.SIGKILL)
        killed.wait()
        landed = {row["session_id"] for row in read_rows(output, "landing")}
        assert len(landed) < 800
        assert not read_rows(output, "sessions")

        workers()
        found = deployed.ended(deployed.schedule("nightly", scheduled, config="three"))
        asked = asks(rekognition)
    assert (found["state_name"], found["state"]["message"]) == ("Completed", "800 of 800 final")
    assert sorted(row["session_id"] for row in read_rows(output, "sessions")) == sorted(ids(800))
    assert {asked[session_id] for session_id in landed} == {1}
    assert sorted(row["completed"] for row in read_rows(output, "runs")) == [False, True]
