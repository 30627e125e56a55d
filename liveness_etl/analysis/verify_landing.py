"""Landing parts, each by itself: read to the end, in the contract's schema, with values that can be."""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liveness_etl.analysis.findings import Finding, finding
from liveness_etl.load.landing import FOLD_MARK, FOLDED_KEY, check_version, version_of
from liveness_etl.storage import Entry
from liveness_etl.storage_folder import LocalStore
from liveness_etl.transform import tables

DAMAGE: Final = (pa.ArrowException, OSError, ValueError, MemoryError)
"""What pyarrow raises for bytes that are no sound Parquet file."""

_BATCH_ROWS: Final = 8_192
_SESSION_ID: Final = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"


def verify_landing(store: LocalStore, parts: Iterable[Entry]) -> tuple[bool, list[Finding]]:
    """Whether all parts can be published, and the findings. Raises Missing for a part that is gone, NewerContract."""
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
                if version_of(file.schema_arrow.metadata) is not None:
                    check_version(file.schema_arrow.metadata, part.path)
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
    if PurePosixPath(part.path).name.startswith(FOLD_MARK) and FOLDED_KEY not in metadata:
        return "landing-schema"
    return None if fulfils(file.schema_arrow, tables.LANDING) else "landing-schema"


def fulfils(schema: pa.Schema, contract: pa.Schema) -> bool:
    """Whether some version that shares an output with this one may have written a file with this schema.

    Columns may be missing, or be too many, where one of the two does not know them yet. False for no version at all.
    """
    version = version_of(schema.metadata)
    if version != int(tables.CONTRACT_VERSION):
        return version is not None
    fields = {field.name: field for field in schema}
    return all(
        field.nullable
        if (found := fields.get(field.name)) is None
        else found.nullable == field.nullable and _plain(found.type).equals(field.type)
        for field in contract
    )


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type of the same values without what Arrow writers do to save space."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_map(kind):
        return pa.map_(_plain(kind.key_type), _plain(kind.item_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _plain(field.type)) for field in kind])
    return pa.string() if pa.types.is_large_string(kind) else kind


def _odd_rows(batch: pa.RecordBatch) -> int:
    confidence = (
        batch.column("confidence") if "confidence" in batch.schema.names else pa.nulls(len(batch), pa.float64())
    )
    possible = pc.and_(pc.greater_equal(confidence, 0.0), pc.less_equal(confidence, 100.0))
    sound = pc.and_(
        pc.match_substring_regex(batch.column("session_id").cast(pa.string()), _SESSION_ID),
        pc.fill_null(possible, True),
    )
    return len(batch) - (pc.sum(sound).as_py() or 0)
