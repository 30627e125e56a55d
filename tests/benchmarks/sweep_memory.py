"""Resident memory of `liveness-etl sweep` and how it grows with the number of ids.

    python -m tests.benchmarks.sweep_memory [IDS …]            (default 20000 100000)

Each size is swept into an empty output from an unlimited LocalRekognition in another process: 10 ms to an answer, no
images, no faults. Memory is read from /proc five times a second (Linux only). Planning, DuckDB's share included,
comes first in the same process, so the highest of the whole run says little about the sweep: printed are also
what is resident when the first call arrives at the server, the highest from there on, and what is left at the end.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from tests.benchmarks.server import demo_environment, local_rekognition

SERVER = {"answer_any": True, "latency_seconds": 0.01, "image_mode": "none"}
EVERY_SECONDS = 0.2


@dataclass(frozen=True)
class Memory:
    """MiB resident: at most in the whole run, when sweeping starts, at most while sweeping, at the last look."""

    ids: int
    wall_seconds: float
    peak: float
    at_start: float
    peak_sweeping: float
    at_end: float


def resident_mib(pid: int) -> float:
    """What a process holds now; 0 where it is over."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def sweep(folder: Path, ids: int) -> Memory:
    """Sweep that many ids in a process of its own, and watch it."""
    before, sweeping = [0.0], list[float]()
    with local_rekognition(SERVER) as (url, make_ids), tempfile.TemporaryFile("w+") as errors:
        manifest = folder / "manifest.txt"
        with manifest.open("w") as file:
            file.writelines(f"{session_id}\n" for session_id in make_ids(ids))
        command = [
            *(sys.executable, "-m", "liveness_etl", "sweep", str(manifest), "--date", "2026-01-31", "--quiet"),
            *("--output", str(folder / "out"), "--endpoint-url", url, "--region", "us-east-1", "--max-tps", "100000"),
        ]
        started = time.monotonic()
        process = subprocess.Popen(command, env=demo_environment(), stderr=errors)
        try:
            while process.poll() is None:
                if (mib := resident_mib(process.pid)) > 0:
                    (sweeping if sweeping or is_asked(url) else before).append(mib)
                time.sleep(EVERY_SECONDS)
        finally:
            process.kill()
            process.wait()
        if process.returncode not in (0, 3):
            errors.seek(0)
            raise SystemExit(errors.read())
    if not sweeping:
        raise SystemExit("it was over too soon to be watched: take more ids")
    wall = round(time.monotonic() - started, 1)
    peaks = max(before + sweeping), sweeping[0], max(sweeping), sweeping[-1]
    return Memory(ids, wall, *(round(mib, 1) for mib in peaks))


def is_asked(url: str) -> bool:
    """Whether the server has had a request yet."""
    with urllib.request.urlopen(f"{url}/_local/stats") as answer:
        return bool(json.load(answer)["requests"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ids", nargs="*", type=int, default=[20_000, 100_000])
    measured = []
    for ids in sorted(parser.parse_args().ids):
        with tempfile.TemporaryDirectory() as folder:
            measured.append(sweep(Path(folder), ids))
        print(json.dumps(asdict(measured[-1])), flush=True)
    for less, more in pairwise(measured):
        ids = more.ids - less.ids
        print(
            f"{less.ids} to {more.ids} ids, MiB resident: {more.at_start} when sweeping starts, "
            f"{more.peak_sweeping} at most while sweeping, {more.at_end} at the end; per additional id "
            f"{(more.peak_sweeping - less.peak_sweeping) * 2**20 / ids:.0f} bytes more while sweeping, "
            f"{(more.peak - less.peak) * 2**20 / ids:.0f} bytes more at the peak of the whole run, planning included"
        )


if __name__ == "__main__":
    main()
