"""Amazon Rekognition Face Liveness results, from a manifest of session ids to Parquet tables.

For the people who read the tables: `connect` (DuckDB) and `read_results` (pandas).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from liveness_etl.analysis.frame import read_results
    from liveness_etl.analysis.query import connect

__all__ = ["connect", "read_results"]


def __getattr__(name: str) -> Any:
    """Both are imported when they are first used: the command line imports this package, and is to answer at once."""
    if name == "connect":
        from liveness_etl.analysis.query import connect

        return connect
    if name == "read_results":
        from liveness_etl.analysis.frame import read_results

        return read_results
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
