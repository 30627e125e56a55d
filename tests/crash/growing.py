"""A sweep of a growing manifest that has something to ask, something to remember, and many files to make one of."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from liveness_etl import pipeline
from liveness_etl.load.manifest_memory import MANY_FILES, ManifestMemory
from liveness_etl.local import LocalRekognition
from liveness_etl.storage import Store, open_store
from tests.crash.launcher import Ended, Mishap, Running
from tests.crash.mishaps import Place
from tests.running import SUCCEEDING, asks, ids, make_job, write_manifest

FILES, IDS = 3, 4


@dataclass(frozen=True)
class Growing:
    """A folder of manifest files, of whose ids some are final, and an output which remembers other files in too many
    pieces."""

    manifest: str
    place: Place
    rekognition: LocalRekognition
    environment: dict[str, str]

    def sweep(self, mishap: Mishap | None = None) -> Ended:
        """`liveness-etl sweep` in a process of its own."""
        return Running(
            (
                *("sweep", self.manifest, "--output", self.place.uri, "--max-tps", "1000"),
                *("--region", "us-east-1", "--endpoint-url", self.rekognition.endpoint_url),
            ),
            self.environment | {"XDG_STATE_HOME": str(self.place.state)},
            mishap,
        ).wait()

    def store(self) -> Store:
        """The output."""
        return open_store(self.place.uri, endpoint_url=self.place.s3_endpoint or None)

    def done(self) -> set[str]:
        """The names of the files that are remembered as done."""
        return {Path(uri).name for uri, _, _ in ManifestMemory(self.store(), self.manifest).done}

    def asks(self) -> dict[str, int]:
        """How often each id was asked."""
        return asks(self.rekognition)


@contextmanager
def growing_case(folder: Path, s3: Any = None, endpoint: str = "") -> Iterator[Growing]:
    """The case in a folder, or in a prefix of a new bucket."""
    incoming = folder / "incoming"
    incoming.mkdir()
    for number in range(FILES):
        path = write_manifest(incoming / f"{number}.csv", ids(IDS, number), datetime(2026, 3, 1, tzinfo=UTC))
        os.utime(path, (time.time() - 3_600, time.time() - 3_600))
    uri = str(folder / "output")
    if s3 is not None:
        s3.create_bucket(Bucket=folder.name)
        uri = f"s3://{folder.name}/output"
    environment = {"AWS_ENDPOINT_URL_S3": endpoint, "LIVENESS_ETL__OUTPUT__ENDPOINT_URL": endpoint} if endpoint else {}
    with LocalRekognition(SUCCEEDING) as rekognition:
        place = Place(uri, folder / "state", endpoint)
        case = Growing(str(incoming / "*.csv"), place, rekognition, environment)
        memory = ManifestMemory(case.store(), case.manifest)
        for number in range(MANY_FILES):
            memory.remember(f"earlier-{number:03d}", {(f"gone-{number}.csv", "tag", 1)}, set())
        job = make_job(incoming / "0.csv", uri, rekognition.endpoint_url, output__endpoint_url=endpoint or None)
        assert pipeline.run(job).exit_code == 0
        yield case
