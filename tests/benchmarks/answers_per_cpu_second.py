"""Answers per CPU-second of a whole `liveness-etl run` beside a bare boto3 thread pool that throws its answers away.

    python -m tests.benchmarks.answers_per_cpu_second [--ids 20000] [--rounds 3]

Both ask an unlimited LocalRekognition in another process, one after the other, each in a process of its own whose
CPU time (user + system, start-up included) is read from the operating system. Prints both figures and their ratio.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

from tests.benchmarks.server import demo_environment, local_rekognition

BARE = textwrap.dedent(
    """
    import sys
    from concurrent.futures import ThreadPoolExecutor
    import boto3
    from botocore.config import Config
    url, manifest, workers = sys.argv[1], sys.argv[2], int(sys.argv[3])
    client = boto3.client("rekognition", endpoint_url=url, config=Config(max_pool_connections=workers))
    def ask(session_id):
        try:
            client.get_face_liveness_session_results(SessionId=session_id)
        except client.exceptions.ClientError:
            pass
    with open(manifest) as file, ThreadPoolExecutor(workers) as pool:
        next(file)
        for _ in pool.map(ask, (line.split(",")[0] for line in file)):
            pass
    """
)


def cpu_seconds(command: list[str]) -> tuple[float, float]:
    """(CPU seconds, wall seconds) of a process that must succeed."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, env=demo_environment(), capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ids", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=32)
    arguments = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as folder, local_rekognition({"answer_any": True}) as (url, ids):
        manifest = Path(folder) / "manifest.csv"
        manifest.write_text(
            "session_id,created_at\n" + "".join(f"{one},2026-01-31T12:00:00Z\n" for one in ids(arguments.ids))
        )
        for turn in range(arguments.rounds):
            bare, bare_wall = cpu_seconds([sys.executable, "-c", BARE, url, str(manifest), str(arguments.workers)])
            ours, ours_wall = cpu_seconds(
                [
                    *(sys.executable, "-m", "liveness_etl", "run", str(manifest), "--output", f"{folder}/out{turn}"),
                    *("--endpoint-url", url, "--region", "us-east-1", "--max-tps", "100000", "--quiet"),
                ]
            )
            ratios.append(bare / ours)
            print(
                f"round {turn}: {arguments.ids} ids; bare boto3 {arguments.ids / bare:.0f} answers/CPU-s "
                f"({bare_wall:.1f} s wall), liveness-etl run {arguments.ids / ours:.0f} answers/CPU-s "
                f"({ours_wall:.1f} s wall), ratio {ratios[-1]:.2f}",
                flush=True,
            )
    print(json.dumps({"ratio_median": sorted(ratios)[len(ratios) // 2], "cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
