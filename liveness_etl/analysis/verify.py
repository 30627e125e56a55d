"""The audit of an output: does every file say what landing, its siblings, the images and the manifest say?

Reads the output alone and writes nothing there; what has to spill goes to the system's temporary folder (TMPDIR).
Partition after partition, so that memory depends on none but the settings. The checks:

    verify_layout     which partitions there are; files that do not belong
    verify_landing    landing parts: whole, known, plausible
    verify_tables     a partition's tables are what landing makes of them (verify_rows says where not)
    verify_images     stored images are there and unaltered
    verify_ids        every id in one partition; every id of the manifest has its row
    verify_records    runs and rejects
"""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from liveness_etl.analysis.findings import Finding
from liveness_etl.analysis.verify_ids import verify_ids, write_wanted
from liveness_etl.analysis.verify_layout import read_partitions
from liveness_etl.analysis.verify_partition import Options, VerifiedPartition, verify_partition
from liveness_etl.analysis.verify_records import verify_records
from liveness_etl.analysis.verify_rows import Forgotten
from liveness_etl.errors import UsageError
from liveness_etl.load.images import ImagePlace
from liveness_etl.storage import Store
from liveness_etl.storage_folder import LocalStore
from liveness_etl.transform.tables import SCHEMAS

_OURS: Final = ("landing", *SCHEMAS, "images", "_state")


@dataclass(frozen=True)
class Verified:
    """What an audit looked at, and what it found: defects first, then notes."""

    partitions: int
    sessions: int
    images: int
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """3 where there is any defect; a note is none."""
        return 3 if any(not found.is_note for found in self.findings) else 0


def verify_output(
    store: Store,
    places: Sequence[ImagePlace],
    *,
    manifest_ids: Iterable[pa.RecordBatch] | None = None,
    forgotten: Forgotten = lambda session_ids: set(),
    hash_images: bool = True,
    memory_limit: str = "1GB",
    on_partition: Callable[[VerifiedPartition], None] = lambda verified: None,
) -> Verified:
    """Audit an output, and `manifest_ids` (columns session_id and dt, in the manifest's order) against it.

    `places` are the only stores that images are read from. `forgotten` tells which ids were erased: nothing of them
    is missed. Raises UsageError where there is no output, NewerContract where a newer version has written there,
    StoreError, and what reading the manifest raises.
    """
    _check_output(store)
    options = Options(places, hash_images, memory_limit, forgotten)
    with tempfile.TemporaryDirectory(prefix="liveness-etl-") as name:
        folder, ids, wanted = Path(name), Path(name) / "ids", None
        ids.mkdir()
        if manifest_ids is not None:
            wanted = folder / "wanted.parquet"
            write_wanted(manifest_ids, wanted)
        partitions, findings = read_partitions(store)
        sessions = images = 0
        for dt in partitions:
            verified = verify_partition(store, dt, folder, ids / f"{dt}.parquet", options)
            on_partition(verified)
            findings += verified.findings
            sessions += verified.sessions
            images += verified.images
        findings += verify_ids(ids, wanted, folder, memory_limit, forgotten)
        findings += verify_records(store)
    return Verified(len(partitions), sessions, images, tuple(sorted(findings, key=lambda found: found.is_note)))


def _check_output(store: Store) -> None:
    """A slip of the pen in --output must not look like an output without defects."""
    if isinstance(store, LocalStore) and not store.root.is_dir():
        raise UsageError(f"there is no folder {store.uri}: check --output")
    if any(next(store.list(f"{name}/"), None) for name in _OURS):
        return
    if not isinstance(store, LocalStore) or any(store.root.iterdir()):
        raise UsageError(f"{store.uri} holds no output of this program: check --output")
