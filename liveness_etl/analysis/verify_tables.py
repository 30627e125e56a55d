"""One partition's four table files, held against what landing says they must be.

The tables are a pure function of landing: so they are made again in memory and compared row by row as they
stream by. Only a table that differs is looked into (`verify_rows`). Tables of an older landing are held
against each other alone.
"""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from liveness_etl.analysis import verify_rows
from liveness_etl.analysis.findings import Finding, finding
from liveness_etl.analysis.verify_landing import DAMAGE, check_footer
from liveness_etl.analysis.verify_rows import Engine, Forgotten, TableFile
from liveness_etl.engine import open_engine
from liveness_etl.load import landing, publish
from liveness_etl.storage_folder import LocalStore
from liveness_etl.transform import normalize, tables

_BATCH_ROWS: Final = 8_192
_ROW_GROUP_ROWS: Final = 131_072


def verify_tables(
    store: LocalStore,
    dt: date,
    landed: landing.Landed | None,
    scratch: Path,
    memory_limit: str,
    forgotten: Forgotten,
) -> tuple[dict[str, TableFile], list[Finding]]:
    """The tables that can be read to their end, by name, and the findings.

    `landed` is None where the partition's landing is damaged. Raises Missing for a file that is gone, and
    NewerContract.
    """
    files, findings = _open_tables(store, dt)
    if not files and not findings:
        return {}, [] if landed is None else [finding("table-stale", f"landing/dt={dt}/", len(tables.TABLES), dt=dt)]
    current = [
        table
        for table, file in files.items()
        if landed is not None and landed.parts and file.fingerprint in (None, landed.fingerprint)
    ]
    readings = {table: _Reading(file) for table, file in files.items()}
    if landed is not None and current:
        for winners in publish.read_winners(store, landed, scratch, memory_limit):
            for first in range(0, len(winners), _BATCH_ROWS):
                some = winners.slice(first, _BATCH_ROWS)
                for table in current:
                    readings[table].expect(normalize.NORMALIZE[table](some))
    for table, reading in readings.items():
        reading.finish()
        if reading.damaged:
            findings.append(finding("table-damaged", files.pop(table).location(dt), dt=dt))
    differing = [files[table] for table in current if table in files and not readings[table].same]
    if landed is not None and differing:
        publish.write_tables(store, landed, scratch, _ROW_GROUP_ROWS, memory_limit)
    with open_engine(scratch, memory_limit) as engine:
        for file in differing:
            findings += _explain(engine, dt, file, scratch / file.table, files)
        old = {table: file for table, file in files.items() if table not in current}
        findings += _verify_old(engine, store, dt, landed, old, forgotten)
    return files, findings


def _explain(engine: Engine, dt: date, file: TableFile, expected: Path, files: dict[str, TableFile]) -> list[Finding]:
    """Why a table is not what it should be; one that turns out to be damaged is taken out of `files`."""
    if not file.is_comparable:
        return []  # its schema was found out already
    try:
        return verify_rows.compare(engine, dt, file, expected, files.get("sessions"))
    except (duckdb.OutOfMemoryException, duckdb.IOException):
        raise
    except duckdb.Error:  # a page that pyarrow read as something, and DuckDB not at all
        del files[file.table]
        return [finding("table-damaged", file.location(dt), dt=dt)]


def _open_tables(store: LocalStore, dt: date) -> tuple[dict[str, TableFile], list[Finding]]:
    files: dict[str, TableFile] = {}
    findings: list[Finding] = []
    paths = {table: publish.table_path(table, dt) for table in tables.TABLES}
    missing = [finding("table-missing", path, dt=dt) for path in paths.values() if store.head(path) is None]
    with duckdb.connect() as probe:
        for table, path in paths.items():
            if store.head(path) is None:
                continue
            try:
                with store.open(path) as source, pq.ParquetFile(source) as parquet:
                    schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
                check_footer(probe, store.root / path)
            except DAMAGE:
                findings.append(finding("table-damaged", path, dt=dt))
                continue
            metadata = schema.metadata or {}
            version = landing.version_of(metadata)
            if version is not None:
                landing.check_version(metadata, path)
            is_older = version is not None and version < int(tables.CONTRACT_VERSION)
            fingerprint = metadata.get(publish.FINGERPRINT_KEY, b"").decode("ascii", "replace")
            has_schema = schema.equals(tables.SCHEMAS[table])
            if not has_schema and not is_older:
                findings.append(finding("table-schema", path, dt=dt))
            elif version is None or not fingerprint:
                findings.append(finding("table-origin", path, dt=dt))
            files[table] = TableFile(
                table, store.root / path, tuple(schema.names), has_schema, fingerprint or None, rows
            )
    return files, findings + (missing if len(missing) < len(paths) else [])


def _verify_old(
    engine: Engine,
    store: LocalStore,
    dt: date,
    landed: landing.Landed | None,
    old: dict[str, TableFile],
    forgotten: Forgotten,
) -> list[Finding]:
    """Tables that cannot be held against landing: against each other, and landing against them."""
    comparable = [file for file in old.values() if file.is_comparable]
    findings = []
    for file in comparable:
        parents = old.get("sessions")
        together = parents is not None and parents.is_comparable and parents.fingerprint == file.fingerprint
        findings += verify_rows.verify_alone(engine, dt, file, parents if together else None)
    if landed is None or not old:
        return findings
    sessions = old.get("sessions")
    lost = None
    if sessions is not None and sessions.has_schema:
        parts = [store.root / part.path for part in landed.parts]
        lost = verify_rows.lost(engine, dt, sessions, parts, forgotten)
    if lost is not None:
        return [*findings, lost]
    if landed.parts:
        findings.append(finding("table-stale", f"landing/dt={dt}/", len(old), dt=dt))
    return findings


class _Reading:
    """A table file as it is read beside the rows that it should have."""

    def __init__(self, file: TableFile) -> None:
        self.same = True
        self.damaged = False
        self._held = pa.table({})
        self._batches = self._read(file.path)

    def expect(self, rows: pa.RecordBatch) -> None:
        """The next rows must be these."""
        while self._held.num_rows < len(rows) and (batch := next(self._batches, None)) is not None:
            self._held = pa.concat_tables([self._held, batch]) if self._held.num_rows else batch
        self.same = self.same and self._held.slice(0, len(rows)).equals(pa.Table.from_batches([rows]))
        self._held = self._held.slice(len(rows))

    def finish(self) -> None:
        """There must be no further row; reads on all the same, since a damaged end matters."""
        self.same = self.same and not self._held.num_rows
        for _ in self._batches:
            self.same = False

    def _read(self, path: Path) -> Iterator[pa.Table]:
        try:
            with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
                for batch in file.iter_batches(_BATCH_ROWS):
                    if len(batch):
                        yield pa.Table.from_batches([batch])
        except DAMAGE:
            self.damaged = True
