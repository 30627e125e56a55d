"""A LocalRekognition in a process of its own, for benchmarks."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from liveness_etl.local import session_ids


def demo_environment() -> dict[str, str]:
    """This environment with stand-in credentials."""
    return os.environ | {
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def local_rekognition(config: dict[str, Any]) -> Iterator[tuple[str, Callable[[int], Iterator[str]]]]:
    """Its URL, and a function that gives n session ids."""
    process = subprocess.Popen(
        [sys.executable, "-m", "liveness_etl.local", "--config", json.dumps(config)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip(), lambda count: session_ids(7, count)
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
