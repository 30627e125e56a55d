"""An S3 that says SlowDown, or nothing at all, in the middle of a run: nothing is lost, and the run ends in time."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from liveness_etl import pipeline, storage_s3_client
from liveness_etl.errors import StoreError
from liveness_etl.job import Job
from liveness_etl.load import images, landing_writer
from liveness_etl.local import LocalConfig, LocalRekognition
from liveness_etl.run_report import RunReport
from liveness_etl.storage import open_store
from tests.faulty_proxy import FaultyProxy
from tests.landing_rows import sessions, table
from tests.running import DT, ids, make_job, wait_until, write_manifest
from tests.stored import paths

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("s3_endpoint", ["moto"], indirect=True)]

COUNT = 150
PACE = 50.0
INLINE = LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 1.0}, image_mode="inline", image_bytes=300)


@pytest.fixture
def rekognition() -> Iterator[LocalRekognition]:
    with LocalRekognition(INLINE) as running:
        yield running


@pytest.fixture
def proxy(s3_endpoint: str, proxy_of: Callable[[str], FaultyProxy]) -> FaultyProxy:
    return proxy_of(s3_endpoint)


@pytest.fixture
def job(rekognition: LocalRekognition, proxy: FaultyProxy, bucket: str, tmp_path: Path) -> Job:
    """Three seconds of asking, images inline, through the proxy."""
    manifest = write_manifest(tmp_path / "manifest.csv", ids(COUNT))
    return job_through(proxy, manifest, bucket, rekognition)


def job_through(proxy: FaultyProxy, manifest: Path, bucket: str, rekognition: LocalRekognition) -> Job:
    return make_job(
        manifest,
        f"s3://{bucket}/out",
        rekognition.endpoint_url,
        max_tps=PACE,
        sweep__checkpoint_seconds=0.5,
        output__endpoint_url=proxy.url,
        output__region="us-east-1",
    )


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent S3 is given up after two seconds instead of ten; patience is shorter in proportion."""
    monkeypatch.setattr(storage_s3_client, "_READ_SECONDS", 2)
    monkeypatch.setattr(storage_s3_client, "_ATTEMPTS", 4)
    monkeypatch.setattr(landing_writer, "_PATIENCE_SECONDS", 15.0)
    monkeypatch.setattr(images, "_PATIENCE_SECONDS", 15.0)


def run_in_background(job: Job, into: list[RunReport | BaseException]) -> threading.Thread:
    def work() -> None:
        try:
            into.append(pipeline.run(job))
        except BaseException as error:
            into.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def assert_complete(s3_endpoint: str, bucket: str) -> None:
    """Every id answered, every image referred to and there."""
    store = open_store(f"s3://{bucket}/out", endpoint_url=s3_endpoint, region="us-east-1")
    found = sessions(store, DT)
    assert [row["session_id"] for row in found] == sorted(ids(COUNT))
    assert {row["outcome"] for row in found} == {"SUCCEEDED"}
    assert {row["error_code"] for row in found} == {None}
    boxes = table(store, "bounding_boxes", DT).to_pylist()
    stored = {store.uri_of(path) for path in paths(store, "images/")}
    assert {box["image_uri"] for box in boxes} == stored
    store._client.close()  # type: ignore[attr-defined]


def drop_lease(s3_endpoint: str, bucket: str) -> None:
    """The run that could not let go of it is dead as a rule, and known to be; here its process lives on."""
    store = open_store(f"s3://{bucket}/out", endpoint_url=s3_endpoint, region="us-east-1")
    store.delete(["_state/leases/default.json"])
    store._client.close()  # type: ignore[attr-defined]


def calls_of(rekognition: LocalRekognition) -> int:
    return int(rekognition.stats()["requests"])


@pytest.mark.parametrize(
    ("fault", "rooms"),
    [("slow_down", ("landing",)), ("stall", ("images",)), ("slow_down", ()), ("stall", ())],
    ids=["slow_down-landing", "stall-images", "slow_down-all", "stall-all"],
)
def test_fault_of_some_seconds_in_the_middle_of_a_sweep_loses_nothing(
    job: Job,
    rekognition: LocalRekognition,
    proxy: FaultyProxy,
    s3_endpoint: str,
    bucket: str,
    impatient: None,
    state_home: Path,
    fault: str,
    rooms: tuple[str, ...],
) -> None:
    """It ends with exit code 0 and all rows and images; meanwhile hardly a call is made."""
    ended: list[RunReport | BaseException] = []
    running = run_in_background(job, ended)
    wait_until(lambda: calls_of(rekognition) >= 30)
    proxy.set(fault, *rooms)
    time.sleep(1.5)  # longer than the checkpoint, and than 64 answers take
    before = calls_of(rekognition)
    time.sleep(1.5)
    during = calls_of(rekognition) - before
    proxy.set("none")
    running.join(90)
    assert isinstance(ended[0], RunReport), ended
    assert ended[0].exit_code == 0
    assert during <= 0 if rooms != ("images",) else during <= 64
    assert calls_of(rekognition) == COUNT
    assert_complete(s3_endpoint, bucket)
    assert list(state_home.rglob("*.parquet")) == []


def test_s3_that_falls_silent_while_tables_are_replaced_is_waited_for(
    job: Job, proxy: FaultyProxy, s3_endpoint: str, bucket: str, impatient: None
) -> None:
    """Children are new, `sessions` hangs: publish goes on as soon as S3 does."""
    proxy.set("stall", "tables")
    ended: list[RunReport | BaseException] = []
    running = run_in_background(job, ended)
    store = open_store(f"s3://{bucket}/out", endpoint_url=s3_endpoint, region="us-east-1")
    wait_until(lambda: len(paths(store, "landing/")) >= 3)
    time.sleep(4)
    assert paths(store, "sessions/") == []
    proxy.set("none")
    running.join(90)
    assert isinstance(ended[0], RunReport), ended
    assert ended[0].exit_code == 0
    assert_complete(s3_endpoint, bucket)
    store._client.close()  # type: ignore[attr-defined]


def test_s3_that_says_slow_down_for_good_ends_the_run_and_the_next_one_lands_what_was_rescued(
    job: Job,
    rekognition: LocalRekognition,
    proxy: FaultyProxy,
    s3_endpoint: str,
    bucket: str,
    impatient: None,
    state_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One sentence that says where the answers are; nobody is asked twice for them."""
    monkeypatch.setattr(storage_s3_client, "_ATTEMPTS", 2)
    monkeypatch.setattr(landing_writer, "_PATIENCE_SECONDS", 2.0)
    ended: list[RunReport | BaseException] = []
    running = run_in_background(job, ended)
    wait_until(lambda: calls_of(rekognition) >= 30)
    proxy.set("slow_down")
    running.join(90)
    assert isinstance(ended[0], StoreError), ended
    assert "SlowDown" in str(ended[0])
    assert f"they are safe in {state_home}/liveness-etl/rescue" in str(ended[0])
    (rescued,) = state_home.rglob("*.parquet")
    assert rescued.stat().st_mode & 0o777 == 0o600
    asked = calls_of(rekognition)
    assert asked < COUNT
    proxy.set("none")
    drop_lease(s3_endpoint, bucket)
    again = pipeline.run(replace(job, run_id="run-2"))
    assert again.exit_code == 0
    assert again.row["already_final"] == asked
    assert not rescued.exists()
    assert calls_of(rekognition) == COUNT


@pytest.mark.alone
@pytest.mark.parametrize("rooms", [("landing",), ("images",), ()], ids=["landing", "images", "all"])
def test_stop_while_s3_is_silent_ends_within_ten_seconds_and_loses_nothing(
    rekognition: LocalRekognition,
    proxy: FaultyProxy,
    s3_endpoint: str,
    bucket: str,
    state_home: Path,
    tmp_path: Path,
    rooms: tuple[str, ...],
) -> None:
    """A real process with S3's real timeouts: what it has read is landed or rescued, images or not."""
    manifest = write_manifest(tmp_path / "manifest.csv", ids(COUNT))
    command = [
        *(sys.executable, "-m", "liveness_etl", "run", str(manifest), "--output", f"s3://{bucket}/out", "--quiet"),
        *("--endpoint-url", rekognition.endpoint_url, "--region", "us-east-1", "--max-tps", str(PACE)),
    ]
    through = {"LIVENESS_ETL__OUTPUT__ENDPOINT_URL": proxy.url, "LIVENESS_ETL__SWEEP__CHECKPOINT_SECONDS": "0.5"}
    with subprocess.Popen(command, env=os.environ | through, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: calls_of(rekognition) >= 30)
        proxy.set("stall", *rooms)
        time.sleep(1.5)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            said = process.communicate(timeout=30)[1]
        finally:
            process.kill()
        seconds = time.monotonic() - started
    assert seconds < 10
    rescued = list(state_home.rglob("*.parquet"))
    assert (process.returncode, len(rescued)) in ([(3, 0)] if rooms == ("images",) else [(1, 1), (3, 1)]), said
    if process.returncode == 1:  # 3: the ten seconds were over before it could be said
        assert str(rescued[0].parent.parent) in said
    if rooms == ("landing",):
        assert process.returncode == 1
    asked = calls_of(rekognition)
    proxy.set("none")
    again = pipeline.run(job_through(proxy, manifest, bucket, rekognition))
    assert again.row["requested"] == COUNT
    assert again.row["already_final"] == asked
    assert calls_of(rekognition) == COUNT
