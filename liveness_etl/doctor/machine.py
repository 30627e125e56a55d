"""What a run needs of this machine: the engine, room for temporary files, and nothing left waiting."""

import shutil
import tempfile
from importlib.metadata import requires, version
from pathlib import Path
from typing import Final

from liveness_etl.analysis.httpfs import INSTALL, extension_file
from liveness_etl.analysis.query import fetch
from liveness_etl.doctor.finding import Finding, failed
from liveness_etl.errors import LivenessError
from liveness_etl.job import Job
from liveness_etl.load.landing_writer import rescued_parts
from liveness_etl.storage import Store, rescue_folder
from liveness_etl.storage_folder import LocalStore

_GIBIBYTE: Final = 1024**3
_LEAST_BYTES: Final = 0.2 * _GIBIBYTE  # a choice: a small night's plan and publish, and what DuckDB wants to begin with
_ENOUGH_BYTES: Final = 2 * _GIBIBYTE


def engine_finding(job: Job) -> Finding:
    """DuckDB is the version whose ways out of a query were closed, and it opens the tables. Reads no row."""
    check, found = "DuckDB", version("duckdb")
    pinned = next((need for need in requires("liveness-etl") or () if need.startswith("duckdb==")), "").partition("==")
    if pinned[2] != found:
        mend = f"pip install 'duckdb=={pinned[2]}'"
        return Finding("fail", check, f"{found} is installed: what query keeps out was tried with {pinned[2]}", mend)
    output = job.settings.output
    try:
        fetch(
            output.uri or "",
            "SELECT session_id FROM sessions LIMIT 0",
            endpoint_url=output.endpoint_url,
            region=output.region,
            profile=output.profile,
            expected_bucket_owner=output.expected_bucket_owner,
        )
    except LivenessError as error:
        return failed(check, error, "mend what is said of the output first")
    by = ""
    if output.uri and output.uri.startswith("s3://"):
        by = ", on S3 with httpfs" if extension_file() else f", on S3 without httpfs: {INSTALL} makes scans faster"
    return Finding("ok", check, f"{found} opens the tables{by}")


def rescue_finding(uri: str) -> Finding:
    """Answers that an earlier run could not land wait for the next one of this user with this output."""
    check = "rescued answers"
    waiting = len(rescued_parts(uri))
    if waiting:
        what = f"{waiting:,} part{'s' if waiting > 1 else ''} in {rescue_folder(uri)}"
        return Finding("warn", check, what, "run `run` or `sweep` as this user with this output: it lands them")
    return Finding("ok", check, "none wait on this machine")


def space_finding(store: Store) -> Finding:
    """Sorting spills, and a partition's files are made, in the output's own folder or else in TMPDIR."""
    folder = Path(tempfile.gettempdir())
    if isinstance(store, LocalStore):
        folder = next(parent for parent in (store.root, *store.root.parents) if parent.is_dir())
    free = shutil.disk_usage(folder).free
    what = f"{free / _GIBIBYTE:,.1f} GiB free in {folder}"
    mend = "free some, or set TMPDIR to a larger disk (for an output in a folder: make room there)"
    if free < _LEAST_BYTES:
        return Finding("fail", "disk", what, mend)
    if free < _ENOUGH_BYTES:
        return Finding("warn", "disk", f"{what}, where a large partition spills as much as it is", mend)
    return Finding("ok", "disk", what)
