"""The whole job on made-up data: a manifest of sessions, and a LocalRekognition that knows them."""

import csv
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from liveness_etl.errors import StoreError
from liveness_etl.job import Job
from liveness_etl.local import LocalConfig, LocalRekognition, session_ids
from liveness_etl.settings import load_settings

LIMIT_TPS = 250.0
SEED = 2026


@contextmanager
def demo_job(command: str, sessions: int, output: Path) -> Iterator[Job]:
    """A job over `sessions` made-up sessions, with the server that answers for them running meanwhile.

    Writes `output/manifest.csv`. The server's limit is 250 calls a second, and 5 % of the sessions meet a fault
    first. Raises StoreError where the manifest cannot be written.
    """
    manifest = output / "manifest.csv"
    now = time.time()
    born = [
        (session_id, now - 170 + 120 * index / sessions) for index, session_id in enumerate(session_ids(SEED, sessions))
    ]
    try:
        output.mkdir(parents=True, exist_ok=True)
        with manifest.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["session_id", "created_at"])
            writer.writerows((session_id, datetime.fromtimestamp(at, UTC).isoformat()) for session_id, at in born)
    except OSError as error:
        raise StoreError(f"cannot write {manifest}: {error.strerror}") from None
    config = LocalConfig(
        seed=SEED,
        limit_tps=LIMIT_TPS,
        ttl_seconds=None,
        latency_seconds=0.05,
        fault_share=0.05,
        fault_kinds=("500", "throttle", "provisioned", "reset", "garbage", "html503"),
    )
    with LocalRekognition(config) as rekognition:
        rekognition.add_sessions(born)
        # Stand-in credentials for a stand-in server: the user's own are never sent to it.
        os.environ.update(AWS_ACCESS_KEY_ID="demo", AWS_SECRET_ACCESS_KEY="demo", AWS_EC2_METADATA_DISABLED="true")
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            os.environ.pop(name, None)
        settings = load_settings(None, {"output.uri": str(output)}, environ={})
        yield Job(
            command=command,
            manifest_uri=str(manifest),
            settings=settings,
            sources=settings.sources_or_default("us-east-1", rekognition.endpoint_url, LIMIT_TPS),
        )
