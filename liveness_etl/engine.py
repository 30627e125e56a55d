"""DuckDB as the merge engine of plan and publish: in memory up to a limit, spilling beyond it."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import duckdb

from liveness_etl.errors import Stopped, StoreError

_BYTES_PER_THREAD: Final = 256 * 1024 * 1024  # each sorting thread pins blocks of its own: many exhaust the limit
_UNITS: Final = {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@contextlib.contextmanager
def open_engine(folder: Path, memory_limit: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A private in-memory database that spills into `folder` above `memory_limit` (such as '1GB'). Time is UTC.

    Raises StoreError where it can neither hold nor spill its rows, Stopped where another thread interrupts it.
    """
    number, unit = re.fullmatch(r"([\d.]+)\s*([KMGT])i?B", memory_limit, re.IGNORECASE).groups()  # type: ignore[union-attr]
    threads = int(float(number) * _UNITS[unit.upper()] / _BYTES_PER_THREAD)
    connection = duckdb.connect(
        config={
            "memory_limit": memory_limit,
            "temp_directory": str(folder / "spill"),
            "threads": max(1, min(threads, os.cpu_count() or 1)),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
        }
    )
    with connection:
        connection.execute("SET TimeZone = 'UTC'")
        hide_progress(connection)
        try:
            yield connection
        except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
            raise StoreError(
                f"DuckDB ran out of memory or of disk in {folder}: {str(error).splitlines()[0]}; "
                "free some, or raise publish.memory_limit"
            ) from None
        except duckdb.InterruptException:
            raise Stopped("stopped while planning") from None


def sql_text(value: str) -> str:
    """A text in SQL, where a parameter cannot stand."""
    return "'" + value.replace("'", "''") + "'"


def hide_progress(connection: duckdb.DuckDBPyConnection) -> None:
    """No progress bar of DuckDB's. In a notebook it has none without ipywidgets, and fails to be told so."""
    with contextlib.suppress(duckdb.InvalidInputException):
        connection.execute("SET enable_progress_bar = false")
