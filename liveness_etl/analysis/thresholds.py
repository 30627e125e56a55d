"""What would pass at which threshold: counts at every threshold that may be told, for a slider to choose from."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from liveness_etl.analysis import charts
from liveness_etl.analysis.confidence import Counts, cut_of, score_at
from liveness_etl.analysis.disclosure import shared_edges
from liveness_etl.analysis.facts import BINS, Facts
from liveness_etl.analysis.figure import Column, Figure, Section, Table
from liveness_etl.analysis.statistics import Interval, subject_bootstrap, wilson
from liveness_etl.analysis.tally import ALL, Tally

COARSE: Final = (50, 60, 70, 80, 85, 90, 95, 98, 99, 99.5, 99.9)
"""Thresholds for which subjects are drawn again; the configured one comes on top."""

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
        figures += _people(facts, tally, cuts, threshold)
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


def _people(facts: Facts, tally: Tally, cuts: list[int], threshold: float) -> list[Figure]:
    """First-attempt and ever-passed rates of people, and intervals that draw people again."""
    min_cell = tally.ledger.min_cell
    ((subjects, sessions),) = facts.rows("SELECT count(DISTINCT subject), count(subject) FROM facts")
    if subjects < min_cell:
        return []
    first, best = _best_bins(facts)
    # Bin 0 holds who did not pass at any threshold, with or without a score.
    coarse = [cut for cut in map(cut_of, (threshold, *COARSE)) if cut in cuts]
    allowed = shared_edges([first, best], coarse, min_cell)
    wanted = [score for score in sorted({*COARSE, threshold}) if cut_of(score) in allowed]
    kinds = _kinds(facts, [cut_of(score) for score in wanted])
    rows: list[list[Any]] = []
    for place, score in enumerate(wanted):
        first_passed, ever_passed = (int(bins[cut_of(score) :].sum()) for bins in (first, best))
        rows.append(
            [
                score,
                first_passed / subjects,
                *_ends(wilson(first_passed, subjects)),
                ever_passed / subjects,
                *_ends(wilson(ever_passed, subjects)),
                *_ends(_drawn(kinds, place + 3, 1)),
                *_ends(_drawn(kinds, place + 3, 2)),
            ]
        )
    columns = [
        Column("threshold", "threshold", "score"),
        Column("first", "pass at the first attempt", "share"),
        Column("first_low", "95 % from", "share"),
        Column("first_high", "to", "share"),
        Column("ever", "pass at any attempt", "share"),
        Column("ever_low", "95 % from", "share"),
        Column("ever_high", "to", "share"),
        Column("scored_low", "rate among scored: 95 % from", "share"),
        Column("scored_high", "to", "share"),
        Column("requested_low", "rate among requested: 95 % from", "share"),
        Column("requested_high", "to", "share"),
    ]
    with_person = f"{sessions:,} sessions name a person" if sessions >= min_cell else "few sessions name a person"
    notes = [
        f"{subjects:,} people; {with_person}. A first attempt is a person's earliest session in these days; one "
        "without a score counts as not passed.",
        "Intervals of the rates among sessions: whole people drawn again (bootstrap), at these thresholds only.",
    ]
    return [Figure("people", "People", Table(columns, rows), notes=notes)]


def _ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def _best_bins(facts: Facts) -> tuple[Counts, Counts]:
    first, best = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    rows = facts.rows(
        "SELECT first_bin, best_bin, count(*) FROM (SELECT arg_min(coalesce(bin, 0), born) AS first_bin, "
        "max(coalesce(bin, 0)) AS best_bin FROM facts WHERE subject IS NOT NULL GROUP BY subject) GROUP BY ALL"
    )
    for first_bin, best_bin, count in rows:
        first[first_bin] += count
        best[best_bin] += count
    return first, best


def _kinds(facts: Facts, cuts: list[int]) -> Counts:
    """People who are alike, a row for each kind: how many they are, scored and requested sessions of each of them,
    and how many of those pass at each cut. One pass over the facts, whatever the number of cuts."""
    passed = "".join(f", count(*) FILTER (bin >= {cut})::INTEGER AS passed_{place}" for place, cut in enumerate(cuts))
    rows = facts.rows(
        f"SELECT count(*), * EXCLUDE subject FROM (SELECT subject, count(bin)::INTEGER AS scored, "
        f"count(*)::INTEGER AS requested{passed} FROM facts WHERE subject IS NOT NULL GROUP BY subject) "
        "GROUP BY ALL ORDER BY ALL"
    )
    return np.array(rows, np.int64).reshape(-1, 3 + len(cuts))


def _drawn(kinds: Counts, passed: int, tries: int) -> Interval:
    """The interval of a pass rate by drawing people again; `passed` and `tries` are columns of `kinds`."""
    return subject_bootstrap(np.repeat(kinds[:, [passed, tries]], kinds[:, 0], axis=0))
