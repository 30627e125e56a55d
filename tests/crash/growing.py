"""A sweep of a growing manifest that has something to ask, something to remember, and many files to make one of."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from liveness_etl import pipeline
from liveness_etl.extract.growing import list_growing
from liveness_etl.load import manifest_memory
from liveness_etl.load.manifest_memory import ManifestMemory
from liveness_etl.local import LocalRekognition
from liveness_etl.storage import Store, open_store
from tests.crash.launcher import Ended, Mishap, Running
from tests.crash.mishaps import Place
from tests.running import CREATED_AT, SUCCEEDING, asks, ids, make_job, write_manifest

FILES, IDS, FEW = 3, 4, 2


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
            FewFiles(mishap),
        ).wait()

    def store(self) -> Store:
        """The output."""
        return open_store(self.place.uri, endpoint_url=self.place.s3_endpoint or None)

    def done(self) -> set[str]:
        """The names of the files that are remembered as done."""
        done = ManifestMemory(self.store(), self.manifest).done
        files = list_growing(self.manifest, [None], None, must_exist=True).files
        return {Path(each.file.uri).name for each in files if each.version in done}

    def asks(self) -> dict[str, int]:
        """How often each id was asked."""
        return asks(self.rekognition)


@dataclass(frozen=True)
class FewFiles:
    """Files of the memory become one as soon as there are more than two; then what else shall happen."""

    mishap: Mishap | None

    def __call__(self) -> Callable[[], None] | None:
        manifest_memory.MANY_FILES = FEW  # type: ignore[misc]
        return None if self.mishap is None else self.mishap()


def make_growing(folder: Path) -> Path:
    """The manifest, and an output with the answers of its first file, in a folder."""
    (folder / "incoming").mkdir()
    for number in range(FILES):
        path = write_manifest(folder / "incoming" / f"{number}.csv", ids(IDS, number), CREATED_AT)
        os.utime(path, (time.time() - 3_600, time.time() - 3_600))
    output = folder / "output"
    memory = ManifestMemory(open_store(str(output)), str(folder / "incoming" / "*.csv"))
    for number in range(FEW):
        memory.remember(f"earlier-{number}", {number.to_bytes(16)}, set())
    with LocalRekognition(SUCCEEDING) as rekognition:
        pipeline.run(make_job(folder / "incoming" / "0.csv", output, rekognition.endpoint_url))
    return folder


@contextmanager
def growing_case(made: Path, folder: Path, s3: Any = None, endpoint: str = "") -> Iterator[Growing]:
    """The case in a folder, or in a prefix of a new bucket."""
    uri = str(folder / "output")
    if s3 is None:
        shutil.copytree(made / "output", uri)
    else:
        s3.create_bucket(Bucket=folder.name)
        uri = f"s3://{folder.name}/output"
        for path in (made / "output").rglob("*.parquet"):
            s3.put_object(Bucket=folder.name, Key=str(path.relative_to(made)), Body=path.read_bytes())
    environment = {"AWS_ENDPOINT_URL_S3": endpoint, "LIVENESS_ETL__OUTPUT__ENDPOINT_URL": endpoint} if endpoint else {}
    with LocalRekognition(SUCCEEDING) as rekognition:
        place = Place(uri, folder / "state", endpoint)
        yield Growing(str(made / "incoming" / "*.csv"), place, rekognition, environment)
