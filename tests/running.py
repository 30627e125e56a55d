"""What the tests of extract, the pipeline and the command line share: manifests, jobs, and what came of them."""

import time
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from liveness_etl.job import Job
from liveness_etl.local import LocalConfig, LocalRekognition, session_ids
from liveness_etl.settings import load_settings

DT = date(2026, 3, 1)
CREATED_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
SUCCEEDING = LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 1.0}, count_ids=True)


def ids(count: int, seed: int = 1) -> list[str]:
    """Session ids, the same ones for the same seed."""
    return list(session_ids(seed, count))


def write_manifest(path: Path, session_ids: Iterable[str], created_at: datetime | None = CREATED_AT) -> Path:
    """A CSV with session_id and created_at."""
    at = "" if created_at is None else created_at.isoformat()
    path.write_text("session_id,created_at\n" + "".join(f"{session_id},{at}\n" for session_id in session_ids))
    return path


def make_job(
    manifest: Path | str,
    output: Path | str,
    endpoint_url: str,
    *,
    command: str = "run",
    max_tps: float = 500,
    ask_again: tuple[str, ...] = (),
    **overrides: object,
) -> Job:
    """A job for one source; overrides are settings such as `sweep__retry_attempts=1`."""
    changed = {name.replace("__", "."): value for name, value in overrides.items()}
    settings = load_settings(None, {"output.uri": str(output)} | changed, environ={})
    return Job(
        command=command,
        manifest_uri=str(manifest),
        settings=settings,
        sources=settings.sources_or_default("us-east-1", endpoint_url, max_tps),
        ask_again=ask_again,
    )


def read_rows(output: Path, table: str) -> list[dict[str, Any]]:
    """All rows of a table (or of landing), in the order of files and rows."""
    return [
        row
        for path in sorted((output / table).glob("dt=*/*.parquet"))
        # At once: a file may be replaced between a look at its footer and one at its pages.
        for row in pq.read_table(pa.BufferReader(path.read_bytes())).to_pylist(maps_as_pydicts="strict")
    ]


def files_of(output: Path, *tables: str) -> dict[str, tuple[int, int]]:
    """Every file of some tables with its inode and time of change: what nobody touched stays equal."""
    return {
        str(path.relative_to(output)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for table in tables
        for path in sorted((output / table).rglob("*"))
        if path.is_file()
    }


def asks(rekognition: LocalRekognition) -> dict[str, int]:
    """How many requests the server got for each id (with `count_ids`)."""
    return dict(rekognition.stats()["asks_by_id"])


def wait_until(holds: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait for something that happens in another thread or process, on a machine that may be busy."""
    give_up_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up_at, "it did not happen in time"
        time.sleep(0.02)
