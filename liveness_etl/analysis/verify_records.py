"""The records of runs and their rejects: readable, in their schema, and complete."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Final

import pyarrow.parquet as pq

from liveness_etl.analysis.findings import Finding, finding
from liveness_etl.analysis.verify_landing import DAMAGE, fulfils
from liveness_etl.analysis.verify_layout import partition_of, stray
from liveness_etl.errors import Missing
from liveness_etl.load.landing import check_version, version_of
from liveness_etl.storage import Entry, Store
from liveness_etl.transform.tables import SCHEMAS

_AT_ONCE: Final = 16
_WAITING: Final = 4 * _AT_ONCE


def verify_records(store: Store) -> list[Finding]:
    """The findings of `runs` and `rejects`; runs that did not complete are a note.

    Raises StoreError and NewerContract.
    """
    findings: list[Finding] = []
    unfinished = 0
    for entry, problem in _read_all(store):
        if problem is None:
            continue
        if problem == "run-unfinished":
            unfinished += 1
        elif problem == "stray-file":
            findings += stray(entry)
        else:
            findings.append(finding(problem, entry.path))
    return [*findings, finding("run-unfinished", "runs/", unfinished)] if unfinished else findings


def _read_all(store: Store) -> Iterator[tuple[Entry, str | None]]:
    waiting: deque[tuple[Entry, Future[str | None]]] = deque()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for table in ("runs", "rejects"):
            for entry in store.list(f"{table}/"):
                waiting.append((entry, pool.submit(_problem, store, table, entry)))
                if len(waiting) >= _WAITING:
                    oldest, reading = waiting.popleft()
                    yield oldest, reading.result()
        for entry, reading in waiting:
            yield entry, reading.result()


def _problem(store: Store, table: str, entry: Entry) -> str | None:
    path = PurePosixPath(entry.path)
    if partition_of(entry) is None or path.suffix != ".parquet" or path.name.startswith((".", "_")):
        return "stray-file"
    try:
        with store.open(entry.path) as source, pq.ParquetFile(source) as file:
            schema = file.schema_arrow
            if version_of(schema.metadata) is not None:
                check_version(schema.metadata, f"{store.uri}/{entry.path}")
            if not fulfils(schema, SCHEMAS[table]):
                return "record-damaged"
            completed = True
            for batch in file.iter_batches():
                completed = completed and (table != "runs" or all(batch.column("completed").to_pylist()))
    except Missing:
        return None  # a run that found its source leased takes its record back
    except DAMAGE:
        return "record-damaged"
    return None if completed else "run-unfinished"
