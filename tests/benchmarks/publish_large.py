"""Publish of a large partition beside one plain sorted COPY of DuckDB's over the same rows, and its memory.

    python -m tests.benchmarks.publish_large [--rows 1000000] [--rows-per-part 5000] [--no-copy]

Each runs in a process of its own; prints wall time, CPU time and peak resident memory, and the ratio of the times.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

from tests.benchmarks.landed import land_rows

DT = date(2026, 1, 31)

_MEASURED = """
import json, time
started = time.monotonic()
{work}
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps(dict(wall_seconds=round(time.monotonic() - started, 1),
    cpu_seconds=round(time.process_time(), 1), peak_mib=int(peak.split()[1]) // 1024)))
"""

_COPY = """
import duckdb
duckdb.execute("SET temp_directory = '{output}/spill'")
duckdb.execute("SET memory_limit = '1GB'")
duckdb.execute("COPY (SELECT * FROM read_parquet('{output}/landing/dt={dt}/*.parquet') ORDER BY session_id) "
    "TO '{output}/copy.parquet' (FORMAT parquet)")
"""

_PUBLISH = """
from datetime import date
from liveness_etl.load.publish import publish_partition
from liveness_etl.storage import open_store
published = publish_partition(open_store("{output}"), date.fromisoformat("{dt}"))
assert published.sessions == {rows}, published
"""


def measured(work: str, **values: object) -> dict[str, float]:
    """Wall seconds, CPU seconds and peak MiB of a piece of Python in a process of its own."""
    code = _MEASURED.format(work=work.format(**values))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rows-per-part", type=int, default=5_000)
    parser.add_argument("--no-copy", action="store_true", help="measure publish alone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        land_rows(output, DT, arguments.rows, arguments.rows_per_part)
        values = {"output": output, "dt": DT, "rows": arguments.rows}
        copy = None if arguments.no_copy else measured(_COPY, **values)
        publish = measured(_PUBLISH, **values)
        print(json.dumps({"rows": arguments.rows, "plain_copy": copy, "publish_with_fold": publish}))
        if copy:
            print(f"publish / copy = {publish['wall_seconds'] / copy['wall_seconds']:.2f}")


if __name__ == "__main__":
    main()
