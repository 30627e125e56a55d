"""The whole story of a run, over real HTTP, into real files: what the tables say, and what survives."""

import base64
import hashlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from liveness_etl import pipeline, run_report
from liveness_etl.errors import ManifestError
from liveness_etl.job import Job
from liveness_etl.local import LocalConfig, LocalRekognition
from liveness_etl.run_report import Observer, RunReport
from liveness_etl.settings import load_settings
from tests.local import raw
from tests.running import (
    CREATED_AT,
    DT,
    SUCCEEDING,
    asks,
    files_of,
    ids,
    make_job,
    read_rows,
    wait_until,
    write_manifest,
)

TABLES = ("sessions", "challenges", "bounding_boxes", "feedback")
MIXED = LocalConfig(
    answer_any=True,
    count_ids=True,
    image_mode="mixed",
    image_bytes=300,
    outcome_shares={
        "SUCCEEDED": 0.5,
        "FAILED": 0.2,
        "CREATED": 0.1,
        "EXPIRED": 0.1,
        "SessionNotFoundException": 0.1,
    },
)


@pytest.fixture
def rekognition() -> Iterator[LocalRekognition]:
    with LocalRekognition(SUCCEEDING) as running:
        yield running


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Sixty ids of one old partition."""
    return write_manifest(tmp_path / "manifest.csv", ids(60))


def holds_all_its_ids(report: RunReport) -> bool:
    """The equations of the runs row."""
    row = report.row
    accounted = row["already_final"] + row["landed"] + row["not_asked"]
    lines = row["requested"] + row["duplicates"] + row["rejected"] + row["forgotten"]
    return bool(row["requested"] == accounted and row["lines"] == lines)


# What the tables say


def answers_of(rekognition: LocalRekognition, session_ids: list[str]) -> dict[str, dict[str, Any]]:
    """The server's answers as they come over the wire."""
    answers = raw.ask(rekognition.port, session_ids)
    return {session_id: json.loads(body) for session_id, (_, body) in zip(session_ids, answers, strict=True)}


def expected_image(session_id: str, kind: str, index: int, image: Mapping[str, Any], output: Path) -> dict[str, Any]:
    box, stored = image.get("BoundingBox", {}), image.get("S3Object", {})
    content = base64.b64decode(image["Bytes"]) if "Bytes" in image else None
    name = "reference.jpg" if kind == "reference" else f"audit-{index}.jpg"
    kept = output / "images" / f"dt={DT}" / session_id / name
    return {
        "session_id": session_id,
        "image_type": kind,
        "image_index": index,
        "box_left": box.get("Left"),
        "box_top": box.get("Top"),
        "box_width": box.get("Width"),
        "box_height": box.get("Height"),
        "s3_bucket": stored.get("Bucket"),
        "s3_name": stored.get("Name"),
        "s3_version": stored.get("Version"),
        "image_uri": f"s3://{stored['Bucket']}/{stored['Name']}" if stored else kept.as_uri(),
        "image_sha256": content and hashlib.sha256(content).hexdigest(),
        "image_size_bytes": content and len(content),
    }


def expected_tables(
    answers: Mapping[str, dict[str, Any]], run_id: str, output: Path
) -> dict[str, list[dict[str, Any]]]:
    """The four tables, written from the answers as the contract reads."""
    tables: dict[str, list[dict[str, Any]]] = {table: [] for table in TABLES}
    for session_id, answer in sorted(answers.items()):
        tables["sessions"].append(
            {
                "session_id": session_id,
                "source": "default",
                "region": "us-east-1",
                "outcome": answer.get("Status", answer.get("__type")),
                "status": answer.get("Status"),
                "confidence": answer.get("Confidence"),
                "sdk_type": answer.get("Metadata", {}).get("SDKType"),
                "created_at": CREATED_AT,
                "attempts": 1,
                "error_code": answer.get("__type"),
                "error_message": answer.get("Message"),
                "attributes": None,
                "run_id": run_id,
            }
        )
        if "Challenge" in answer:
            challenge = answer["Challenge"]
            tables["challenges"].append(
                {"session_id": session_id, "type": challenge["Type"], "version": challenge["Version"]}
            )
        audits = [("audit", index, image) for index, image in enumerate(answer.get("AuditImages", []))]
        references = [("reference", 0, answer["ReferenceImage"])] if "ReferenceImage" in answer else []
        tables["bounding_boxes"] += [expected_image(session_id, *image, output) for image in references + audits]
        tables["feedback"] += [
            {"session_id": session_id, "feedback_index": index, "code": entry["Code"], "message": entry["Message"]}
            for index, entry in enumerate(answer.get("Feedback", []))
        ]
    return tables


def test_the_tables_hold_row_for_row_what_the_service_answers(tmp_path: Path, output: Path) -> None:
    """Every member of every answer, absent ones as NULL, images by reference and inline."""
    asked = ids(150)
    with LocalRekognition(MIXED) as rekognition:
        answers = answers_of(rekognition, asked)
        job = make_job(write_manifest(tmp_path / "manifest.csv", asked), output, rekognition.endpoint_url)
        report = pipeline.run(job)
    expected = expected_tables(answers, job.run_id, output)
    found = {table: read_rows(output, table) for table in TABLES}
    for row in found["sessions"]:
        assert job.started_at <= row.pop("fetched_at") <= datetime.now(UTC)
    found["bounding_boxes"].sort(key=lambda row: (row["session_id"], row["image_type"] == "audit", row["image_index"]))
    assert found == expected
    assert all(expected.values())
    assert report.exit_code == 0
    by_outcome = Counter(row["outcome"] for row in expected["sessions"])
    assert dict(report.row["by_outcome"]) == by_outcome


def test_inline_images_are_stored_as_they_came(tmp_path: Path, output: Path) -> None:
    """The file that image_uri names holds the very bytes, and no Parquet file holds any of them."""
    asked = ids(20)
    marker = b"IMAGE-MARKER"
    config = replace(SUCCEEDING, image_mode="inline", image_bytes=300, image_marker=marker)
    with LocalRekognition(config) as rekognition:
        pipeline.run(make_job(write_manifest(tmp_path / "manifest.csv", asked), output, rekognition.endpoint_url))
    images = read_rows(output, "bounding_boxes")
    assert len(images) > 20
    for image in images:
        content = Path(unquote(urlsplit(image["image_uri"]).path)).read_bytes()
        assert marker in content
        assert hashlib.sha256(content).hexdigest() == image["image_sha256"]
    parquet = [path.read_bytes() for path in output.rglob("*.parquet")]
    assert not any(marker in content or base64.b64encode(marker) in content for content in parquet)


def test_discarded_images_leave_their_hash_and_size(tmp_path: Path, output: Path) -> None:
    """images.mode = "discard": no file, no reference."""
    config = replace(SUCCEEDING, image_mode="inline", image_bytes=300)
    manifest = write_manifest(tmp_path / "manifest.csv", ids(10))
    with LocalRekognition(config) as rekognition:
        report = pipeline.run(make_job(manifest, output, rekognition.endpoint_url, images__mode="discard"))
    images = read_rows(output, "bounding_boxes")
    assert {image["image_uri"] for image in images} == {None}
    assert {image["image_size_bytes"] for image in images} == {300}
    assert all(image["image_sha256"] for image in images)
    assert not (output / "images").exists()
    assert report.exit_code == 0


def test_attributes_duplicates_and_rejects_are_accounted_for(
    rekognition: LocalRekognition, tmp_path: Path, output: Path
) -> None:
    """The first line of an id gives its attributes; a malformed line stands in rejects by its number alone."""
    one, two, three = ids(3)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(
        "session_id,created_at,user,secret\n"
        f"{one},2026-03-01T12:00:00Z,u1,s\n"
        "no-uuid,2026-03-01T12:00:00Z,u2,s\n"
        f"{one.upper()},2026-03-02T12:00:00Z,u3,s\n"
        f"{two},1772366400,,s\n"
        "\n"
        f"{three},not-a-time,u4,s\n"
    )
    job = make_job(manifest, output, rekognition.endpoint_url, manifest__attributes="user")
    report = pipeline.run(job)
    assert holds_all_its_ids(report)
    row = report.row
    assert (row["lines"], row["requested"], row["duplicates"], row["rejected"]) == (5, 2, 1, 2)
    attributes = {session["session_id"]: session["attributes"] for session in read_rows(output, "sessions")}
    assert attributes[one] == {"user": "u1"}
    assert "s" not in (attributes[two] or {}).values()
    rejects = read_rows(output, "rejects")
    assert [(reject["line_number"], reject["run_id"]) for reject in rejects] == [(3, job.run_id), (7, job.run_id)]
    assert not any("no-uuid" in str(reject) or "not-a-time" in str(reject) for reject in rejects)


def test_a_line_without_a_time_goes_to_the_runs_date(
    rekognition: LocalRekognition, tmp_path: Path, output: Path
) -> None:
    """And without a date of the run such a manifest is an error: a guessed one would move with every rerun."""
    manifest = tmp_path / "ids.txt"
    manifest.write_text("\n".join(ids(5)))
    job = make_job(manifest, output, rekognition.endpoint_url)
    with pytest.raises(ManifestError):
        pipeline.run(job)
    assert not output.exists()
    pipeline.run(replace(job, run_date=date(2026, 2, 3)))
    assert len(read_rows(output, "sessions")) == 5
    assert [path.name for path in (output / "sessions").iterdir()] == ["dt=2026-02-03"]


# Running again


def test_a_rerun_asks_nothing_and_leaves_every_file_alone(
    rekognition: LocalRekognition, manifest: Path, output: Path
) -> None:
    """What is final is not asked again; a partition that is current is not written again."""
    first = pipeline.run(make_job(manifest, output, rekognition.endpoint_url))
    before = files_of(output, "landing", "images", *TABLES)
    again = pipeline.run(make_job(manifest, output, rekognition.endpoint_url))
    assert set(asks(rekognition).values()) == {1}
    assert files_of(output, "landing", "images", *TABLES) == before
    assert (first.row["landed"], again.row["landed"]) == (60, 0)
    assert (again.row["already_final"], again.row["calls"]) == (60, 0)
    assert [published.changed for published in again.published] == [False]
    assert len(read_rows(output, "runs")) == 2
    assert again.exit_code == 0


def test_what_failed_is_asked_again_and_what_succeeded_is_not(
    rekognition: LocalRekognition, manifest: Path, output: Path
) -> None:
    """A run with failed ids exits with 3 and says so in the table; the next one completes it."""
    failing = ids(60)[:5]
    rekognition.configure(faults=dict.fromkeys(failing, "500"))
    first = pipeline.run(make_job(manifest, output, rekognition.endpoint_url, sweep__retry_attempts=1))
    assert first.exit_code == 3
    assert dict(first.row["by_outcome"]) == {"SUCCEEDED": 55, "InternalServerError": 5}
    failed = [row for row in read_rows(output, "sessions") if row["outcome"] == "InternalServerError"]
    assert sorted(row["session_id"] for row in failed) == sorted(failing)
    rekognition.configure(faults={})
    again = pipeline.run(make_job(manifest, output, rekognition.endpoint_url))
    assert (again.exit_code, again.row["already_final"], again.row["landed"]) == (0, 55, 5)
    assert {row["outcome"] for row in read_rows(output, "sessions")} == {"SUCCEEDED"}
    assert {session_id for session_id, count in asks(rekognition).items() if count == 2} == set(failing)


def test_a_pending_session_is_asked_until_it_is_final(tmp_path: Path, output: Path) -> None:
    """IN_PROGRESS is no failure, and the row becomes SUCCEEDED with the run that reads it."""
    (one,) = ids(1)
    born = time.time()
    now = [born + 10]
    config = LocalConfig(count_ids=True)
    manifest = write_manifest(tmp_path / "manifest.csv", [one], datetime.fromtimestamp(born, UTC))
    with LocalRekognition(config, clock=lambda: now[0]) as rekognition:
        rekognition.add_session(one, born, "SUCCEEDED")
        codes, outcomes = [], []
        for seconds in (10, 30, 40):
            now[0] = born + seconds
            codes.append(pipeline.run(make_job(manifest, output, rekognition.endpoint_url)).exit_code)
            outcomes.append([row["outcome"] for row in read_rows(output, "sessions")])
        assert codes == [0, 0, 0]
        assert outcomes == [["IN_PROGRESS"], ["SUCCEEDED"], ["SUCCEEDED"]]
        assert asks(rekognition) == {one: 2}


def test_a_good_answer_survives_a_later_expired_one(tmp_path: Path, output: Path) -> None:
    """--ask-again lands what the service says today; the table keeps the better answer."""
    one, two = ids(2)
    now = [1_772_366_430.0]
    manifest = write_manifest(tmp_path / "manifest.csv", [one, two])
    with LocalRekognition(LocalConfig(count_ids=True), clock=lambda: now[0]) as rekognition:
        for session_id in (one, two):
            rekognition.add_session(session_id, CREATED_AT.timestamp(), "SUCCEEDED")
        pipeline.run(make_job(manifest, output, rekognition.endpoint_url))
        before = read_rows(output, "sessions")
        now[0] += 10_000
        report = pipeline.run(make_job(manifest, output, rekognition.endpoint_url, ask_again=("SUCCEEDED",)))
        assert dict(report.row["by_outcome"]) == {"EXPIRED": 2}
        assert asks(rekognition) == {one: 2, two: 2}
    assert read_rows(output, "sessions") == before
    assert len(read_rows(output, "landing")) == 4


def test_a_sweep_publishes_nothing_and_the_next_run_does_without_a_call(
    rekognition: LocalRekognition, manifest: Path, output: Path
) -> None:
    """`run` publishes what its manifest touches where it is not current, even after no calls."""
    swept = pipeline.run(make_job(manifest, output, rekognition.endpoint_url, command="sweep"))
    assert (swept.row["landed"], swept.exit_code) == (60, 0)
    assert not (output / "sessions").exists()
    report = pipeline.run(make_job(manifest, output, rekognition.endpoint_url))
    assert (report.row["calls"], report.row["already_final"]) == (0, 60)
    assert len(read_rows(output, "sessions")) == 60


def test_an_empty_manifest_is_an_empty_run(rekognition: LocalRekognition, tmp_path: Path, output: Path) -> None:
    """Recorded, complete, and no table is touched."""
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("session_id,created_at\n")
    report = pipeline.run(make_job(manifest, output, rekognition.endpoint_url))
    assert (report.exit_code, report.row["requested"], report.row["completed"]) == (0, 0, True)
    assert [row["requested"] for row in read_rows(output, "runs")] == [0]
    assert not any((output / table).exists() for table in TABLES)


# Sources that fail


def test_ids_of_a_stopped_source_are_accounted_for_as_not_asked(
    rekognition: LocalRekognition, tmp_path: Path, output: Path
) -> None:
    """One row per id even though most were never asked; the next run asks them all."""
    manifest = write_manifest(tmp_path / "manifest.csv", ids(150))
    rekognition.configure(faults={"*": "denied"})
    report = pipeline.run(make_job(manifest, output, rekognition.endpoint_url, max_tps=200))
    assert report.exit_code == 3
    assert holds_all_its_ids(report)
    assert "denied" in (report.sweeps[0].counts.stopped or "")
    outcomes = Counter(row["outcome"] for row in read_rows(output, "sessions"))
    assert sum(outcomes.values()) == 150
    assert outcomes == dict(report.row["by_outcome"])
    assert outcomes["NotAsked"] == report.row["not_asked"] > 80
    assert report.row["completed"]
    rekognition.configure(faults={})
    assert pipeline.run(make_job(manifest, output, rekognition.endpoint_url)).row["landed"] == 150
    assert {row["outcome"] for row in read_rows(output, "sessions")} == {"SUCCEEDED"}


def test_ids_whose_calls_outlive_the_drain_of_a_stopped_source_are_accounted_for(
    rekognition: LocalRekognition, tmp_path: Path, output: Path
) -> None:
    """A stalled call must not cost an id its row."""
    asked = ids(100)
    manifest = write_manifest(tmp_path / "manifest.csv", asked)
    rekognition.configure(faults={"*": "denied", asked[0]: "stall"}, stall_seconds=2.0)
    report = pipeline.run(make_job(manifest, output, rekognition.endpoint_url, max_tps=100, sweep__drain_seconds=0.3))
    assert holds_all_its_ids(report)
    assert len(read_rows(output, "sessions")) == 100


@contextmanager
def two_sources(tmp_path: Path, output: Path) -> Iterator[tuple[Job, LocalRekognition, LocalRekognition]]:
    """A job over two servers, forty ids each."""
    with LocalRekognition(SUCCEEDING) as good, LocalRekognition(SUCCEEDING) as bad:
        config = tmp_path / "config.toml"
        config.write_text(
            f'[sources.good]\nregion = "us-east-1"\nendpoint_url = "{good.endpoint_url}"\nmax_tps = 200\n'
            f'[sources.bad]\nregion = "eu-west-1"\nendpoint_url = "{bad.endpoint_url}"\nmax_tps = 200\n'
        )
        settings = load_settings(config, {"output.uri": str(output)}, environ={})
        manifest = tmp_path / "manifest.csv"
        lines = [f"{one},2026-03-01T12:00:00Z,{'good' if n % 2 else 'bad'}\n" for n, one in enumerate(ids(80))]
        manifest.write_text("session_id,created_at,source\n" + "".join(lines))
        yield Job("run", str(manifest), settings, settings.sources), good, bad


def test_a_source_that_fails_does_not_keep_another_from_completing(tmp_path: Path, output: Path) -> None:
    """Each is asked at its own server; all ids of the good one are final."""
    with two_sources(tmp_path, output) as (job, good, bad):
        bad.configure(faults={"*": "denied"})
        report = pipeline.run(job)
        assert (len(asks(good)), len(asks(bad))) == (40, 40 - report.row["not_asked"])
    assert report.exit_code == 3
    assert holds_all_its_ids(report)
    found = Counter((row["source"], row["region"], row["status"]) for row in read_rows(output, "sessions"))
    assert found == {("good", "us-east-1", "SUCCEEDED"): 40, ("bad", "eu-west-1", None): 40}


def test_two_sources_are_swept_at_the_same_time(tmp_path: Path, output: Path) -> None:
    """A slow source does not wait for the other's end."""
    with two_sources(tmp_path, output) as (job, good, bad):
        for server in (good, bad):
            server.configure(latency_seconds=0.3)
        started_at = threading.Event()
        seen = []

        class Watch(Observer):
            def progressed(self, progress: run_report.Progress) -> None:
                if good.stats()["in_flight"] and bad.stats()["in_flight"]:
                    seen.append(progress.source)
                    started_at.set()

        assert pipeline.run(job, Watch()).exit_code == 0
        assert started_at.is_set()


# Records


def test_a_run_is_recorded_before_its_first_call(rekognition: LocalRekognition, manifest: Path, output: Path) -> None:
    """Not completed, with nothing asked; the same file is replaced at the end."""
    seen: list[dict[str, Any]] = []

    class Watch(Observer):
        def planned(self, plan: object) -> None:
            assert rekognition.stats()["requests"] == 0
            seen.extend(read_rows(output, "runs"))

    job = make_job(manifest, output, rekognition.endpoint_url)
    report = pipeline.run(job, Watch())
    (started,) = seen
    (finished,) = read_rows(output, "runs")
    assert (started["completed"], started["finished_at"], started["landed"]) == (False, None, 0)
    assert (started["requested"], started["not_asked"]) == (60, 60)
    assert finished["completed"]
    assert finished["finished_at"] >= finished["started_at"]
    assert finished["by_outcome"] == dict(report.row["by_outcome"]) == {"SUCCEEDED": 60}
    assert (finished["run_id"], finished["command"]) == (job.run_id, "run")
    assert finished["manifest_sha256"] == hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert finished["expired_before_fetch"] == 60
    assert (finished["calls"], finished["landed"], finished["not_asked"]) == (60, 60, 0)


# Ends of all kinds


def test_a_stop_lands_what_is_in_flight_and_publishes_nothing(
    rekognition: LocalRekognition, tmp_path: Path, output: Path
) -> None:
    """Exit code 3, every answer kept; the rerun asks the rest alone."""
    manifest = write_manifest(tmp_path / "manifest.csv", ids(200))
    rekognition.configure(latency_seconds=0.1)
    stop = threading.Event()

    class StopEarly(Observer):
        def progressed(self, progress: run_report.Progress) -> None:
            if progress.finished >= 30:
                stop.set()

    report = pipeline.run(make_job(manifest, output, rekognition.endpoint_url, max_tps=150), StopEarly(), stop)
    assert (report.exit_code, report.row["completed"]) == (3, False)
    assert holds_all_its_ids(report)
    answered = {session_id for session_id, count in asks(rekognition).items() if count}
    assert {row["session_id"] for row in read_rows(output, "landing")} == answered
    assert report.row["landed"] == len(answered) < 200
    assert not any((output / table).exists() for table in TABLES)
    again = pipeline.run(make_job(manifest, output, rekognition.endpoint_url))
    assert again.row["already_final"] == len(answered)
    assert set(asks(rekognition).values()) == {1}
    assert len(read_rows(output, "sessions")) == 200


@contextmanager
def started_run(
    manifest: Path, output: Path, rekognition: LocalRekognition, *more: str
) -> Iterator[subprocess.Popen[str]]:
    """`liveness-etl run` as a process of its own, killed afterwards if it still lives."""
    command = [sys.executable, "-m", "liveness_etl", "run", str(manifest), "--output", str(output)]
    command += ["--endpoint-url", rekognition.endpoint_url, "--region", "us-east-1", *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def landed_ids(output: Path) -> list[str]:
    return [row["session_id"] for row in read_rows(output, "landing")]


@pytest.mark.slow
def test_a_killed_run_loses_nothing_that_was_landed_and_the_next_one_completes(
    rekognition: LocalRekognition, tmp_path: Path, output: Path
) -> None:
    """kill -9: the record shows a run that did not complete, landed ids are not asked again, all get their row."""
    manifest = write_manifest(tmp_path / "manifest.csv", ids(200))
    with started_run(manifest, output, rekognition, "--max-tps", "100") as process:
        wait_until(lambda: len(list((output / "landing").glob("*/*.parquet"))) >= 1)
        process.kill()
    (record,) = read_rows(output, "runs")
    assert (record["completed"], record["finished_at"]) == (False, None)
    safe = landed_ids(output)
    assert 0 < len(safe) < 200
    assert not (output / "sessions").exists()
    report = pipeline.run(make_job(manifest, output, rekognition.endpoint_url))
    assert (report.exit_code, report.row["already_final"]) == (0, len(safe))
    assert sorted(row["session_id"] for row in read_rows(output, "sessions")) == sorted(ids(200))
    assert {asks(rekognition)[session_id] for session_id in safe} == {1}
    assert len(landed_ids(output)) == 200


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_after_the_drain_with_all_answers_landed(
    rekognition: LocalRekognition,
    tmp_path: Path,
    output: Path,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit 3, nothing published; ids that a stalled server holds back are left for the rerun, which completes."""
    monkeypatch.setenv("LIVENESS_ETL__SWEEP__DRAIN_SECONDS", "1")
    asked = ids(200)
    manifest = write_manifest(tmp_path / "manifest.csv", asked)
    stalled = asked[50:54]
    rekognition.configure(faults=dict.fromkeys(stalled, "stall"), stall_seconds=60.0)
    with started_run(manifest, output, rekognition, "--max-tps", "100") as process:
        wait_until(lambda: rekognition.stats()["requests"] >= 60)
        process.send_signal(number)
        sent_at = time.monotonic()
        _, stderr = process.communicate(timeout=15)
        assert time.monotonic() - sent_at < 4
    assert process.returncode == 3
    assert "Traceback" not in stderr
    assert "stopping" in stderr
    assert not (output / "sessions").exists()
    (record,) = read_rows(output, "runs")
    landed = landed_ids(output)
    assert (record["completed"], record["landed"]) == (False, len(set(landed)))
    assert set(asks(rekognition)) - set(stalled) <= set(landed)
    rekognition.configure(faults={})
    report = pipeline.run(make_job(manifest, output, rekognition.endpoint_url))
    assert report.exit_code == 0
    assert sorted(row["session_id"] for row in read_rows(output, "sessions")) == sorted(asked)


@pytest.mark.alone
@pytest.mark.slow
def test_a_second_signal_ends_a_run_at_once(rekognition: LocalRekognition, tmp_path: Path, output: Path) -> None:
    """Whoever presses Ctrl-C twice does not wait for a stalled server."""
    manifest = write_manifest(tmp_path / "manifest.csv", ids(100))
    rekognition.configure(faults={"*": "stall"}, stall_seconds=60.0)
    with started_run(manifest, output, rekognition) as process:
        wait_until(lambda: rekognition.stats()["requests"] >= 1)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while "stopping" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        sent_at = time.monotonic()
        assert process.wait(5) == 3
        assert time.monotonic() - sent_at < 1


def test_a_run_from_s3_into_s3_gives_the_same_tables(
    rekognition: LocalRekognition, s3: Any, s3_endpoint: str, bucket: str, tmp_path: Path
) -> None:
    """Manifest, landing, tables, images and records in a bucket; the rerun asks and writes nothing."""
    rekognition.configure(image_mode="inline", image_bytes=300)
    manifest = write_manifest(tmp_path / "manifest.csv", ids(12))
    s3.put_object(Bucket=bucket, Key="in/manifest.csv", Body=manifest.read_bytes())
    uri = f"s3://{bucket}/output"

    def run() -> RunReport:
        return pipeline.run(
            make_job(
                f"s3://{bucket}/in/manifest.csv",
                uri,
                rekognition.endpoint_url,
                output__endpoint_url=s3_endpoint,
                output__region="us-east-1",
            )
        )

    def download() -> dict[str, str]:
        found = s3.list_objects_v2(Bucket=bucket, Prefix="output/")["Contents"]
        for entry in found:
            target = tmp_path / "copy" / entry["Key"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read())
        return {entry["Key"]: entry["ETag"] for entry in found}

    assert run().exit_code == 0
    before = download()
    sessions = read_rows(tmp_path / "copy" / "output", "sessions")
    assert [row["session_id"] for row in sessions] == sorted(ids(12))
    images = read_rows(tmp_path / "copy" / "output", "bounding_boxes")
    assert images
    assert {image["image_uri"].removeprefix(f"s3://{bucket}/") for image in images} <= before.keys()
    again = run()
    assert (again.row["already_final"], again.row["calls"]) == (12, 0)
    after = download()
    assert {key: etag for key, etag in after.items() if "/runs/" not in key} == {
        key: etag for key, etag in before.items() if "/runs/" not in key
    }


def test_no_temporary_file_is_left_behind(rekognition: LocalRekognition, manifest: Path, output: Path) -> None:
    """Neither the plan nor scratch folders."""
    pipeline.run(make_job(manifest, output, rekognition.endpoint_url))
    assert not [path for path in (output / ".tmp").rglob("*") if path.is_file()]


def test_no_temporary_folder_is_left_behind(rekognition: LocalRekognition, manifest: Path, output: Path) -> None:
    """One empty folder a run would be half a million a year for a sweep of every minute."""
    pipeline.run(make_job(manifest, output, rekognition.endpoint_url))
    assert list((output / ".tmp").iterdir()) == []
