"""Whether a day's outcomes differ from those of the four weeks before it.

From the tables and not from the run records: where results are swept every minute, no record has the day as a whole.
Of at most 29 files one column is read, a few bits a session.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Final

import pyarrow.parquet as pq

from liveness_etl.analysis.statistics import FEWEST_SESSIONS, SMALLEST_PSI, drift_flags
from liveness_etl.errors import Missing
from liveness_etl.storage import Store
from liveness_etl.transform.normalize import NO_SUCH_SESSION

BASELINE_DAYS: Final = 28

_KINDS: Final = ("SUCCEEDED", "FAILED", "EXPIRED", "not found")
_READ_AT_ONCE: Final = 8


def drift_reason(store: Store, dt: date) -> str | None:
    """A plain sentence if the outcomes of a partition differ from those of the 28 before it; None if they do not.

    Compared are the ids with a final answer, four kinds of it: errors and pending ids are no property of the day. It
    is the report's rule (stability index above 0.1 and above what chance reaches in 1 of 100 days; 500 sessions on
    either side). Raises StoreError.
    """
    day = outcomes_of(store, dt)
    if sum(day) < FEWEST_SESSIONS:
        return None
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        before = list(pool.map(lambda days: outcomes_of(store, dt - timedelta(days)), range(1, BASELINE_DAYS + 1)))
    baseline = [sum(counts) for counts in zip(*before, strict=True)]
    (judged,) = drift_flags([(baseline, day)])
    if judged.state != "drift" or judged.psi is None or judged.bound is None:
        return None
    was, now = _shares(baseline), _shares(day)
    most = max(range(len(_KINDS)), key=lambda kind: abs(now[kind] - was[kind]))
    return (
        f"the outcomes of {dt} differ from those of the {BASELINE_DAYS} days before it (alerts.drift; index "
        f"{judged.psi:.2f}, above {max(SMALLEST_PSI, judged.bound):.2f}): {_KINDS[most]} {100 * now[most]:.1f} % "
        f"instead of {100 * was[most]:.1f} %"
    )


def outcomes_of(store: Store, dt: date) -> list[int]:
    """How many sessions of a partition have a final answer of each kind. Raises StoreError."""
    counts: Counter[str] = Counter()
    try:
        with store.open(f"sessions/dt={dt}/part-00000.parquet") as file, pq.ParquetFile(file) as table:
            for batch in table.iter_batches(columns=["outcome"]):
                for one in batch.column(0).value_counts().to_pylist():
                    counts[one["values"]] += one["counts"]
    except Missing:
        pass
    return [*(counts[status] for status in _KINDS[:-1]), sum(counts[code] for code in NO_SUCH_SESSION)]


def _shares(counts: Sequence[int]) -> list[float]:
    return [count / sum(counts) for count in counts]
