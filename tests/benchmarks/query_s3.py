"""How long scans of a million sessions take in a folder and on S3 (Ceph on loopback), there through Arrow and httpfs.

python -m tests.benchmarks.query_s3 [--rows N] [--rounds N]
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import liveness_etl
from liveness_etl.analysis import httpfs
from liveness_etl.load.publish import publish_partition
from liveness_etl.storage import open_store
from liveness_etl.storage_s3_client import s3_client
from liveness_etl.transform.tables import TABLES
from tests.benchmarks.landed import land_rows
from tests.ceph import ceph_gateway

DAYS = [date(2026, 1, 28) + timedelta(days=number) for number in range(4)]
KEYS = {"access_key": "testing", "secret_key": "testing"}
ID = "f1c15925-8841-1002-af34-0cbaedd6fc33"  # the 778th that `land_rows` makes, each day
QUERIES = {
    "count": "SELECT count(*) FROM sessions",
    "by outcome": "SELECT outcome, count(*), avg(confidence) FROM sessions GROUP BY ALL",
    "results by challenge": "SELECT challenge_type, count(*), avg(confidence) FROM results GROUP BY ALL",
    "look-up in sessions": f"FROM sessions WHERE session_id = '{ID}'",
    "look-up in results": f"FROM results WHERE session_id = '{ID}'",
}


def measure(rounds: int, outputs: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The median seconds of each query, and of connecting, for each way of reading; the ways take turns."""
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    installed = httpfs.extension_file
    for _ in range(rounds):
        for way, options in outputs.items():
            httpfs.extension_file = (lambda: None) if way == "arrow" else installed
            started = time.monotonic()
            with liveness_etl.connect(**options) as connection:
                seconds["connect", way].append(time.monotonic() - started)
                for name, sql in QUERIES.items():
                    started = time.monotonic()
                    connection.execute(sql).fetchall()
                    seconds[name, way].append(time.monotonic() - started)
    return {
        name: {way: round(statistics.median(seconds[name, way]), 3) for way in outputs}
        for name in ("connect", *QUERIES)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": KEYS["access_key"], "AWS_SECRET_ACCESS_KEY": KEYS["secret_key"]}
    with tempfile.TemporaryDirectory() as temporary:
        output, ceph = Path(temporary) / "output", Path(temporary) / "ceph"
        ceph.mkdir()
        for dt in DAYS:
            land_rows(output, dt, arguments.rows // len(DAYS), 250_000)
            publish_partition(open_store(str(output)), dt, fold=False)
        with ceph_gateway(ceph, **KEYS) as url:
            client = s3_client(url, "us-east-1")
            client.create_bucket(Bucket="lake")
            for path in (path for table in TABLES for path in (output / table).rglob("*.parquet")):
                client.upload_file(str(path), "lake", f"output/{path.relative_to(output)}")
            on_s3 = {"output": "s3://lake/output", "endpoint_url": url, "region": "us-east-1"}
            print(json.dumps({"load_average": os.getloadavg()}))
            found = measure(arguments.rounds, {"folder": {"output": str(output)}, "arrow": on_s3, "httpfs": on_s3})
            for name, medians in found.items():
                print(json.dumps({name: medians, "arrow/httpfs": round(medians["arrow"] / medians["httpfs"], 2)}))


if __name__ == "__main__":
    main()
