"""DuckDB as the merge engine of plan and publish: in memory up to a limit, spilling beyond it."""

import os
import re
from pathlib import Path
from typing import Final

import duckdb

_BYTES_PER_THREAD: Final = 256 * 1024 * 1024  # each sorting thread pins blocks of its own: many exhaust the limit
_UNITS: Final = {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def open_engine(folder: Path, memory_limit: str) -> duckdb.DuckDBPyConnection:
    """A private in-memory database that spills into `folder` above `memory_limit` (such as '1GB'). Time is UTC."""
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
    connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
    return connection
