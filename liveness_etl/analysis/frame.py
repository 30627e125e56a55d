"""Results as a pandas DataFrame with the types of the tables."""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from liveness_etl.analysis.query import connect, translated
from liveness_etl.analysis.views import results_schema
from liveness_etl.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd


def read_results(
    output: str,
    *,
    start: date | str | None = None,
    end: date | str | None = None,
    attributes: Sequence[str] = (),
    **options: Any,
) -> "pd.DataFrame":
    """The view `results` of the partitions from `start` to `end`, both included, sorted by dt and session_id.

    Dates are dates or texts such as "2026-01-31"; without one, that side is open. Columns have pyarrow's types
    (pandas.ArrowDtype): NULL is missing, never NaN or a guess. `options` are those of `connect`. Raises UsageError
    and StoreError.
    """
    try:
        import pandas as pd
    except ImportError:
        raise UsageError("read_results needs pandas: pip install 'liveness-etl[pandas]'") from None
    bounds = {"first": _day("start", start), "last": _day("end", end)}
    with translated(), connect(output, attributes=attributes, **options) as connection:
        rows = connection.execute(
            "FROM results WHERE ($first IS NULL OR dt >= $first) AND ($last IS NULL OR dt <= $last) "
            "ORDER BY dt, session_id",
            bounds,
        ).to_arrow_table()
    typed = rows.cast(results_schema(attributes).remove_metadata())
    return typed.to_pandas(types_mapper=pd.ArrowDtype)


def _day(name: str, given: date | str | None) -> date | None:
    if not isinstance(given, str):
        return given
    try:
        return date.fromisoformat(given)
    except ValueError:
        raise UsageError(f"{name} must be a date such as 2026-01-31") from None
