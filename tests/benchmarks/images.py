"""Storing inline images in an S3: answers a second, and whether memory grows with time.

    python -m tests.benchmarks.images [--pace 100] [--seconds 60] [--s3 ceph|moto]

Sweeps answers with four images of 200 kB each from a LocalRekognition into an S3, all on this machine: Ceph's gateway
with its objects in memory (4.8 GB for a minute at 100/s), or moto's server. Memory is read from /proc five times a
second (Linux only), from the first call on. Afterwards one thread stores images alone: the time that one takes.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

from liveness_etl.load.images import store_images
from liveness_etl.local import LocalConfig
from liveness_etl.local.answers import make_answer
from liveness_etl.storage_s3 import S3Store
from liveness_etl.storage_s3_client import s3_client
from liveness_etl.transform.result import parse_result
from tests.benchmarks.server import demo_environment, local_rekognition
from tests.benchmarks.sweep_memory import EVERY_SECONDS, is_asked, resident_mib
from tests.ceph import ceph_gateway
from tests.processes import Processes, free_port

IMAGES = 4
IMAGE_BYTES = 200_000
SERVER = {"answer_any": True, "outcome_shares": {"SUCCEEDED": 1.0}, "image_mode": "inline", "image_bytes": IMAGE_BYTES}


@contextmanager
def local_s3(kind: str, memory_bytes: int) -> Iterator[str]:
    """An S3 in processes of its own."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        if kind == "ceph":
            keys = {"access_key": "demo", "secret_key": "demo"}
            yield stack.enter_context(ceph_gateway(Path(folder) / "ceph", memory_bytes=memory_bytes, **keys))
        else:
            port = free_port()
            stack.enter_context(Processes(Path(folder))).start("moto_server", "-p", str(port))
            time.sleep(5)
            yield f"http://127.0.0.1:{port}"


def with_four_images(session_ids: Iterable[str]) -> Iterator[str]:
    """Of these ids those whose answer will have four images."""
    config = LocalConfig(**SERVER | {"image_bytes": 64})
    for session_id in session_ids:
        answer = make_answer(config, session_id, "SUCCEEDED")
        if len(answer.get("AuditImages", [])) + ("ReferenceImage" in answer) == IMAGES:
            yield session_id


def sweep(url: str, s3_url: str, output: str, ids: Iterable[str], pace: float) -> dict[str, Any]:
    """Sweep these ids in a process of its own, and watch it."""
    memory: list[float] = []
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as manifest, tempfile.TemporaryFile("w+") as errors:
        count = manifest.write("".join(f"{one}\n" for one in ids)) // 37
        manifest.flush()
        command = [
            *(sys.executable, "-m", "liveness_etl", "sweep", manifest.name, "--date", "2026-01-31", "--quiet"),
            *("--output", output, "--endpoint-url", url, "--region", "us-east-1", "--max-tps", str(pace)),
        ]
        environment = demo_environment() | {"LIVENESS_ETL__OUTPUT__ENDPOINT_URL": s3_url}
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), 0.0
        process = subprocess.Popen(command, env=environment, stderr=errors)
        try:
            while process.poll() is None:
                if started or is_asked(url):
                    started = started or time.monotonic()
                    memory.append(resident_mib(process.pid))
                time.sleep(EVERY_SECONDS)
        finally:
            process.kill()
            process.wait()
        if process.returncode != 0:
            errors.seek(0)
            raise SystemExit(errors.read())
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    third = len(memory) // 3
    return {
        "answers": count,
        "seconds": round(seconds, 1),
        "answers_per_second": round(count / seconds, 1),
        "megabytes_per_second": round(count * IMAGES * IMAGE_BYTES / seconds / 1e6, 1),
        "cpu_ms_per_answer": round(cpu / count * 1e3, 1),
        "mib_at_start": round(memory[0]),
        "mib_at_most_by_thirds": [round(max(memory[n * third : (n + 1) * third])) for n in range(3)],
    }


def ms_per_image(s3_url: str, bucket: str, answers: int = 25) -> float:
    """What one image takes in one thread, with nothing else going on."""
    store = S3Store(f"s3://{bucket}/alone", s3_client(s3_url, "us-east-1"))
    keep, image = store_images(store, "images/"), {"Bytes": os.urandom(IMAGE_BYTES)}
    members = {"Status": "SUCCEEDED", "ReferenceImage": image, "AuditImages": [image] * (IMAGES - 1)}
    parsed = [parse_result(one, members | {"SessionId": one}) for one in (str(uuid.uuid4()) for _ in range(answers))]
    started = time.monotonic()
    for answer in parsed:
        keep(answer, date(2026, 1, 31))
    return round((time.monotonic() - started) * 1e3 / (answers * IMAGES), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pace", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--s3", choices=["ceph", "moto"], default="ceph")
    given = parser.parse_args()
    count = int(given.pace * given.seconds)
    os.environ.update(demo_environment())
    with local_s3(given.s3, 2 * count * IMAGES * IMAGE_BYTES) as s3_url, local_rekognition(SERVER) as (url, make_ids):
        s3_client(s3_url, "us-east-1").create_bucket(Bucket="lake")
        ids = islice(with_four_images(make_ids(10 * count)), count)
        report = {"s3": given.s3, "cores": os.cpu_count()} | sweep(url, s3_url, "s3://lake/out", ids, given.pace)
        print(json.dumps(report | {"ms_per_image_alone": ms_per_image(s3_url, "lake")}))


if __name__ == "__main__":
    main()
