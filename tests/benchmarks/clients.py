"""What a user would write instead: boto3 in a thread pool, with each of botocore's own retry modes.

    python -m tests.benchmarks.clients URL IDS.txt --mode adaptive --attempts 10 [--threads 32]

Asks for every id of the file once, as fast as the threads go, and prints as JSON how many ended how: `answer` (a
200 with a Status), `no Status` (a 200 that botocore could not read), or the code of the error that reached the caller.
"""

import argparse
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import botocore.exceptions
from botocore.config import Config


class Client(NamedTuple):
    """A configuration of botocore's retries; `attempts` counts the first call."""

    mode: str
    attempts: int

    @property
    def name(self) -> str:
        return f"boto3 {self.mode}, {self.attempts} attempts"


STANDARD, STANDARD_10 = Client("standard", 3), Client("standard", 10)
ADAPTIVE, LEGACY = Client("adaptive", 10), Client("legacy", 5)
CLIENTS = (STANDARD, STANDARD_10, ADAPTIVE, LEGACY)
"""The SDK's default first. Its adaptive mode has the same default of 3 attempts, its legacy mode 5."""


def ask_all(url: str, ids: list[str], client: Client, threads: int) -> Counter[str]:
    """How many of the ids ended how."""
    retries: Any = {"mode": client.mode, "total_max_attempts": client.attempts}
    rekognition: Any = boto3.client(
        "rekognition",
        endpoint_url=url,
        config=Config(
            retries=retries,
            max_pool_connections=threads,
        ),
    )

    def ask(session_id: str) -> str:
        try:
            answer = rekognition.get_face_liveness_session_results(SessionId=session_id)
        except botocore.exceptions.ClientError as error:
            return str(error.response["Error"]["Code"])
        except Exception as error:  # botocore lets its parsers' errors through
            return type(error).__name__
        return "answer" if "Status" in answer else "no Status"

    with ThreadPoolExecutor(threads) as pool:
        return Counter(pool.map(ask, ids))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("ids", type=Path)
    parser.add_argument("--mode", choices=sorted({client.mode for client in CLIENTS}), required=True)
    parser.add_argument("--attempts", type=int, required=True)
    parser.add_argument("--threads", type=int, default=32)
    arguments = parser.parse_args()
    ids = arguments.ids.read_text().split()
    print(json.dumps(ask_all(arguments.url, ids, Client(arguments.mode, arguments.attempts), arguments.threads)))


if __name__ == "__main__":
    main()
