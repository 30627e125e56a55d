"""One partition, read as it was at one moment: landing, tables, images."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from liveness_etl.analysis.findings import Finding
from liveness_etl.analysis.verify_images import verify_images
from liveness_etl.analysis.verify_landing import verify_landing
from liveness_etl.analysis.verify_rows import Forgotten
from liveness_etl.analysis.verify_tables import verify_tables
from liveness_etl.errors import Missing, StoreError
from liveness_etl.load import landing, publish
from liveness_etl.load.images import ImagePlace
from liveness_etl.storage import Entry, Store
from liveness_etl.storage_folder import LocalStore
from liveness_etl.transform.tables import TABLES

_TRIES: Final = 5
_IDS: Final = pa.schema([("session_id", pa.string()), ("dt", pa.date32())])


@dataclass(frozen=True)
class Options:
    """`places` are the image stores; without `hash_images` only the images' sizes are compared."""

    places: Sequence[ImagePlace]
    hash_images: bool
    memory_limit: str
    forgotten: Forgotten


@dataclass(frozen=True)
class VerifiedPartition:
    """What was looked at, and what was found."""

    dt: date
    sessions: int
    images: int
    findings: tuple[Finding, ...]


def verify_partition(store: Store, dt: date, folder: Path, ids: Path, options: Options) -> VerifiedPartition:
    """Audit one partition; its session ids go to the Parquet file `ids`, if `sessions` can be read.

    Starts again where a publish or a fold overtook it. Raises StoreError.
    """
    for _ in range(_TRIES):
        # Tags first, landing second: tables that are the same afterwards were made from no more than this landing.
        before = _tags(store, dt)
        try:
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                verified = _verify_once(store, dt, [entry for entry in before if entry], Path(scratch), ids, options)
        except Missing:
            continue
        except duckdb.Error as error:
            raise StoreError(
                f"DuckDB could not audit partition {dt} ({str(error).splitlines()[0]}): raise publish.memory_limit, or "
                "let TMPDIR name a folder with more room"
            ) from None
        if _tags(store, dt) == before:
            return verified
    raise StoreError(f"partition {dt} was replaced {_TRIES} times while it was read: verify again later")


def _tags(store: Store, dt: date) -> list[Entry | None]:
    return [store.head(publish.table_path(table, dt)) for table in TABLES]


def _verify_once(
    store: Store, dt: date, table_files: Sequence[Entry], scratch: Path, ids: Path, options: Options
) -> VerifiedPartition:
    parts = [entry for entry in store.list(landing.folder_of(dt)) if entry.path.endswith(".parquet")]
    copy = _copied(store, [*parts, *table_files], scratch)
    is_sound, findings = verify_landing(copy, parts)
    landed = landing.read_landed(copy, dt) if is_sound else None
    files, of_tables = verify_tables(copy, dt, landed, scratch, options.memory_limit, options.forgotten)
    findings += of_tables
    images = 0
    boxes = files.get("bounding_boxes")
    if boxes is not None and boxes.has_schema:
        landed_parts = None if landed is None else [copy.root / part.path for part in landed.parts]
        images, of_images = verify_images(
            boxes.path, landed_parts, options.places, dt, scratch, options.memory_limit, hash_images=options.hash_images
        )
        findings += of_images
    sessions = files.get("sessions")
    if sessions is not None and sessions.is_comparable:
        _write_ids(sessions.path, dt, ids)
    return VerifiedPartition(dt, 0 if sessions is None else sessions.rows, images, tuple(findings))


def _copied(store: Store, entries: Sequence[Entry], scratch: Path) -> LocalStore:
    """The partition's files at their paths in a folder of its own: copies, or links where the store is a folder."""
    copy = LocalStore(scratch / "copy")
    held = scratch / "held"
    held.mkdir()
    for entry, local in zip(entries, store.local_copies(entries, held), strict=True):
        link = copy.root / entry.path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(local)
    return copy


def _write_ids(sessions: Path, dt: date, ids: Path) -> None:
    with pq.ParquetFile(sessions, pre_buffer=False) as file, pq.ParquetWriter(ids, _IDS, compression="zstd") as writer:
        for batch in file.iter_batches(columns=["session_id"]):
            session_ids = batch.column("session_id").cast(pa.string())
            days = pa.repeat(pa.scalar(dt), len(batch))
            writer.write_batch(pa.RecordBatch.from_arrays([session_ids, days], schema=_IDS))
