"""Several sources, and several runs, at once."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from liveness_etl import pipeline
from liveness_etl.job import Job
from liveness_etl.local import LocalConfig, LocalRekognition
from liveness_etl.run_report import Observer, Progress
from liveness_etl.settings import load_settings
from tests.running import SUCCEEDING, ids, read_rows, write_manifest

pytestmark = pytest.mark.alone  # paces and rates


def job_over(tmp_path: Path, servers: dict[str, str], per_source: int, max_tps: float) -> Job:
    """A job that asks each named server for ids of its own."""
    config = tmp_path / "config.toml"
    config.write_text(
        "".join(
            f'[sources.{name}]\nregion = "us-east-1"\nendpoint_url = "{url}"\nmax_tps = {max_tps}\n'
            for name, url in servers.items()
        )
    )
    settings = load_settings(config, {"output.uri": str(tmp_path / "out")}, environ={})
    names, manifest = list(servers), tmp_path / "manifest.csv"
    lines = (
        f"{one},2026-03-01T12:00:00Z,{names[n % len(names)]}\n" for n, one in enumerate(ids(per_source * len(names)))
    )
    manifest.write_text("session_id,created_at,source\n" + "".join(lines))
    return Job("run", str(manifest), settings, settings.sources)


@pytest.mark.slow
def test_forty_sources_at_once_in_one_process(tmp_path: Path) -> None:
    """Each at its own pace: forty times 5/s, which one after the other would take minutes."""
    with LocalRekognition(SUCCEEDING) as rekognition:
        job = job_over(tmp_path, {f"s{n}": rekognition.endpoint_url for n in range(40)}, 15, 5)
        report = pipeline.run(job)
    assert report.exit_code == 0
    assert report.row["landed"] == 600
    assert {sweep.source for sweep in report.sweeps} == {f"s{n}" for n in range(40)}


class Finished(Observer):
    """When each source had all of its ids."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}

    def progressed(self, progress: Progress) -> None:
        if progress.finished == progress.to_ask:
            self.at.setdefault(progress.source, time.monotonic())


def test_a_source_that_stalls_does_not_slow_another(tmp_path: Path) -> None:
    """The good one is through while all calls of the other are still without an answer."""
    stalling = LocalConfig(answer_any=True, faults={"*": ["stall", None]}, stall_seconds=3.0)
    with LocalRekognition(SUCCEEDING) as good, LocalRekognition(stalling) as bad:
        finished = Finished()
        report = pipeline.run(
            job_over(tmp_path, {"good": good.endpoint_url, "bad": bad.endpoint_url}, 100, 100), finished
        )
    assert report.row["landed"] == 200
    assert finished.at["bad"] - finished.at["good"] > 1.0


def command(manifest: Path, output: Path, url: str, *flags: str) -> list[str]:
    return [
        *(sys.executable, "-m", "liveness_etl", "sweep", str(manifest), "--output", str(output), "--quiet"),
        *("--endpoint-url", url, "--region", "us-east-1", "--max-tps", "40", *flags),
    ]


@pytest.mark.slow
def test_two_runs_with_half_of_the_pace_each_stay_below_the_ceiling_together(tmp_path: Path) -> None:
    """Two real processes, one output, one source; the server counts."""
    with LocalRekognition(SUCCEEDING) as rekognition:
        running = [
            subprocess.Popen(
                command(
                    write_manifest(tmp_path / f"{name}.csv", ids(150, seed)),
                    tmp_path / "out",
                    rekognition.endpoint_url,
                    "--share",
                    "0.5",
                )
            )
            for name, seed in (("one", 1), ("two", 2))
        ]
        assert [process.wait(60) for process in running] == [0, 0]
        per_second = rekognition.stats()["accepted_per_second"]
    assert sum(per_second) == 300
    assert max(per_second) <= 40 + 4  # 50 ms of slots may be caught up by each
    assert len(read_rows(tmp_path / "out", "landing")) == 300


@pytest.mark.slow
def test_a_second_run_of_the_same_source_is_refused_before_any_call(tmp_path: Path) -> None:
    """Exit 2 and the holder's name, and no record of a run that was none."""
    output = tmp_path / "out"
    with LocalRekognition(SUCCEEDING) as rekognition:
        first = subprocess.Popen(
            command(write_manifest(tmp_path / "one.csv", ids(200)), output, rekognition.endpoint_url)
        )
        try:
            while not list((output / "_state" / "leases").glob("*.json")):
                time.sleep(0.05)
            manifest = write_manifest(tmp_path / "two.csv", ids(10, 2))
            second = subprocess.run(
                command(manifest, output, rekognition.endpoint_url), capture_output=True, text=True, check=False
            )
        finally:
            first.wait(60)
        asked = set(rekognition.stats()["asks_by_id"])
    assert second.returncode == 2
    assert "is being swept by run" in second.stderr
    assert not asked & set(ids(10, 2))
    assert len(read_rows(output, "runs")) == 1


def test_the_pace_over_http_stays_below_the_limit(tmp_path: Path) -> None:
    """Ceiling = limit, one in ten ids meets a fault: hardly a call is rejected."""
    faulty = LocalConfig(answer_any=True, limit_tps=100, fault_share=0.09, fault_kinds=("500", "reset", "garbage"))
    with LocalRekognition(faulty) as rekognition:
        report = pipeline.run(job_over(tmp_path, {"one": rekognition.endpoint_url}, 600, 100))
        stats = rekognition.stats()
    assert report.row["landed"] == 600
    assert stats["throttled"] <= 0.02 * stats["requests"]
