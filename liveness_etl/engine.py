"""DuckDB as the merge engine of plan and publish: in memory up to a limit, spilling beyond it."""

from pathlib import Path

import duckdb


def open_engine(folder: Path, memory_limit: str) -> duckdb.DuckDBPyConnection:
    """A private in-memory database that spills into `folder` above `memory_limit` (such as '1GB'). Time is UTC."""
    connection = duckdb.connect(
        config={
            "memory_limit": memory_limit,
            "temp_directory": str(folder / "spill"),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
        }
    )
    connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
    return connection
