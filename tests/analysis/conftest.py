"""A sound output made by the real pipeline, mended again after each test; and published partitions in any store."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from liveness_etl import pipeline, upkeep
from liveness_etl.analysis import httpfs
from liveness_etl.analysis.verify import Verified
from liveness_etl.job import Job
from liveness_etl.load import publish
from liveness_etl.local import LocalConfig, LocalRekognition
from liveness_etl.storage import Store
from liveness_etl.storage_folder import LocalStore
from liveness_etl.storage_s3 import S3Store
from liveness_etl.transform.tables import TABLES
from tests.conftest import new_bucket
from tests.landing_rows import DT, MORNING, image, land, row
from tests.running import ids, make_job
from tests.stored import paths, read

FIRST, SECOND = date(2026, 3, 1), date(2026, 3, 2)
BOTH_KINDS = LocalConfig(
    answer_any=True,
    image_mode="mixed",
    image_bytes=300,
    outcome_shares={"SUCCEEDED": 0.8, "FAILED": 0.1, "SessionNotFoundException": 0.1},
)
"""Half of the sessions with images that AWS stored, half with bytes that this program stores."""


@dataclass
class Output:
    """An output of two partitions with 24 and 12 ids, made by one run each."""

    store: Store
    manifest: Path
    options: dict[str, Any]
    kept: dict[str, bytes]
    tags: dict[str, str]

    def job(self, manifest: Path | None = None) -> Job:
        return make_job(manifest or self.manifest, self.store.uri, "http://127.0.0.1:1", **self.options)

    def verify(self, manifest: Path | None = None, **options: Any) -> Verified:
        job = self.job(manifest)
        return upkeep.verify(job.settings, job if manifest else None, **options)

    def mend(self) -> None:
        """Undo whatever a test has done."""
        self.store.delete([path for path in paths(self.store) if path not in self.kept])
        tags = {entry.path: entry.etag for entry in self.store.list("")}
        for path, content in self.kept.items():
            if tags.get(path) != self.tags[path]:
                self.tags[path] = self.store.put(path, content)


@pytest.fixture(scope="package")
def rekognition_of_both_kinds() -> Iterator[LocalRekognition]:
    with LocalRekognition(BOTH_KINDS) as running:
        yield running


def made(store: Store, folder: Path, rekognition: LocalRekognition, **options: Any) -> Output:
    manifest = folder / "manifest.csv"
    some = ids(36)
    lines = ["session_id,created_at"]
    for dt, these in ((FIRST, some[:24]), (SECOND, some[24:])):
        created_at = datetime(dt.year, dt.month, dt.day, 12, tzinfo=UTC).isoformat()
        lines += [f"{session_id},{created_at}" for session_id in these]
    manifest.write_text("\n".join(lines) + "\n")
    report = pipeline.run(make_job(manifest, store.uri, rekognition.endpoint_url, **options))
    assert report.exit_code == 0
    kept = {path: read(store, path) for path in paths(store)}
    return Output(store, manifest, options, kept, {entry.path: entry.etag for entry in store.list("")})


@pytest.fixture(scope="package")
def output_in_folder(
    tmp_path_factory: pytest.TempPathFactory, rekognition_of_both_kinds: LocalRekognition, isolated_environment: None
) -> Output:
    folder = tmp_path_factory.mktemp("verified")
    return made(LocalStore(folder / "out püt"), folder, rekognition_of_both_kinds)


@pytest.fixture(scope="package")
def output_on_s3(
    tmp_path_factory: pytest.TempPathFactory,
    rekognition_of_both_kinds: LocalRekognition,
    client_of: Callable[[str], Any],
    moto_endpoint: str,
) -> Output:
    s3 = client_of(moto_endpoint)
    s3.create_bucket(Bucket="lake-verified")
    options = {"output__endpoint_url": moto_endpoint, "output__region": "us-east-1"}
    store = S3Store("s3://lake-verified/output", s3)
    return made(store, tmp_path_factory.mktemp("verified"), rekognition_of_both_kinds, **options)


@pytest.fixture
def folder_output(output_in_folder: Output) -> Iterator[Output]:
    """The sound output in a folder."""
    yield output_in_folder
    output_in_folder.mend()


@pytest.fixture
def s3_output(output_on_s3: Output) -> Iterator[Output]:
    """The sound output on S3."""
    yield output_on_s3
    output_on_s3.mend()


@pytest.fixture(params=["folder", "s3"])
def output(request: pytest.FixtureRequest) -> Output:
    """The sound output, in both kinds of store."""
    found: Output = request.getfixturevalue(f"{request.param}_output")
    return found


def read_through(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make DuckDB read S3 through "httpfs", or through "arrow" as where the extra is not installed."""
    if reader == "arrow":
        monkeypatch.setattr(httpfs, "extension_file", lambda: None)
    else:
        assert httpfs.extension_file() is not None, "the extra s3-query is not installed"


@pytest.fixture(params=["httpfs", "arrow"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of reading S3, one after the other."""
    found: str = request.param
    read_through(found, monkeypatch)
    return found


BY_READER = [
    pytest.param(f"{kind} {reader}", marks=[pytest.mark.slow] if kind == "ceph" else [])
    for kind in ("moto", "ceph")
    for reader in ("httpfs", "arrow")
]


@pytest.fixture(params=["folder", *BY_READER])
def store(request: pytest.FixtureRequest, client_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Store:
    """Every kind of store, and S3 through both readers."""
    kind, _, reader = request.param.partition(" ")
    if kind == "folder":
        folder: Store = request.getfixturevalue("folder_store")
        return folder
    read_through(reader, monkeypatch)
    client = client_of(request.getfixturevalue(f"{kind}_endpoint"))
    return S3Store(f"s3://{new_bucket(client)}/output", client)


DAYS = tuple(DT + timedelta(days=number) for number in range(3))


@pytest.fixture
def options(store: Store) -> dict[str, Any]:
    """What `connect` needs beside the output's address."""
    if not store.uri.startswith("s3://"):
        return {}
    assert isinstance(store, S3Store)
    return {"endpoint_url": store._client.meta.endpoint_url, "region": "us-east-1"}


def publish_days(store: Store) -> None:
    """Three partitions of two sessions each; the ids are the same in all."""
    for number, dt in enumerate(DAYS):
        rows = [
            row(1, confidence=90.0 + number, images=[image(0)], created_at=MORNING, attributes={"plan": "free"}),
            row(2, feedback=[{"code": "A", "message": "m"}]),
        ]
        land(store, rows, dt)
        publish.publish_partition(store, dt)


def damage(store: Store, dt: date) -> None:
    """Replace a partition's tables by what is no Parquet: whoever opens one of them fails."""
    for table in TABLES:
        store.put(publish.table_path(table, dt), b"not Parquet at all")
