"""Which partitions an output has, and which files stand where they do not belong."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from pathlib import PurePosixPath

from liveness_etl.analysis.findings import Finding, finding
from liveness_etl.storage import Entry, Store
from liveness_etl.transform.tables import TABLES


def read_partitions(store: Store) -> tuple[list[date], list[Finding]]:
    """The partitions that landing or a table has, oldest first, and the stray files among them."""
    found: set[date] = set()
    findings: list[Finding] = []
    for folder in ("landing", *TABLES):
        for entry in store.list(f"{folder}/"):
            if (dt := partition_of(entry)) is not None and _belongs(entry, folder):
                found.add(dt)
            else:
                findings += stray(entry)
    return sorted(found), findings


def partition_of(entry: Entry) -> date | None:
    """The date of `<folder>/dt=<date>/<file>`; None for a file anywhere else."""
    parts = PurePosixPath(entry.path).parts
    with suppress(ValueError):
        if len(parts) == 3 and parts[1].startswith("dt="):
            dt = date.fromisoformat(parts[1].removeprefix("dt="))
            return dt if parts[1] == f"dt={dt.isoformat()}" else None
    return None


def stray(entry: Entry) -> Iterator[Finding]:
    """A file that does not belong where it stands: a defect where an engine would take it for rows.

    Athena reads all but hidden (`.` and `_`) names below a table's location, DuckDB whatever ends in .parquet.
    """
    path = PurePosixPath(entry.path)
    if entry.path.endswith("/") and not entry.size:
        return  # a folder, as S3's console makes them
    unseen = path.name.startswith((".", "_")) or path.parts[0] == "landing"
    yield finding("foreign-file" if unseen and path.suffix != ".parquet" else "stray-file", entry.path)


def _belongs(entry: Entry, folder: str) -> bool:
    name = PurePosixPath(entry.path).name
    return name.endswith(".parquet") if folder == "landing" else name == "part-00000.parquet"
