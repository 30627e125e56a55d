"""The plan of a large manifest, from Parquet and CSV, against an empty output and one where every id has landed.

    python -m tests.benchmarks.plan_large [--ids 1000000] [--rows-per-part 5000]

Each plan is `run_plan.forecast` (no call of Rekognition, nothing written but scratch) in a process of its own. Prints
wall and CPU time (start-up included), peak resident memory and microseconds of wall time per id. Ten million ids take
some gigabytes of disk. Linux only: memory is the process's own high-water mark, for ru_maxrss counts its parent's too.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from tests.benchmarks.landed import land_rows

DT = date(2026, 1, 31)

_MANIFEST = """
COPY (
    WITH hashed AS (SELECT range AS n, md5(range::VARCHAR) AS hex FROM range({ids}))
    SELECT concat_ws('-', hex[1:8], hex[9:12], hex[13:16], hex[17:20], hex[21:32]) AS session_id,
        TIMESTAMPTZ '{dt} 00:00:00Z' + to_milliseconds((hash(n) % 86400000)::BIGINT) AS created_at
    FROM hashed
) TO '{path}'
"""
"""The ids that `land_rows` lands, with the same created_at."""

_FORECAST = """
import json, re, resource, sys
from liveness_etl import run_plan
from liveness_etl.job import Job
from liveness_etl.settings import load_settings
manifest, output = sys.argv[1:]
settings = load_settings(None, {"output.uri": output}, environ={})
plan, _ = run_plan.forecast(Job("plan", manifest, settings, settings.sources_or_default("us-east-1", None, 25.0)))
used = resource.getrusage(resource.RUSAGE_SELF)
peak_kib = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read()).group(1))
print(json.dumps({"requested": plan.requested, "already_final": plan.already_final,
    "cpu_seconds": round(used.ru_utime + used.ru_stime, 1), "peak_mib": peak_kib // 1024}))
"""


def write_manifest(path: Path, ids: int) -> Path:
    """A manifest in the format of its name."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        connection.execute(_MANIFEST.format(ids=ids, dt=DT, path=path))
    return path


def forecast(manifest: Path, output: Path) -> dict[str, Any]:
    """What a plan came to, and what it took."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _FORECAST, str(manifest), str(output)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return {"wall_seconds": round(time.monotonic() - started, 1), **json.loads(done.stdout.splitlines()[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ids", type=int, default=1_000_000)
    parser.add_argument("--rows-per-part", type=int, default=5_000, help="of landing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, ids = Path(temporary), arguments.ids
        manifests = [write_manifest(folder / f"manifest.{ending}", ids) for ending in ("parquet", "csv")]
        land_rows(folder / "landed", DT, ids, arguments.rows_per_part)
        for manifest in manifests:
            for output, landed in ((folder / "empty", 0), (folder / "landed", ids)):
                took = forecast(manifest, output)
                if (took["requested"], took["already_final"]) != (ids, landed):
                    raise SystemExit(f"a wrong plan: {took}")
                row = {"manifest": manifest.suffix[1:], "ids": ids, "landed": landed, **took}
                per_id = round(took["wall_seconds"] / ids * 1e6, 2)
                print(json.dumps(row | {"microseconds_per_id": per_id, "cores": os.cpu_count()}), flush=True)


if __name__ == "__main__":
    main()
