"""The tables `runs` and `rejects`: what each run did, one small file a run, under the date it started."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from liveness_etl.errors import Missing
from liveness_etl.load.landing import VERSION_KEY
from liveness_etl.storage import Store
from liveness_etl.transform.tables import CONTRACT_VERSION, REJECTS, RUNS

_METADATA = {VERSION_KEY: CONTRACT_VERSION}


def record_path(table: str, started_at: datetime, run_id: str) -> str:
    """Where a run's file of `runs` or `rejects` stands below the output."""
    return f"{table}/dt={started_at.date().isoformat()}/{run_id}.parquet"


def write_run(store: Store, row: dict[str, Any]) -> None:
    """Write, or replace, the record of a run: all columns of `tables.RUNS`. Raises StoreError."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([row], schema=RUNS.with_metadata(_METADATA)), sink, compression="zstd")
    store.put(record_path("runs", row["started_at"], row["run_id"]), bytes(sink.getvalue()))


def run_paths(store: Store, started: date) -> list[str]:
    """Where the records of the runs stand that started on a day, the earliest first. Raises StoreError."""
    return [entry.path for entry in store.list(f"runs/dt={started}/") if entry.path.endswith(".parquet")]


def read_run(store: Store, path: str) -> dict[str, Any] | None:
    """The record at a path, maps as lists of pairs; None if it is gone or is none. Raises StoreError."""
    try:
        with store.open(path) as file:
            rows: list[dict[str, Any]] = pq.read_table(file, partitioning=None).to_pylist()
    except (Missing, pa.ArrowInvalid):
        return None
    return rows[0] if rows else None


class RejectsFile:
    """Collects rejects in a local file, created with the first one."""

    def __init__(self, path: Path, run_id: str) -> None:
        self._path, self._run_id = path, run_id
        self._writer: pq.ParquetWriter | None = None
        self.rows = 0

    def add(self, rejects: pa.RecordBatch) -> None:
        """Take rejects: columns manifest_uri, line_number, reason."""
        if not len(rejects):
            return
        schema = REJECTS.with_metadata(_METADATA)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, schema, compression="zstd")
        run_ids = pa.repeat(pa.scalar(self._run_id), len(rejects))
        columns = [run_ids, *(rejects.column(name) for name in REJECTS.names[1:])]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=schema))
        self.rows += len(rejects)

    def put(self, store: Store, started_at: datetime) -> None:
        """Move the file into the store, if there is one. Raises StoreError."""
        if self._writer is not None:
            self._writer.close()
            store.put(record_path("rejects", started_at, self._run_id), self._path)


@contextmanager
def rejects_file(folder: Path, run_id: str) -> Iterator[RejectsFile]:
    """A RejectsFile in a scratch folder, closed whatever happens."""
    rejects = RejectsFile(folder / "rejects", run_id)
    try:
        yield rejects
    finally:
        if rejects._writer is not None:
            rejects._writer.close()
