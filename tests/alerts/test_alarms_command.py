"""`run`, `sweep` and `import` tell the webhook what a person has to know: codes and counts, once, and never an id."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from liveness_etl.alerts.watch import FOLDER
from liveness_etl.cli import main
from liveness_etl.local import LocalConfig, LocalRekognition
from liveness_etl.storage import open_store
from tests.alerts.test_watch import die_holding_a_lease, record
from tests.running import ids, read_rows, wait_until, write_manifest
from tests.webhook_receiver import SECRET, Receiver

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def rekognition() -> Iterator[LocalRekognition]:
    with LocalRekognition(LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 1.0})) as running:
        yield running


@pytest.fixture
def command(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs a command that has a webhook: its exit code, and what it said. No secret and no id may be in that."""
    monkeypatch.setenv("LIVENESS_ETL__ALERTS__WEBHOOK_URL", receiver.url)

    def run(*arguments: str | Path) -> tuple[int, str]:
        options = ("--output", tmp_path / "output", "--region", "us-east-1", "--quiet")
        options += () if arguments[0] == "import" else ("--max-tps", "500")
        monkeypatch.setattr(sys, "argv", ["liveness-etl", *map(str, (*arguments, *options))])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert printed.out == ""
        assert SECRET not in printed.err
        assert not any(one in f"{printed.err} {receiver.posts}" for one in ids(100))
        assert isinstance(ended.value.code, int)
        return ended.value.code, printed.err

    return run


def test_run_above_a_limit_is_told_once_and_keeps_its_exit_code(
    command: Command, receiver: Receiver, tmp_path: Path
) -> None:
    """Every id is final, so the code is 0; the message is for people (`text`) and for programs (`run`)."""
    manifest = write_manifest(tmp_path / "m.csv", ids(100))
    with LocalRekognition(LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 0.6, "EXPIRED": 0.4})) as server:
        code, said = command("run", manifest, "--endpoint-url", server.endpoint_url)
        (row,) = read_rows(tmp_path / "output", "runs")
        assert code == 0
        expired = row["by_outcome"]["EXPIRED"]
        sentence = f"{expired}.0 % of 100 ids were EXPIRED (alerts.max_expired_share = 5 %): sweep every minute"
        assert said.count(f"WARNING alert: {sentence}") == 1
        (message,) = receiver.messages
        assert message["text"] == f"liveness-etl run {row['run_id']}: {sentence}"
        assert (message["code"], message["reasons"]) == ("Threshold", [sentence])
        assert message["run"]["requested"] == 100
        assert message["run"]["outcomes"] == row["by_outcome"]
        command("run", manifest, "--endpoint-url", server.endpoint_url)
    assert len(receiver.posts) == 1  # the run again asked nothing: nothing to tell


def test_quiet_run_tells_nothing(
    command: Command, receiver: Receiver, rekognition: LocalRekognition, tmp_path: Path
) -> None:
    """Neither on the terminal nor to the webhook."""
    manifest = write_manifest(tmp_path / "m.csv", ids(100))
    code, said = command("run", manifest, "--endpoint-url", rekognition.endpoint_url)
    assert (code, "alert" in said, receiver.posts) == (0, False, [])


def test_run_that_ends_with_an_error_is_told_by_its_code(command: Command, receiver: Receiver, tmp_path: Path) -> None:
    """The sentence, which may name files, stays in the log; the exit code is the error's."""
    code, said = command("run", tmp_path / "missing.csv")
    assert (code, said.startswith("error: ")) == (2, True)
    (message,) = receiver.messages
    assert message["code"] == "NoManifest"
    assert message["text"] == "liveness-etl: ended with NoManifest (exit code 2); the log of the run says more"
    assert "missing.csv" not in json.dumps(message)


def test_sweeps_tell_each_kind_of_trouble_once_an_hour(command: Command, receiver: Receiver, tmp_path: Path) -> None:
    """They come every minute. What is new is told at once; the log has all of it; and a run is always told."""
    late = LocalConfig(answer_any=True, outcome_shares={"EXPIRED": 1.0})
    with LocalRekognition(late) as server:
        for number in range(3):
            manifest = write_manifest(tmp_path / f"{number}.csv", ids(90)[30 * number : 30 * number + 20 + number])
            _, said = command("sweep", manifest, "--endpoint-url", server.endpoint_url)
            assert "were EXPIRED" in said
        assert [message["run"]["requested"] for message in receiver.messages] == [20]
        manifest = write_manifest(tmp_path / "run.csv", ids(100)[90:])
        command("run", manifest, "--endpoint-url", server.endpoint_url)
    for _ in range(2):
        command("sweep", tmp_path / "missing.csv")
    assert [message["code"] for message in receiver.messages] == ["Threshold", "Threshold", "NoManifest"]


def test_import_is_told_too(command: Command, receiver: Receiver, tmp_path: Path) -> None:
    """Copies of answers that came too late."""
    lines = [json.dumps({"SessionId": one, "Status": "EXPIRED"}) for one in ids(20)]
    (tmp_path / "answers.jsonl").write_text("\n".join(lines))
    code, _ = command("import", tmp_path / "answers.jsonl", "--date", "2026-03-01")
    assert code == 0
    (message,) = receiver.messages
    assert message["reasons"][0].startswith("100.0 % of 20 ids were EXPIRED")
    assert message["run"]["command"] == "import"


def test_webhook_that_fails_is_one_line_and_no_failure(command: Command, receiver: Receiver, tmp_path: Path) -> None:
    """The exit code and the run's own error stay what they are."""
    receiver.answers += [(500, {}), (302, {"Location": "https://127.0.0.1/"})]
    for said_of_it in ("answered 500", "redirects are not followed"):
        code, said = command("run", tmp_path / "missing.csv")
        assert code == 2
        (line,) = [line for line in said.splitlines() if "alert" in line]
        assert line.startswith("ERROR an alert could not be sent: alerts.webhook_url answered ")
        assert said_of_it in line
        assert "missing.csv" in said


def test_killed_run_is_told_by_the_next_one(
    command: Command, receiver: Receiver, rekognition: LocalRekognition, tmp_path: Path
) -> None:
    """Before it asks for anything itself, and once."""
    store = open_store(str(tmp_path / "output"))
    dead = record(store, datetime.now(UTC) - timedelta(minutes=3), ended=False, command="sweep", requested=700)
    die_holding_a_lease(store, dead)
    manifest = write_manifest(tmp_path / "m.csv", ids(10))
    for _ in range(2):
        code, said = command("sweep", manifest, "--endpoint-url", rekognition.endpoint_url)
        assert code == 0
    (message,) = receiver.messages
    assert (message["code"], message["run"]["run_id"], message["run"]["requested"]) == ("RunKilled", dead, 700)
    assert "was killed: its record has no end" in message["text"]
    assert "alert" not in said
    assert [entry.path for entry in store.list(FOLDER)] == [FOLDER + dead]


def test_sweep_that_sigkill_ended_is_told_by_the_next_one(command: Command, receiver: Receiver, tmp_path: Path) -> None:
    """A real process, killed when its first answers had landed."""
    manifest, output = write_manifest(tmp_path / "m.csv", ids(60)), tmp_path / "output"
    slow = LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 1.0}, latency_seconds=0.2, limit_tps=20)
    with LocalRekognition(slow) as server:
        asking = ("--endpoint-url", server.endpoint_url)
        given = ("--output", output, "--region", "us-east-1", "--max-tps", "10")
        process = subprocess.Popen(
            [sys.executable, "-m", "liveness_etl", "sweep", manifest, *asking, *given, "--quiet"]
        )
        try:
            wait_until(lambda: bool(read_rows(output, "landing")))
        finally:
            process.kill()
            process.wait()
        server.configure(latency_seconds=0.0, limit_tps=None)
        code, _ = command("sweep", manifest, *asking)
    assert code == 0
    (message,) = receiver.messages
    assert (message["code"], message["run"]["command"], message["run"]["requested"]) == ("RunKilled", "sweep", 60)
    killed, last = read_rows(output, "runs")
    assert (message["run"]["run_id"], last["completed"]) == (killed["run_id"], True)


def test_missing_night_is_told_by_the_next_run(
    command: Command, receiver: Receiver, rekognition: LocalRekognition, tmp_path: Path
) -> None:
    """Not by a sweep, and not by the second run of the day."""
    now = datetime.now(UTC)
    store = open_store(str(tmp_path / "output"))
    for days in (2, 3, 4):
        record(store, now - timedelta(days))
    manifest = write_manifest(tmp_path / "m.csv", ids(10))
    for name in ("sweep", "run", "run"):
        command(name, manifest, "--endpoint-url", rekognition.endpoint_url)
    (message,) = receiver.messages
    yesterday = (now - timedelta(days=1)).date()
    assert (message["code"], message["run"]) == ("RunMissing", {})
    assert message["text"] == f"liveness-etl: no run started on {yesterday} (UTC), as one did on such days before"


def test_secret_is_in_no_text_of_the_settings(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in repr, nor in JSON, nor in the message for who may read the configuration."""
    from liveness_etl.settings import load_settings

    settings: Any = load_settings(None, {"alerts.webhook_url": receiver.url}, environ={})
    for text in (repr(settings), str(settings.alerts), settings.model_dump_json(), repr(settings.model_dump())):
        assert SECRET not in text
