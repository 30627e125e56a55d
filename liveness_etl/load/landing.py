"""The landing zone: `landing/dt=D/*.parquet`, append-only, one nested row per answer.

A part is written whole under a new name and never changed. Fold (`load.rewrite`) replaces many parts by one that names
them in its metadata: so a part and the fold that holds its rows may both be there after a crash, and readers know.

A part of an older version of this program is read under the present columns, and one of a newer version is refused
before anything is written (`transform.tables` has the rule).
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from liveness_etl.errors import Missing, NewerContract, StoreError
from liveness_etl.storage import ABSENT, Entry, Store
from liveness_etl.transform import tables

VERSION_KEY: Final = b"liveness_etl.contract_version"
FOLDED_KEY: Final = b"liveness_etl.folded"
FOLD_MARK: Final = "fold-"

_BATCH_ROWS: Final = 16_384
_OPEN_AHEAD: Final = 8
_TRIES: Final = 10

Row = Mapping[str, object]
"""One landing row: the columns of `tables.LANDING` by name."""


@dataclass(frozen=True)
class Landed:
    """A partition's landing at one moment: its parts, those already held by a fold, and what they come from.

    `origins` names the parts that sweeps wrote, and the tombstones for which rows were taken out since.
    """

    parts: tuple[Entry, ...]
    covered: tuple[Entry, ...]
    fingerprint: str
    origins: frozenset[str] = frozenset()


def folder_of(dt: date) -> str:
    """The landing folder of a partition."""
    return f"landing/dt={dt.isoformat()}/"


def part_bytes(rows: Sequence[Row]) -> bytes:
    """A landing part, as the bytes of its file."""
    sink = pa.BufferOutputStream()
    schema = tables.LANDING.with_metadata({VERSION_KEY: tables.CONTRACT_VERSION})
    # Page checksums: zstd as Parquet has it would let a flipped bit pass for another value.
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue())


def append_part(store: Store, dt: date, name: str, content: bytes) -> None:
    """Add one part; `name` must be new. Raises StoreError (Conflict for a name that is taken)."""
    store.put(f"{folder_of(dt)}{name}.parquet", content, expect=ABSENT)


def list_partitions(store: Store) -> list[date]:
    """The partitions that have landing parts, oldest first; a folder whose name is not one of ours is none."""
    found = set()
    for name in {PurePosixPath(entry.path).parts[1] for entry in store.list("landing/dt=")}:
        with suppress(ValueError):
            dt = date.fromisoformat(name.removeprefix("dt="))
            if name == f"dt={dt.isoformat()}":  # fromisoformat takes 20260301 too
                found.add(dt)
    return sorted(found)


def read_landed(store: Store, dt: date) -> Landed:
    """What a partition's landing holds now. Raises StoreError."""
    parts = [entry for entry in store.list(folder_of(dt)) if entry.path.endswith(".parquet")]
    origins: dict[str, frozenset[str]] = {}
    for part in parts:
        if stem(part).startswith(FOLD_MARK):
            with opened(store, part) as file:
                named = (file.schema_arrow.metadata or {}).get(FOLDED_KEY)
            if named is None:
                raise StoreError(
                    f"{store.uri}/{part.path} does not name the parts that it replaces: "
                    "restore it from a backup or move it away, then publish again"
                )
            origins[part.path] = frozenset(json.loads(named))
    folded = frozenset().union(*origins.values())
    covered = tuple(part for part in parts if stem(part) in folded)
    every = folded | {stem(part) for part in parts if part.path not in origins}
    digest = hashlib.sha256("\n".join([tables.CONTRACT_VERSION, *sorted(every)]).encode()).hexdigest()
    return Landed(tuple(part for part in parts if stem(part) not in folded), covered, digest, every)


def scan(store: Store, parts: Sequence[Entry], columns: Sequence[str] = ()) -> pa.RecordBatchReader:
    """All rows of the parts as one stream, with `columns` of `tables.LANDING` (all, if none are named).

    Raises while it is read: Missing for a part that is gone, StoreError for a damaged one, NewerContract for one that
    a newer version wrote.
    """
    wanted = [tables.LANDING.field(name) for name in columns] if columns else list(tables.LANDING)
    return scan_as(store, parts, pa.schema([field.remove_metadata() for field in wanted]))


def scan_as(store: Store, parts: Sequence[Entry], schema: pa.Schema) -> pa.RecordBatchReader:
    """All rows of the parts as one stream with the columns of `schema`. Raises as `scan` does."""
    return pa.RecordBatchReader.from_batches(schema, _batches(store, parts, schema))


def local_parts(store: Store, parts: Sequence[Entry], folder: Path) -> tuple[Sequence[Path], list[str]]:
    """The parts as local files (copies in `folder` where the store is S3), and the columns that they have.

    Raises as `scan` does.
    """
    copies = store.local_copies(parts, folder)
    known: set[str] = set()
    for part, copy in zip(parts, copies, strict=True):
        try:
            source = pa.OSFile(str(copy), "rb")
        except FileNotFoundError:
            raise Missing(f"{store.uri}/{part.path} is gone") from None
        with _parquet_file(store, part, source) as file:
            known.update(file.schema_arrow.names)
    return copies, [name for name in tables.LANDING.names if name in known]


def scan_partition(store: Store, dt: date, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """All landing rows of a partition; some come twice where a fold goes on meanwhile. Raises StoreError."""
    for again in range(_TRIES):
        try:
            yield from scan(store, read_landed(store, dt).parts, columns)
            return
        except Missing:
            if again == _TRIES - 1:
                raise


def _batches(store: Store, parts: Sequence[Entry], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    left = iter(parts)
    with ThreadPoolExecutor(_OPEN_AHEAD) as pool:
        ahead = deque((part, pool.submit(store.open, part.path)) for part in islice(left, _OPEN_AHEAD))
        while ahead:
            part, opening = ahead.popleft()
            if (following := next(left, None)) is not None:
                ahead.append((following, pool.submit(store.open, following.path)))
            with _parquet_file(store, part, opening.result()) as file, _damage_named(store, part):
                known = [name for name in schema.names if name in file.schema_arrow.names]
                for batch in file.iter_batches(_BATCH_ROWS, columns=known):
                    yield conformed(batch, schema)


def conformed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A part's batch under the current schema; a column that an older version did not know is NULL."""
    columns = [
        batch.column(field.name).cast(field.type)
        if field.name in batch.schema.names
        else pa.nulls(len(batch), field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def version_of(metadata: Mapping[bytes, bytes] | None) -> int | None:
    """The contract version of a file with this metadata; None where it is no number."""
    said = (metadata or {}).get(VERSION_KEY, b"1")
    return int(said) if said.isdigit() else None


def check_version(metadata: Mapping[bytes, bytes] | None, where: str) -> None:
    """Raises NewerContract for a file that a newer version of this program wrote, StoreError for one of no version."""
    version = version_of(metadata)
    if version is None:
        raise StoreError(f"{where} has a contract version that is no number: restore it from a backup or move it away")
    if version > int(tables.CONTRACT_VERSION):
        raise NewerContract(
            f"{where} was written by a newer liveness-etl (contract {version}; this one knows "
            f"{tables.CONTRACT_VERSION}): upgrade this installation"
        )


def check_partition(store: Store, dt: date) -> None:
    """Raises NewerContract where a newer version wrote a part of this partition, and StoreError."""
    for again in range(_TRIES):
        try:
            parts = read_landed(store, dt).parts
            with ThreadPoolExecutor(_OPEN_AHEAD) as pool:
                list(pool.map(lambda part: read_schema(store, part), parts))
            return
        except Missing:
            if again == _TRIES - 1:
                raise


def read_schema(store: Store, part: Entry) -> pa.Schema:
    """A part's columns and metadata. Raises as `scan` does."""
    with opened(store, part) as file:
        return file.schema_arrow


def opened(store: Store, part: Entry) -> AbstractContextManager[pq.ParquetFile]:
    """A part as an open Parquet file. Raises as `scan` does."""
    return _parquet_file(store, part, store.open(part.path))


@contextmanager
def _parquet_file(store: Store, part: Entry, source: pa.NativeFile) -> Iterator[pq.ParquetFile]:
    with source:
        with _damage_named(store, part):
            file = pq.ParquetFile(source, pre_buffer=True)
        check_version(file.schema_arrow.metadata, f"{store.uri}/{part.path}")
        with file:
            yield file


@contextmanager
def _damage_named(store: Store, part: Entry) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise StoreError(
            f"landing part {store.uri}/{part.path} cannot be read ({type(error).__name__}): "
            "restore it from a backup or move it away, then publish again"
        ) from None


def stem(part: Entry) -> str:
    """The name by which a fold knows a part."""
    return PurePosixPath(part.path).stem
