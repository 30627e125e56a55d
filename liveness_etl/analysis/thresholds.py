"""What would pass at which threshold: counts at every threshold that may be told, for a slider to choose from."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from liveness_etl.analysis import charts
from liveness_etl.analysis.confidence import Counts, cut_of, score_at
from liveness_etl.analysis.facts import BINS, Facts
from liveness_etl.analysis.figure import Column, Figure, Section, Table
from liveness_etl.analysis.people import people
from liveness_etl.analysis.statistics import wilson
from liveness_etl.analysis.tally import ALL, Tally

MOST_POINTS: Final = 400

_NOTES: Final = [
    "A session passes if it ended SUCCEEDED with a confidence of at least the threshold.",
    "A pass rate is not 1 − BPCER: nobody knows which of these sessions were attacks. With a file of labels "
    "(--labels) the error rates are measured.",
    "Worst and best case: as if every session without a score had failed, or passed.",
]
_INDEPENDENT: Final = (
    "The intervals (Wilson, 95 %) take sessions as independent, and are too narrow where people repeat: "
    "set report.subject_attribute to tell people apart."
)


def thresholds(
    facts: Facts, tally: Tally, bins: Counts, cuts: list[int], threshold: float
) -> tuple[Section, Mapping[str, Any] | None]:
    """The figures, and what the slider computes with. `bins` and `cuts` as for `confidence`."""
    ledger = tally.ledger
    if bins.sum() < ledger.min_cell:
        note = f"Fewer than {ledger.min_cell} sessions have a score, so nothing is told of them."
        return Section("thresholds", "Threshold explorer", [note], []), None
    above = bins.sum() - np.concatenate([[0], np.cumsum(bins)])
    scored, requested, unscored = (ledger[key] for key in ("scored", ALL, "unscored"))
    asked = requested if isinstance(requested, int) else None
    known = scored if isinstance(scored, int) else None
    missing = unscored if isinstance(unscored, int) else None
    allowed = [cut for cut in cuts if 0 < cut < BINS]
    points = [(score_at(cut), int(above[cut])) for cut in _thinned(allowed, cut_of(threshold))]
    rows = [[score, passed, *_rates(passed, known, asked, missing)] for score, passed in points]
    columns = [
        Column("threshold", "threshold", "score"),
        Column("passed", "pass", "count"),
        Column("of_scored", "among scored", "share"),
        Column("low", "95 % from", "share"),
        Column("high", "to", "share"),
        Column("of_requested", "among requested (worst case)", "share"),
        Column("requested_low", "95 % from", "share"),
        Column("requested_high", "to", "share"),
        Column("best_case", "best case", "share"),
    ]
    figures = [
        Figure(
            "pass-rates",
            "Pass rate by threshold",
            Table(columns, rows),
            charts.threshold_curves(),
            "Lines: the share of sessions that pass at each threshold, among scored and among requested sessions, "
            "and in the best case for those without a score. A rule marks the chosen threshold.",
            [f"Thresholds that fewer than {ledger.min_cell} sessions lie between are told as one."],
        )
    ]
    notes = list(_NOTES)
    if facts.has_subjects:
        figures += people(facts, cuts, threshold, ledger.min_cell)
        notes.append(
            "Sessions of one person are alike, so the intervals under “People” draw whole people again; "
            "Wilson's above take sessions as independent, and are too narrow where people repeat."
        )
    else:
        notes.append(_INDEPENDENT)
    if missing is None:
        notes.append(
            f"Fewer than {ledger.min_cell} sessions, or a withheld number, have no score: they count as scored and "
            "not passed."
        )
    explorer = {
        "default": threshold,
        "thresholds": [score for score, _ in points],
        "passed": [passed for _, passed in points],
        "scored": known,
        "requested": asked,
        "unscored": missing,
    }
    return Section("thresholds", "Threshold explorer", notes, figures), explorer


def _thinned(cuts: list[int], always: int) -> list[int]:
    """At most MOST_POINTS cuts, evenly, with the one at the configured threshold among them."""
    if len(cuts) <= MOST_POINTS:
        return cuts
    chosen = {cuts[index] for index in np.linspace(0, len(cuts) - 1, MOST_POINTS).astype(int)}
    return sorted(chosen | ({always} & set(cuts)))


def _rates(passed: int, scored: int | None, requested: int | None, unscored: int | None) -> list[float | None]:
    best = (passed + unscored) / requested if requested and unscored is not None else None
    return [*_rate(passed, scored), *_rate(passed, requested), best]


def _rate(passed: int, of: int | None) -> list[float | None]:
    if not of:
        return [None, None, None]
    interval = wilson(passed, of)
    return [passed / of, interval.low, interval.high]
