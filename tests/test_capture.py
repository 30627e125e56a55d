"""`sweep` of a manifest that grows: what it remembers, what it takes in while it works, and that it goes on."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.httpsession
import pytest

from liveness_etl import capture, pipeline
from liveness_etl.errors import LeaseHeld, ManifestError, UsageError
from liveness_etl.extract.growing import list_growing
from liveness_etl.job import Job
from liveness_etl.load.lease import held_leases
from liveness_etl.load.manifest_memory import ManifestMemory
from liveness_etl.local import LocalRekognition
from liveness_etl.run_report import Observer, RunReport
from liveness_etl.settings import load_settings
from liveness_etl.storage import open_store
from tests.conftest import new_bucket
from tests.running import SUCCEEDING, asks, ids, make_job, read_rows, wait_until, write_manifest

LIVING = replace(SUCCEEDING, answer_any=False, start_seconds=0.0, finish_seconds=0.0)


@pytest.fixture
def rekognition() -> Iterator[LocalRekognition]:
    with LocalRekognition(SUCCEEDING) as running:
        yield running


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    """The folder that grows."""
    (tmp_path / "incoming").mkdir()
    return tmp_path / "incoming"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


@pytest.fixture
def sweep(incoming: Path, output: Path, rekognition: LocalRekognition) -> Callable[..., RunReport]:
    """Sweeps the folder once."""

    def run(**overrides: Any) -> RunReport:
        return pipeline.run(
            make_job(incoming / "*.csv", output, rekognition.endpoint_url, command="sweep", **overrides)
        )

    return run


def write(path: Path, session_ids: list[str], age: float = 10.0) -> Path:
    """A file of the manifest with sessions of this age, which was written when they were made."""
    write_manifest(path, session_ids, datetime.now(UTC) - timedelta(seconds=age))
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def done_of(output: Path, incoming: Path) -> set[str]:
    """The names of the files that are remembered as done."""
    pattern = str(incoming / "*.csv")
    done = ManifestMemory(open_store(str(output)), pattern).done
    files = list_growing(pattern, [None], None, must_exist=False).files
    return {Path(each.file.uri).name for each in files if each.version in done}


@contextmanager
def followed(job: Job, list_seconds: float = 0.3) -> Iterator[dict[str, Any]]:
    """`sweep --follow` in a thread, stopped at the end; what it returned stands in the dictionary then."""
    stop, ended = threading.Event(), dict[str, Any]()

    def follow() -> None:
        try:
            ended["code"], ended["report"] = capture.follow_growing(job, Observer(), stop, list_seconds=list_seconds)
        except BaseException as error:
            ended["error"] = error

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield ended
    finally:
        stop.set()
        thread.join()


# What it remembers


def test_an_object_is_done_when_a_later_look_finds_nothing_to_ask(
    sweep: Callable[..., RunReport], incoming: Path, output: Path, rekognition: LocalRekognition
) -> None:
    """Young and old, each id is asked once; the second sweep looks, the third reads nothing."""
    write(incoming / "young.csv", ids(20, 1))
    write(incoming / "old.csv", ids(20, 2), age=3_600)
    first = sweep()
    assert (first.row["landed"], first.exit_code, done_of(output, incoming)) == (40, 0, set())
    second = sweep()
    assert (second.row["already_final"], done_of(output, incoming)) == (40, {"young.csv", "old.csv"})
    third = sweep()
    assert (third.row["lines"], third.exit_code, third.row["completed"]) == (0, 0, True)
    assert set(asks(rekognition).values()) == {1}


def test_a_changed_object_is_read_again(
    sweep: Callable[..., RunReport], incoming: Path, output: Path, rekognition: LocalRekognition
) -> None:
    """The same name with other content: its new ids are asked, those it had before are final."""
    write(incoming / "one.csv", ids(10, 1))
    sweep()
    sweep()
    write(incoming / "one.csv", ids(10, 1) + ids(5, 2), age=9)
    report = sweep()
    assert (report.row["already_final"], report.row["landed"]) == (10, 5)
    assert set(asks(rekognition).values()) == {1}


def test_ten_thousand_done_files_are_not_read_again(
    sweep: Callable[..., RunReport], incoming: Path, output: Path
) -> None:
    """Of 10,000 files and a new one, the new one's lines are read."""
    for number in range(10_000):
        (incoming / f"{number:05d}.csv").write_text("session_id\nno id\n")
    pattern = str(incoming / "*.csv")
    known = {each.version for each in list_growing(pattern, [None], None, must_exist=True).files}
    ManifestMemory(open_store(str(output)), pattern).remember("earlier", known, set())
    write(incoming / "new.csv", ids(5))
    assert sweep().row["lines"] == 5


def test_done_objects_on_s3_are_listed_and_not_fetched(
    tmp_path: Path,
    rekognition: LocalRekognition,
    client_of: Callable[[str], Any],
    moto_endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A GET for each in the first two sweeps, none in the third, but for an object that came and one that changed."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto_endpoint)
    s3, output = client_of(moto_endpoint), tmp_path / "output"
    prefix = f"s3://{new_bucket(s3)}/sessions/"
    job = make_job(prefix, output, rekognition.endpoint_url, command="sweep")

    def put(number: int, count: int = 1) -> None:
        body = write_manifest(tmp_path / "one.csv", ids(count, number), datetime.now(UTC)).read_bytes()
        s3.put_object(Bucket=prefix.split("/")[2], Key=f"sessions/{number}.csv", Body=body)

    def fetched() -> int:
        requests: list[str] = []
        real_send = botocore.httpsession.URLLib3Session.send

        def send(self: Any, request: Any) -> Any:
            if request.method == "GET" and ".csv" in request.url:
                requests.append(request.url)
            return real_send(self, request)

        with monkeypatch.context() as patch:
            patch.setattr(botocore.httpsession.URLLib3Session, "send", send)
            assert pipeline.run(job.again()).exit_code == 0
        return len(requests)

    for number in range(30):
        put(number)
    assert [fetched(), fetched(), fetched()] == [30, 30, 0]
    put(3, 2)
    put(31)
    assert fetched() == 2
    assert set(asks(rekognition).values()) == {1}


def test_malformed_lines_are_written_once_for_each_version_of_an_object(
    sweep: Callable[..., RunReport], incoming: Path, output: Path, rekognition: LocalRekognition
) -> None:
    """Not by every sweep that reads the object again for what is unfinished in it; counted by each."""
    rekognition.configure(outcome_shares={"IN_PROGRESS": 1.0})
    path = write(incoming / "one.csv", [*ids(3), "no id"])
    assert [sweep().row["rejected"] for _ in range(3)] == [1, 1, 1]
    assert len(read_rows(output, "rejects")) == 1
    path.write_text(path.read_text() + "none either,\n")
    assert sweep().row["rejected"] == 2
    assert len(read_rows(output, "rejects")) == 3


def test_unfinished_ids_are_taken_along_for_the_lookback_and_then_left(
    sweep: Callable[..., RunReport],
    incoming: Path,
    rekognition: LocalRekognition,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By when their object was written; one sentence says how many are left alone."""
    caplog.set_level("INFO", "liveness_etl")
    rekognition.configure(faults={"*": "denied"})
    write(incoming / "yesterday.csv", ids(3, 1), age=86_400)
    write(incoming / "long ago.csv", ids(3, 2), age=4 * 86_400)
    for times in (1, 2):
        assert sweep().exit_code == 3
        assert asks(rekognition) == dict.fromkeys(ids(3, 1), times)
    assert "1 objects of the manifest with unfinished ids have not changed since" in caplog.text
    assert sweep(manifest__lookback_days=5).row["requested"] == 6
    assert sweep(manifest__lookback_days=0).row["requested"] == 0


def test_lines_of_a_dated_prefix_belong_to_its_date(
    tmp_path: Path, incoming: Path, output: Path, rekognition: LocalRekognition
) -> None:
    """The run's date and the lookback before it; not to the day of the sweep, for want of created_at."""
    today = datetime.now(UTC).date()
    days = [today - timedelta(days=number) for number in range(4)]
    for number, day in enumerate(days):
        (incoming / f"{day}").mkdir()
        (incoming / f"{day}" / "one.txt").write_text("\n".join(ids(2, number)) + "\n")
    job = make_job(incoming / "{date}" / "*.txt", output, rekognition.endpoint_url, command="sweep")
    with pytest.raises(ManifestError, match="--date"):
        pipeline.run(job)
    pipeline.run(replace(job.again(), run_date=today))
    landed = {path.name for path in (output / "landing").iterdir()}
    assert landed == {f"dt={day}" for day in days[:3]}


def test_follow_takes_today_for_the_date_of_a_prefix(
    incoming: Path, output: Path, rekognition: LocalRekognition
) -> None:
    """A process that goes on for days cannot be given one."""
    today = incoming / f"{datetime.now(UTC).date()}"
    today.mkdir()
    (today / "one.txt").write_text("\n".join(ids(2)) + "\n")
    with followed(make_job(incoming / "{date}" / "*.txt", output, rekognition.endpoint_url, command="sweep")) as ended:
        wait_until(lambda: [run["landed"] for run in read_rows(output, "runs") if run["completed"]] == [2])
    assert ended["code"] == 0
    assert [path.name for path in (output / "landing").iterdir()] == [f"dt={today.name}"]


def test_an_object_that_cannot_be_read_does_not_keep_the_others_from_their_turn(
    sweep: Callable[..., RunReport], incoming: Path, output: Path, rekognition: LocalRekognition
) -> None:
    """Their answers are landed; then the exit code is 2, and the sentence is about that object."""
    write(incoming / "good.csv", ids(4))
    (incoming / "bad.csv").write_text("other_column\nx\n")
    with pytest.raises(ManifestError, match=r"bad\.csv"):
        sweep()
    assert set(asks(rekognition)) == set(ids(4))
    with pytest.raises(ManifestError, match=r"bad\.csv"):
        sweep()
    assert done_of(output, incoming) == {"good.csv"}


def test_ask_again_asks_for_ids_of_done_objects(
    sweep: Callable[..., RunReport], incoming: Path, rekognition: LocalRekognition
) -> None:
    """What is remembered must not stand against what a person asks for."""
    write(incoming / "one.csv", ids(4))
    sweep()
    sweep()
    sweep(ask_again=("SUCCEEDED",))
    assert set(asks(rekognition).values()) == {2}


# While it works


def test_an_object_that_comes_while_a_backlog_is_asked_is_captured_before_it(
    incoming: Path, output: Path, rekognition: LocalRekognition
) -> None:
    """A living id does not wait for expired ones, and the record accounts for all that came."""
    dead, living = ids(400, 1), ids(10, 2)
    write(incoming / "dead.csv", dead, age=3_600)
    job = make_job(incoming / "*.csv", output, rekognition.endpoint_url, command="sweep", max_tps=80)
    reports = list[RunReport]()
    sweeping = threading.Thread(
        target=lambda: reports.append(capture.sweep_growing(job, Observer(), threading.Event(), list_seconds=0.2))
    )
    sweeping.start()
    wait_until(lambda: rekognition.stats()["requests"] >= 20)
    path = write(incoming / "living.part", [*living, dead[0], living[0]], age=1)
    path.rename(incoming / "living.csv")
    wait_until(lambda: set(living) <= set(asks(rekognition)))
    asked_before = rekognition.stats()["requests"]
    sweeping.join()
    assert asked_before < 250
    (report,) = reports
    row = report.row
    assert (row["lines"], row["requested"], row["duplicates"]) == (412, 410, 2)
    assert (row["landed"], row["already_final"], row["not_asked"], report.exit_code) == (410, 0, 0, 0)
    assert set(asks(rekognition).values()) == {1}
    assert len(read_rows(output, "runs")) == 1


def test_a_source_whose_first_ids_come_while_another_is_swept_is_asked_as_well(
    tmp_path: Path, incoming: Path, output: Path
) -> None:
    """Its sweep, with a lease of its own, starts then."""
    with LocalRekognition(SUCCEEDING) as eu, LocalRekognition(SUCCEEDING) as us:
        config = tmp_path / "config.toml"
        config.write_text(
            "".join(
                f'[sources.{name}]\nregion = "us-east-1"\nendpoint_url = "{server.endpoint_url}"\nmax_tps = 40\n'
                for name, server in (("eu", eu), ("us", us))
            )
        )
        settings = load_settings(config, {"output.uri": str(output)}, environ={})
        job = Job("sweep", str(incoming / "*.csv"), settings, settings.sources)
        at = datetime.now(UTC).isoformat()

        def add(name: str, seed: int, count: int) -> None:
            lines = [f"{one},{at},{name}\n" for one in ids(count, seed)]
            part = incoming / f"{name}.part"
            part.write_text("session_id,created_at,source\n" + "".join(lines))
            part.rename(incoming / f"{name}.csv")

        add("eu", 1, 100)
        reports = list[RunReport]()
        sweeping = threading.Thread(
            target=lambda: reports.append(capture.sweep_growing(job, Observer(), threading.Event(), list_seconds=0.2))
        )
        sweeping.start()
        wait_until(lambda: eu.stats()["requests"] >= 5)
        add("us", 2, 10)
        sweeping.join()
        assert (set(asks(eu)), set(asks(us))) == (set(ids(100, 1)), set(ids(10, 2)))
    (report,) = reports
    assert sorted(sweep.source for sweep in report.sweeps) == ["eu", "us"]
    assert (report.row["landed"], report.exit_code) == (110, 0)


@pytest.mark.alone
def test_ids_that_were_not_finished_are_asked_again_in_the_next_round(incoming: Path, output: Path) -> None:
    """While a backlog is asked, a round ends after a third of the sessions' life; each round is a run with a record."""
    with LocalRekognition(replace(LIVING, finish_seconds=2.0, ttl_seconds=30.0)) as server:
        living, dead = ids(5, 1), ids(300, 2)
        server.add_sessions([(one, time.time() - 3_600) for one in dead])
        server.add_sessions([(one, time.time()) for one in living])
        write(incoming / "dead.csv", dead, age=3_600)
        write(incoming / "living.csv", living, age=0)
        job = make_job(
            incoming / "*.csv",
            output,
            server.endpoint_url,
            command="sweep",
            max_tps=50,
            sweep__session_ttl_seconds=9,
        )
        report = capture.sweep_growing(job, Observer(), threading.Event(), list_seconds=60.0)
        assert report.exit_code == 0
        assert all(asks(server)[one] > 1 for one in living)
        assert {asks(server)[one] for one in dead} == {1}
    rows = read_rows(output, "landing")
    assert {row["session_id"] for row in rows if row["status"] == "SUCCEEDED"} == set(living)
    runs = read_rows(output, "runs")
    assert len(runs) > 1
    for run in runs:
        assert run["completed"]
        assert run["requested"] == run["already_final"] + run["landed"] + run["not_asked"]


# For ever


def test_follow_records_only_rounds_in_which_there_was_something_to_ask(
    incoming: Path, output: Path, rekognition: LocalRekognition
) -> None:
    """Empty rounds leave nothing behind, and what comes later is asked."""
    write(incoming / "one.csv", ids(5, 1))
    with followed(make_job(incoming / "*.csv", output, rekognition.endpoint_url, command="sweep")) as ended:
        wait_until(lambda: done_of(output, incoming) == {"one.csv"})
        write(incoming / "two.csv", ids(5, 2))
        wait_until(lambda: done_of(output, incoming) == {"one.csv", "two.csv"})
    assert ended["code"] == 0
    assert [run["landed"] for run in read_rows(output, "runs")] == [5, 5]
    assert len(list((output / "_state" / "manifests").rglob("*.parquet"))) == 2


def test_follow_survives_an_output_and_a_source_that_fail_for_a_while(
    incoming: Path, output: Path, rekognition: LocalRekognition, caplog: pytest.LogCaptureFixture
) -> None:
    """One line each, and it is tried again; at the end every id has its answer."""
    write(incoming / "one.csv", ids(30, 1))
    job = make_job(incoming / "*.csv", output, rekognition.endpoint_url, command="sweep")
    with followed(job) as ended:
        wait_until(lambda: len(read_rows(output, "landing")) == 30)
        rekognition.configure(faults={"*": "denied"})
        write(incoming / "two.csv", ids(30, 2))
        wait_until(lambda: "source default is tried again in" in caplog.text)
        rekognition.configure(faults={})
        wait_until(lambda: done_of(output, incoming) == {"one.csv", "two.csv"})
        (output / "_state" / "leases").rename(output / "elsewhere")
        (output / "_state" / "leases").write_text("no folder")
        write(incoming / "three.csv", ids(30, 3))
        wait_until(lambda: "leases" in caplog.text)
        (output / "_state" / "leases").unlink()
        wait_until(lambda: "three.csv" in done_of(output, incoming))
    assert ended["code"] == 0
    assert {row["session_id"] for row in read_rows(output, "landing") if row["status"]} == set(
        ids(30, 1) + ids(30, 2) + ids(30, 3)
    )


def test_follow_ends_at_once_for_wrong_usage(incoming: Path, output: Path, rekognition: LocalRekognition) -> None:
    """A manifest that does not grow, one that is not there, a source that another run sweeps."""
    job = make_job(incoming / "*.csv", output, rekognition.endpoint_url, command="sweep")
    with pytest.raises(UsageError, match="--follow needs a manifest that grows"):
        capture.follow_growing(replace(job, manifest_uri="one.csv"), Observer(), threading.Event())
    with pytest.raises(ManifestError, match="Nothing matches"):
        capture.follow_growing(job, Observer(), threading.Event())
    write(incoming / "one.csv", ids(3))
    with held_leases(open_store(str(output)), ["default"], "other", 1.0, lambda: None), pytest.raises(LeaseHeld):
        capture.follow_growing(job, Observer(), threading.Event())
    assert not list(output.glob("runs/**/*.parquet"))


def test_follow_that_is_stopped_while_it_asks_lands_what_is_in_flight(
    incoming: Path, output: Path, rekognition: LocalRekognition
) -> None:
    """Exit code 3, and the record says that it did not complete."""
    write(incoming / "one.csv", ids(500))
    with followed(make_job(incoming / "*.csv", output, rekognition.endpoint_url, command="sweep", max_tps=50)) as ended:
        wait_until(lambda: rekognition.stats()["requests"] >= 20)
    assert ended["code"] == 3
    (run,) = read_rows(output, "runs")
    assert (run["completed"], run["landed"]) == (False, len(read_rows(output, "landing")))
    assert run["landed"] == len(asks(rekognition))


# As a user types it


@contextmanager
def process(incoming: Path, output: Path, rekognition: LocalRekognition, *more: str) -> Iterator[subprocess.Popen[str]]:
    """`liveness-etl sweep … --follow` in a process of its own, killed at the end if it still lives."""
    running = subprocess.Popen(
        [
            *(sys.executable, "-m", "liveness_etl", "sweep", str(incoming / "*.csv"), "--follow"),
            *("--output", str(output), "--region", "us-east-1", "--endpoint-url", rekognition.endpoint_url, *more),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def ended(running: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str, bool]:
    """Its exit code, what it said, and whether it ended in time, after a signal."""
    sent_at = time.monotonic()
    running.send_signal(number)
    _, said = running.communicate(timeout=30)
    return running.returncode, said, time.monotonic() - sent_at < 10.0


@pytest.mark.slow
def test_sigterm_ends_follow_with_0_when_all_is_asked_and_with_3_in_the_middle(
    incoming: Path, output: Path, rekognition: LocalRekognition
) -> None:
    """Within ten seconds, whatever is in flight; another process goes on from there, and asks nothing twice."""
    write(incoming / "one.csv", ids(200))
    with process(incoming, output, rekognition, "--max-tps", "50") as running:
        wait_until(lambda: rekognition.stats()["requests"] >= 20)
        code, said, in_time = ended(running, signal.SIGTERM)
        assert (code, in_time) == (3, True), said
        assert "Traceback" not in said
    landed = {row["session_id"] for row in read_rows(output, "landing")}
    assert landed == set(asks(rekognition))
    with process(incoming, output, rekognition, "--max-tps", "500") as running:
        wait_until(lambda: len(asks(rekognition)) == 200)
        wait_until(lambda: all(run["finished_at"] for run in read_rows(output, "runs")))
        code, said, in_time = ended(running, signal.SIGINT)
        assert (code, in_time) == (0, True), said
    assert set(asks(rekognition).values()) == {1}


@pytest.mark.slow
def test_follow_that_was_killed_leaves_the_rest_to_the_next_one(
    incoming: Path, output: Path, rekognition: LocalRekognition
) -> None:
    """Its lease is taken over at once, and what had landed is not asked again."""
    write(incoming / "one.csv", ids(300))
    with process(incoming, output, rekognition, "--max-tps", "60") as running:
        wait_until(lambda: len(read_rows(output, "landing")) >= 60)
        running.kill()
        running.wait()
    landed = {row["session_id"] for row in read_rows(output, "landing")}
    before = asks(rekognition)
    with process(incoming, output, rekognition, "--max-tps", "500"):
        wait_until(lambda: len(read_rows(output, "landing")) >= 300)
    assert {one for one, times in asks(rekognition).items() if times != before.get(one)} == set(ids(300)) - landed
