"""Which share of sessions is read before it expires: `sweep --follow` and a nightly run, over the same arrivals.

    python -m tests.benchmarks.capture [--seconds 240] [--ttl 60] [--rate 20] [--limit 25] [--dead 50000]

Sessions are created at --rate a second for --seconds, each on two servers of processes of their own (LocalRekognition;
40 ms, 1 % of ids wait 1 to 10 s; a limit of --limit/s, enforced with a burst of 0.1 s). A session is CREATED for 5/180
of --ttl, IN_PROGRESS until 20/180 of it, then SUCCEEDED or FAILED (2 in 100 are never started), and after --ttl it is
EXPIRED: the service's three minutes, scaled. A backend writes the new ids every five seconds as one more file of a
folder, in which --dead ids of the day before stand already. The listing's 15 s are not scaled.

`sweep --follow` starts with the first session, at a ceiling of --limit. The nightly `run` starts on the other server
when the last session has come, while as many as possible are still alive, and is stopped when all have expired. A
session counts if it was ever finished, and is captured if an answer SUCCEEDED or FAILED has landed. Prints a line of
JSON for each, and asserts nothing.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from liveness_etl.local import session_ids
from tests.benchmarks.server import demo_environment, local_rekognition
from tests.running import read_rows

FILE_SECONDS = 5.0
DEAD_PER_FILE = 10_000


def main() -> None:
    """Both, at the same time."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (("seconds", 240.0), ("ttl", 60.0), ("rate", 20.0), ("limit", 25.0), ("dead", 50_000)):
        parser.add_argument(f"--{name}", type=type(default), default=default)
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        urls = [stack.enter_context(local_rekognition(server(given)))[0] for _ in range(2)]
        manifest = folder / "manifest"
        manifest.mkdir()
        write_dead(manifest, given.dead, urls)
        sweep = start("sweep", folder, urls[0], given, "--follow")
        born = arrive(manifest, given.rate, given.seconds, urls)
        run = start("run", folder, urls[1], given)
        time.sleep(given.ttl + 2 * FILE_SECONDS)
        for process in (sweep, run):
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(30) for process in (sweep, run)]
        finished = ever_finished(urls[1], born)
        for name, code in zip(("sweep", "run"), codes, strict=True):
            print(json.dumps(measured(name, code, folder / name, born, finished, given)))


def server(given: argparse.Namespace) -> dict[str, Any]:
    """A stand-in whose sessions live as long."""
    return {
        "ttl_seconds": given.ttl,
        "start_seconds": given.ttl * 5 / 180,
        "finish_seconds": given.ttl * 20 / 180,
        "limit_tps": given.limit,
        "latency_seconds": 0.04,
        "latency_tail_share": 0.01,
        "outcome_shares": {"SUCCEEDED": 0.93, "FAILED": 0.05, "CREATED": 0.02},
    }


def write_dead(manifest: Path, count: int, urls: list[str]) -> None:
    """The backlog: sessions of yesterday, and the files that name them."""
    old = time.time() - 86_400
    ids = list(session_ids(5, count))
    for first in range(0, count, DEAD_PER_FILE):
        some = [(one, old + number) for number, one in enumerate(ids[first : first + DEAD_PER_FILE])]
        add(urls, some)
        path = write(manifest / f"dead-{first:06d}.csv", some)
        os.utime(path, (old + DEAD_PER_FILE, old + DEAD_PER_FILE))


def arrive(manifest: Path, rate: float, seconds: float, urls: list[str]) -> dict[str, float]:
    """New sessions, and every few seconds a file; gives the time of each."""
    born: dict[str, float] = {}
    ids = session_ids(6, int(rate * seconds))
    started = written = time.time()
    new: list[tuple[str, float]] = []
    while len(born) < int(rate * seconds):
        time.sleep(0.25)
        due = min(int((time.time() - started) * rate), int(rate * seconds)) - len(born)
        some = [(next(ids), time.time()) for _ in range(due)]
        add(urls, some)
        born |= dict(some)
        new += some
        if time.time() - written >= FILE_SECONDS or len(born) == int(rate * seconds):
            written = time.time()
            part = write(manifest / f"live-{int(written * 1000)}.part", new)
            part.rename(part.with_suffix(".csv"))
            new = []
    return born


def write(path: Path, sessions: list[tuple[str, float]]) -> Path:
    """A manifest file."""
    lines = [f"{one},{datetime.fromtimestamp(at, UTC).isoformat()}\n" for one, at in sessions]
    path.write_text("session_id,created_at\n" + "".join(lines))
    return path


def add(urls: list[str], sessions: list[tuple[str, float]]) -> None:
    """Make sessions known to the servers."""
    for url in urls:
        body = json.dumps(sessions).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{url}/_local/sessions", body, method="POST")):
            pass


def start(command: str, folder: Path, url: str, given: argparse.Namespace, *more: str) -> subprocess.Popen[bytes]:
    """`liveness-etl sweep` or `run` of the whole folder."""
    settings = {
        "LIVENESS_ETL__SWEEP__SESSION_TTL_SECONDS": str(given.ttl),
        "XDG_STATE_HOME": str(folder / "state"),
    }
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "liveness_etl", command, str(folder / "manifest" / "*.csv"), *more),
            *("--output", str(folder / command), "--region", "us-east-1", "--endpoint-url", url),
            *("--max-tps", str(given.limit)),
        ],
        env=demo_environment() | settings,
    )


def ever_finished(url: str, born: dict[str, float]) -> set[str]:
    """The sessions that were not left CREATED for good. Takes the limit away and the expiry back."""
    config = {"limit_tps": None, "latency_seconds": 0.0, "latency_tail_share": 0.0, "ttl_seconds": None}
    with urllib.request.urlopen(
        urllib.request.Request(f"{url}/_local/config", json.dumps(config).encode(), method="POST")
    ):
        pass
    finished = set()
    for one in born:
        request = urllib.request.Request(url, json.dumps({"SessionId": one}).encode(), method="POST")
        request.add_header("X-Amz-Target", "RekognitionService.GetFaceLivenessSessionResults")
        with urllib.request.urlopen(request) as answer:
            if json.load(answer)["Status"] in ("SUCCEEDED", "FAILED"):
                finished.add(one)
    return finished


def measured(
    name: str, code: int, output: Path, born: dict[str, float], finished: set[str], given: argparse.Namespace
) -> dict[str, Any]:
    """What it came to."""
    rows = read_rows(output, "landing")
    captured = {
        row["session_id"]: row["fetched_at"].timestamp() - born[row["session_id"]]
        for row in rows
        if row["status"] in ("SUCCEEDED", "FAILED") and row["session_id"] in finished
    }
    ages = sorted(captured.values())
    dead = {row["session_id"] for row in rows if row["session_id"] not in born}
    runs = read_rows(output, "runs")
    return {
        "command": "sweep --follow" if name == "sweep" else "nightly run",
        "finished_sessions": len(finished),
        "captured": len(captured),
        "captured_percent": round(100 * len(captured) / len(finished), 2),
        "age_seconds_median": round(median(ages), 1) if ages else None,
        "age_seconds_99_percent": round(ages[int(len(ages) * 0.99)], 1) if ages else None,
        "dead_ids_asked": len(dead),
        "rounds": len(runs),
        "calls": sum(run["calls"] for run in runs),
        "throttled_calls": sum(run["throttled_calls"] for run in runs),
        "exit_code": code,
        "conditions": f"{given.rate:g}/s for {given.seconds:g} s, expiry {given.ttl:g} s, limit {given.limit:g}/s, "
        f"{given.dead:,} expired ids in front",
    }


if __name__ == "__main__":
    main()
