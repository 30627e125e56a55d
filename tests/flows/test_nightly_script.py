"""`python flows/nightly.py` as a user runs it: another process, with a Prefect home that never was."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from liveness_etl.local import LocalConfig, LocalRekognition
from tests.crash.mishaps import Place, Stalled
from tests.flows.conftest import FLOWS
from tests.running import SUCCEEDING, asks, ids, read_rows, wait_until, write_manifest

pytestmark = pytest.mark.slow  # Prefect takes three seconds to import and ten to thirty to start its server


def start(
    home: Path, *arguments: str | Path, python: Sequence[str | Path] = (FLOWS / "nightly.py",), **environment: str
) -> "subprocess.Popen[str]":
    """The script with a new PREFECT_HOME, in a process group of its own as a shell would start it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.Popen(
        [sys.executable, *python, *arguments],
        env=kept | {"PREFECT_HOME": str(home)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def group_is_gone(group: int) -> bool:
    """Whether no process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def test_demo_from_nothing(tmp_path: Path) -> None:
    """It ends with the run's figures, one query's result and what to try next; nothing of Prefect's own is shown."""
    process = start(tmp_path / "home", "--demo", "--sessions", "200", "--output", tmp_path / "demo")
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    assert "Pass rate by challenge type at 80 % confidence" in out
    assert "FaceMovementChallenge" in out
    assert "liveness-etl query --output" in out
    assert "at most 250/s" in err
    assert "200 ids, 0 already final, 200 landed, 0 not asked" in err
    assert "Traceback" not in err
    assert "prefect" not in (out + err).lower()
    assert len(read_rows(tmp_path / "demo", "sessions")) == 200
    wait_until(lambda: group_is_gone(process.pid))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PREFECT_HOME that is not new to each test, since its database takes seconds to make."""
    return tmp_path_factory.mktemp("home")


@contextmanager
def sweeping(home: Path, folder: Path) -> Iterator[tuple["subprocess.Popen[str]", LocalRekognition]]:
    """The script, at the moment when its first answers have been landed in `folder/output`."""
    manifest = write_manifest(folder / "manifest.csv", ids(3000))
    config = LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 1.0}, latency_seconds=0.3, count_ids=True)
    with LocalRekognition(config) as rekognition:
        endpoint = ("--endpoint-url", rekognition.endpoint_url, "--region", "us-east-1", "--max-tps", "50")
        process = start(home, manifest, "--output", folder / "output", *endpoint)
        try:
            wait_until(lambda: process.poll() is not None or bool(read_rows(folder / "output", "landing")), 120)
            yield process, rekognition
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()


@pytest.mark.alone
@pytest.mark.parametrize(
    ("send", "number", "state"),
    [(os.kill, signal.SIGTERM, "FAILED"), (os.killpg, signal.SIGTERM, "RUNNING"), (os.killpg, signal.SIGINT, "FAILED")],
    ids=["SIGTERM", "SIGTERM to the group", "SIGINT to the group"],
)
def test_signal_drains_within_ten_seconds(
    home: Path, tmp_path: Path, send: Callable[[int, int], None], number: signal.Signals, state: str
) -> None:
    """What was asked for is landed and recorded, nothing is published, the exit code is 3; also where the signal
    goes to Prefect's server as well, as Ctrl-C, `timeout` and systemd send it. The server survives Ctrl-C, and learns
    how the run ended; a SIGTERM ends it first."""
    with sweeping(home, tmp_path) as (process, rekognition):
        signalled_at = time.monotonic()
        send(process.pid, number)
        _, err = process.communicate(timeout=30)
        assert time.monotonic() - signalled_at < 10
        asked = len(asks(rekognition))
    assert process.returncode == 3, err
    assert "Traceback" not in err
    assert f"{asked:,} landed" in err
    assert len(read_rows(tmp_path / "output", "landing")) == asked < 3000
    (run,) = read_rows(tmp_path / "output", "runs")
    assert (run["completed"], run["landed"], run["finished_at"] is not None) == (False, asked, True)
    assert not read_rows(tmp_path / "output", "sessions")
    wait_until(lambda: group_is_gone(process.pid))
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        query = "SELECT state_type FROM flow_run WHERE id = ?"
        assert database.execute(query, [run["flow_run_id"]]).fetchone() == (state,)


@pytest.mark.alone
def test_second_signal_stops_at_once(home: Path, tmp_path: Path) -> None:
    """Nothing is waited for, and Prefect's server goes too."""
    with sweeping(home, tmp_path) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        wait_until(lambda: "stopping:" in process.stderr.readline())
        signalled_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert time.monotonic() - signalled_at < 1
    assert process.returncode == 3
    wait_until(lambda: group_is_gone(process.pid))


@pytest.mark.alone
def test_signal_while_the_output_stalls_rescues_what_was_answered(home: Path, tmp_path: Path) -> None:
    """From the first landing part on every write hangs, the record's and the lease's too: the script says where the
    answers are and ends within ten seconds; the next run lands them and asks for nothing."""
    manifest = write_manifest(tmp_path / "manifest.csv", ids(50))
    place = Place(str(tmp_path / "output"), tmp_path / "state")
    stall = (
        "import runpy, sys; from pathlib import Path; from tests.crash.mishaps import Place, Stalled\n"
        "script, output, state = sys.argv[1:4]; sys.path.insert(0, str(Path(script).parent))\n"
        "Stalled(Place(output, Path(state)), 'create landing', for_good=True)()\n"
        "sys.argv = [script, *sys.argv[4:]]; runpy.run_path(script, run_name='__main__')"
    )
    with LocalRekognition(SUCCEEDING) as rekognition:
        endpoint = ("--endpoint-url", rekognition.endpoint_url, "--region", "us-east-1", "--max-tps", "250")
        stalling = ("-c", stall, FLOWS / "nightly.py", place.uri, place.state)
        process = start(
            home, manifest, "--output", place.uri, *endpoint, python=stalling, XDG_STATE_HOME=str(place.state)
        )
        assert process.stderr is not None
        wait_until(lambda: Stalled.SAYS in process.stderr.readline(), 120)
        signalled_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
        assert time.monotonic() - signalled_at < 10
        assert (process.returncode, "they are safe in" in err) == (3, True), err
        wait_until(lambda: group_is_gone(process.pid))
        again = subprocess.run(
            [sys.executable, "-m", "liveness_etl", "run", manifest, "--output", place.uri, *endpoint],
            env=os.environ | {"XDG_STATE_HOME": str(place.state)},
            check=False,
        )
        assert again.returncode == 0
        assert set(asks(rekognition).values()) == {1}
    assert len(read_rows(tmp_path / "output", "sessions")) == 50


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["manifest.csv", "--max-tps", "-1"], "max_tps"),
        (["manifest.csv", "--bogus"], "--bogus"),
        (["--demo", "--region", "us-east-1"], "--demo goes with"),
        ([], "Usage"),
    ],
    ids=["bad value", "unknown flag", "demo with more", "nothing"],
)
def test_wrong_usage_is_one_message_and_exit_code_2(tmp_path: Path, arguments: list[str], says: str) -> None:
    """What is wrong with the command line is said before Prefect's server starts."""
    process = start(tmp_path / "home", *arguments)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert says in out + err
    assert "Traceback" not in err
    assert not list((tmp_path / "home").glob("*.db"))


def test_prefect_server_that_does_not_answer(tmp_path: Path) -> None:
    """A PREFECT_API_URL where nobody listens ends in a sentence that names it, exit code 2."""
    environment = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_HOME": str(tmp_path)}
    command = [sys.executable, FLOWS / "nightly.py", "manifest.csv", "--output", tmp_path / "output"]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: Prefect's server at http://127.0.0.1:9/api")
    assert done.stderr.count("\n") == 1
