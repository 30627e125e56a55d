"""With --log-format json, and log.format in the environment, every line on standard error is one JSON object."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from liveness_etl import logs
from liveness_etl.cli import main
from liveness_etl.local import LocalConfig, LocalRekognition
from tests.running import ids, read_rows, wait_until, write_manifest

ONE = ids(1)[0]


def parsed(said: str) -> list[dict[str, Any]]:
    """The lines of standard error, each with what every line has."""
    lines = [json.loads(line) for line in said.splitlines()]
    for line in lines:
        assert {"time", "level", "logger", "message"} <= line.keys()
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None
        assert line["level"] in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    return lines


Command = Callable[..., tuple[int, list[dict[str, Any]]]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Runs a command in this process: its exit code and its lines. Leaves this process's logs as they were."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)

    def run(*arguments: str | Path) -> tuple[int, list[dict[str, Any]]]:
        monkeypatch.setattr(sys, "argv", ["liveness-etl", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, parsed(capsys.readouterr().err)

    yield run
    logs.start("WARNING", "text")


@pytest.fixture(autouse=True)
def wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVENESS_ETL__LOG__FORMAT", "json")


@pytest.fixture
def rekognition() -> Iterator[LocalRekognition]:
    """Knows half of the ids and denies one: there is something to warn of."""
    denied = dict.fromkeys(ids(40)[:4], "denied")
    shares = {"SUCCEEDED": 0.5, "EXPIRED": 0.5}
    with LocalRekognition(LocalConfig(answer_any=True, outcome_shares=shares, faults=denied)) as running:
        yield running


def test_every_line_of_every_command_is_an_object(
    command: Command, rekognition: LocalRekognition, tmp_path: Path
) -> None:
    """Progress, figures, warnings and errors, whatever the command; and a run's lines name the run and the source."""
    output, manifest = tmp_path / "output", write_manifest(tmp_path / "m.csv", [*ids(40), "no id"])
    asking = (manifest, "--endpoint-url", rekognition.endpoint_url, "--region", "us-east-1", "--max-tps", "500")
    code, lines = command("run", *asking, "--output", output, "--verbose")
    assert code == 3
    (run_id,) = {line["run_id"] for line in lines if "run_id" in line}
    assert run_id == read_rows(output, "runs")[0]["run_id"]
    by_source = [line for line in lines if line.get("source") == "default"]
    assert {"DEBUG", "INFO"} <= {line["level"] for line in by_source}
    warnings = [line["message"] for line in lines if line["level"] == "WARNING"]
    assert any(message.startswith("alert: 10.0 % of 40 ids ended in an error") for message in warnings)
    assert any("were older than 180 s" in message for message in warnings)
    assert any(message.startswith("incomplete: ") for message in warnings)
    assert any(line["message"] == "published 2026-03-01: 40 sessions" for line in lines)

    (tmp_path / "copies.jsonl").write_text(json.dumps({"SessionId": ids(1, 9)[0], "Status": "FAILED"}) + "\nnone\n")
    told = {
        0: [
            ("plan", *asking),
            ("sweep", *asking, "--ask-again", "EXPIRED"),
            ("import", tmp_path / "copies.jsonl", "--date", "2026-03-01", "--region", "us-east-1"),
            ("publish",),
            ("verify",),
            ("show", ONE),
            ("forget", ONE),
            ("query", "SELECT count(*) FROM runs"),
        ],
        2: [
            ("run", tmp_path / "missing.csv"),
            ("query", "SELEC"),
            ("catalog", "ddl"),
            ("report", "--from", "yesterday"),
            ("run", manifest, "--max-tps", "many"),
            ("publish", "--bogus"),
            ("verify", "--config", tmp_path / "missing.toml"),
        ],
        3: [("show", ids(1, 8)[0])],
    }
    for code, commands in told.items():
        for arguments in commands:
            if arguments[0] == "sweep":
                rekognition.configure(faults={})
            ended, lines = command(*arguments, "--output", output)
            assert ended in (code, 3 if arguments[0] == "sweep" else code), (arguments, lines)
            if code == 2:
                assert lines[-1]["level"] == "ERROR"
                assert not lines[-1]["message"].startswith("error")


def test_flag_holds_before_the_rest_of_the_command_line_is_read(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And wins over the environment, as flags do."""
    monkeypatch.delenv("LIVENESS_ETL__LOG__FORMAT")
    (line,) = command("run", "--log-format=json", "--bogus")[1]
    assert line["level"] == "ERROR"
    assert "--bogus" in line["message"]
    assert command("run", "m.csv", "--log-format", "json", "--output", tmp_path)[0] == 2
    assert logs.form_of(["run", "--log-format", "text"], {"liveness_etl__log__format": "json"}) == "text"
    assert logs.form_of(["run"], {"LIVENESS_ETL__LOG__FORMAT": "json"}) == "json"
    assert logs.form_of(["run", "--log-format"], {}) == "text"


@pytest.mark.parametrize(
    "code",
    [
        "pipeline.landed_partitions = lambda *_: 1 / 0",
        "import threading; pipeline.landed_partitions = lambda *_: [t := threading.Thread(target=lambda: 1 / 0), "
        "t.start(), t.join()] and []",
    ],
    ids=["main thread", "another thread"],
)
def test_bug_is_one_line_with_its_traceback_as_a_field(code: str, tmp_path: Path) -> None:
    """Where nobody catches it, on any thread."""
    program = f"import sys; from liveness_etl import cli, pipeline; {code}; sys.argv[1:] = sys.argv[2:]; cli.main()"
    arguments = [sys.executable, "-c", program, "x", "publish", "--output", str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    lines = [line for line in parsed(done.stderr) if line["level"] == "CRITICAL"]
    assert [line["message"] for line in lines] == ["a bug: ZeroDivisionError"]
    assert "Traceback (most recent call last)" in lines[0]["exception"]
    assert lines[0]["exception"].endswith("ZeroDivisionError: division by zero")


def test_warnings_of_python_and_of_libraries_are_lines_too(tmp_path: Path) -> None:
    """They have loggers of their own."""
    program = (
        "import logging, sys, warnings; from liveness_etl import cli, pipeline\n"
        "def noisy(*_):\n"
        "    warnings.warn('old'); logging.getLogger('urllib3.pool').warning('full'); return []\n"
        "pipeline.landed_partitions = noisy; cli.main()"
    )
    arguments = [sys.executable, "-c", program, "publish", "--output", str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    found = {line["logger"]: line for line in parsed(done.stderr)}
    assert "UserWarning: old" in found["py.warnings"]["message"]
    assert (found["urllib3.pool"]["message"], found["urllib3.pool"]["level"]) == ("full", "WARNING")


def test_signal_is_answered_with_a_line(tmp_path: Path) -> None:
    """The one that is written while the program may be anywhere."""
    manifest, output = write_manifest(tmp_path / "m.csv", ids(500)), tmp_path / "output"
    with LocalRekognition(LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 1.0})) as server:
        asking = ["--endpoint-url", server.endpoint_url, "--region", "us-east-1", "--max-tps", "20"]
        process = subprocess.Popen(
            [sys.executable, "-m", "liveness_etl", "sweep", str(manifest), "--output", str(output), *asking],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait_until(lambda: bool(read_rows(output, "landing")))
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 3
    (stopping,) = [line for line in parsed(said) if line["message"].startswith("stopping: ")]
    assert (stopping["level"], stopping["run_id"]) == ("WARNING", read_rows(output, "runs")[0]["run_id"])
