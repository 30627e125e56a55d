"""Point look-ups in a large partition, in seconds and bytes read, and `connect` over many partitions.

    python -m tests.benchmarks.query_large [--rows 10000000] [--partitions 1000] [--output DIR]

Lands and publishes the partition (ten million rows: several minutes), or takes the one that DIR has. Bytes are what
the process read by system calls (rchar in /proc/self/io: the page cache does not hide any), compared with the size of
the table files. Each look-up is of an id in another row group, in a process that has just connected.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import liveness_etl
from liveness_etl.analysis.show import find_session
from liveness_etl.load.publish import publish_partition, table_path
from liveness_etl.storage import open_store
from liveness_etl.transform.tables import TABLES
from tests.benchmarks.landed import land_rows

DT = date(2026, 1, 31)
LOOKUPS = 10


def measured(work: Callable[[], Any]) -> dict[str, float]:
    """Wall seconds, CPU seconds and bytes read of a piece of work."""
    read, wall, cpu = bytes_read(), time.monotonic(), time.process_time()
    work()
    return {
        "wall_seconds": time.monotonic() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "bytes_read": bytes_read() - read,
    }


def bytes_read() -> int:
    """By this process, through system calls, since it started."""
    return int(Path("/proc/self/io").read_text().split()[1])


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {name: round(statistics.median(run[name] for run in runs), 3) for name in runs[0]}


def ids_of(sessions: Path) -> list[str]:
    """One id out of each of some row groups, evenly spread."""
    with pq.ParquetFile(sessions) as file:
        groups = range(0, file.num_row_groups, max(1, file.num_row_groups // LOOKUPS))
        return [file.read_row_group(group, columns=["session_id"])["session_id"][77].as_py() for group in groups]


def measure_lookups(output: Path, view: str, tables: tuple[str, ...]) -> None:
    """Look ids up without their date, and print the figures."""
    runs = []
    for session_id in ids_of(output / table_path("sessions", DT)):
        with liveness_etl.connect(str(output)) as connection:

            def look_up(connection: Any = connection, session_id: str = session_id) -> None:
                found = connection.execute(f"FROM {view} WHERE session_id = $1", [session_id]).fetchall()
                assert len(found) == 1

            runs.append(measured(look_up))
    size = sum((output / table_path(table, DT)).stat().st_size for table in tables)
    share = max(run["bytes_read"] for run in runs) / size
    print(json.dumps({f"look-up in {view}": medians(runs), "table_bytes": size, "most_read": f"{share:.2%}"}))


def measure_connect(folder: Path, partitions: int) -> None:
    """Connect to an output with many partitions (one small one, copied), and print the figures."""
    land_rows(folder, DT, 200, 200)
    publish_partition(open_store(str(folder)), DT)
    for table in TABLES:
        for number in range(1, partitions):
            target = folder / table_path(table, DT - timedelta(days=number))
            target.parent.mkdir(parents=True)
            shutil.copy(folder / table_path(table, DT), target)

    def day(connection: Any) -> None:
        assert connection.execute("SELECT count(*) FROM results WHERE dt = $1", [DT]).fetchone() == (200,)

    runs, of_day = [], []
    for _ in range(5):
        runs.append(measured(lambda: liveness_etl.connect(str(folder)).close()))
        with liveness_etl.connect(str(folder)) as connection:
            of_day.append(measured(lambda connection=connection: day(connection)))  # type: ignore[misc]
    print(json.dumps({"partitions": partitions, "connect": medians(runs), "results of a day": medians(of_day)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--partitions", type=int, default=1_000)
    parser.add_argument("--output", type=Path, help="keep the large partition here, or take the one that is here")
    arguments = parser.parse_args()
    print(json.dumps({"load_average": os.getloadavg()}))
    with tempfile.TemporaryDirectory() as folder:
        measure_connect(Path(folder), arguments.partitions)
    with nullcontext(arguments.output) if arguments.output else tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        if not (output / table_path("sessions", DT)).exists():
            land_rows(output, DT, arguments.rows, 250_000)
            publish_partition(open_store(str(output)), DT, fold=False)
        measure_lookups(output, "sessions", ("sessions",))
        measure_lookups(output, "results", TABLES)
        one = ids_of(output / table_path("sessions", DT))[0]
        print(json.dumps({"show": medians([measured(lambda: find_session(str(output), one))])}))


if __name__ == "__main__":
    main()
