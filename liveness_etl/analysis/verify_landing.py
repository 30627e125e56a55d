"""Landing parts, each by itself: read to the end, in the contract's schema, with values that can be."""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liveness_etl.analysis.findings import Finding, finding
from liveness_etl.load.landing import FOLD_MARK, FOLDED_KEY, VERSION_KEY
from liveness_etl.storage import Entry, LocalStore
from liveness_etl.transform.tables import CONTRACT_VERSION, LANDING

DAMAGE: Final = (pa.ArrowException, OSError, ValueError, MemoryError)
"""What pyarrow raises for bytes that are no sound Parquet file."""

_BATCH_ROWS: Final = 8_192
_SESSION_ID: Final = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"


def verify_landing(store: LocalStore, parts: Iterable[Entry]) -> tuple[bool, list[Finding]]:
    """Whether all parts can be published, and the findings. Raises Missing for a part that is gone."""
    with duckdb.connect() as probe:
        findings = [found for part in parts for found in _verify_part(store, part, probe)]
    pa.default_memory_pool().release_unused()  # DuckDB's sort comes next, and takes all that it is given
    return all(found.check == "landing-values" for found in findings), findings


def check_footer(probe: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Raise ValueError where DuckDB cannot read a footer: it reads what pyarrow passes over, such as statistics."""
    try:
        probe.execute("FROM parquet_metadata(?)", [str(path)]).fetchall()
    except duckdb.Error as error:
        raise ValueError(str(error)) from None


def _verify_part(store: LocalStore, part: Entry, probe: duckdb.DuckDBPyConnection) -> Iterator[Finding]:
    with store.open(part.path) as source:
        try:
            with pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=False) as file:
                problem = _problem_of_header(part, file)
                odd = 0 if problem else sum(map(_odd_rows, file.iter_batches(_BATCH_ROWS)))
            check_footer(probe, store.root / part.path)
        except DAMAGE:
            problem, odd = "landing-damaged", 0
    if problem:
        yield finding(problem, part.path)
    elif odd:
        yield finding("landing-values", part.path, odd)


def _problem_of_header(part: Entry, file: pq.ParquetFile) -> str | None:
    metadata = file.schema_arrow.metadata or {}
    version = metadata.get(VERSION_KEY, b"").decode("ascii", "replace")
    if not version.isdigit() or int(version) > int(CONTRACT_VERSION):
        return "landing-version"
    fields = {field.name: field for field in file.schema_arrow}
    if PurePosixPath(part.path).name.startswith(FOLD_MARK) and FOLDED_KEY not in metadata:
        return "landing-schema"
    known = all(name in LANDING.names and field.equals(LANDING.field(name)) for name, field in fields.items())
    whole = all(field.nullable or field.name in fields for field in LANDING)  # an older version may lack the others
    return None if known and whole else "landing-schema"


def _odd_rows(batch: pa.RecordBatch) -> int:
    confidence = batch.column("confidence")
    possible = pc.and_(pc.greater_equal(confidence, 0.0), pc.less_equal(confidence, 100.0))
    sound = pc.and_(pc.match_substring_regex(batch.column("session_id"), _SESSION_ID), pc.fill_null(possible, True))
    return len(batch) - (pc.sum(sound).as_py() or 0)
