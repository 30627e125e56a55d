"""Whether a day's confidences differ from those of the four weeks before it."""

from datetime import date, timedelta
from typing import Any, Final

import numpy as np

from liveness_etl.analysis import charts
from liveness_etl.analysis.confidence import Counts, cut_of, grouped_bins
from liveness_etl.analysis.facts import BINS, Facts
from liveness_etl.analysis.figure import Column, Figure, Section, Table, drawn
from liveness_etl.analysis.statistics import DRIFT_EDGES, FEWEST_SESSIONS, SMALLEST_PSI, Drift, drift_flags
from liveness_etl.analysis.tally import MOST_PERIODS, Tally

BASELINE_DAYS: Final = 28

COMPLETE_SHARE: Final = 0.99
"""Of a day's ids, the share that must have a final answer for the day to count in a baseline."""

_ALL = "all"


def drift(facts: Facts, tally: Tally) -> Section:
    """The stability index of each day of the report, over all sessions and by challenge, and of the share unscored."""
    complete = {
        dt
        for dt, share in facts.rows("SELECT dt, avg(final::INTEGER) FROM facts_and_before GROUP BY dt")
        if share >= COMPLETE_SHARE
    }
    days = [dt for (dt,) in facts.rows("SELECT DISTINCT dt FROM facts ORDER BY dt")][-MOST_PERIODS:]
    by_day = _scores(facts, tally)
    score_of = [(dt, group) for dt in days for group in by_day if dt in by_day[group]]
    unscored = {
        dt: np.array(counts)
        for dt, *counts in facts.rows("SELECT dt, count(bin), count(*) - count(bin) FROM facts_and_before GROUP BY dt")
    }
    compared = [(_baseline(by_day[group], dt, complete), by_day[group][dt]) for dt, group in score_of]
    compared += [(_baseline(unscored, dt, complete), unscored[dt]) for dt in days]
    judged = drift_flags(compared)
    notes = [
        f"Each day against the {BASELINE_DAYS} days before it, without those of which less than "
        f"{COMPLETE_SHARE:.0%} of the ids have a final answer. The index (PSI) compares shares in the bins from "
        f"{', '.join(f'{edge:g}' for edge in DRIFT_EDGES)}, where the last is 100 itself.",
        f"Drift is an index above {SMALLEST_PSI:g} and above what chance reaches in 1 of 100 days of these sizes, "
        "that also holds when all days and groups are judged together (Benjamini–Hochberg, 5 %). "
        f"Below {FEWEST_SESSIONS} sessions on either side nothing is judged.",
    ]
    flagged = sum(one.state == "drift" for one in judged)
    able = sum(one.psi is not None for one in judged)
    few = "Drift: too few sessions, or too few complete days before, to judge any day."
    notes.insert(0, f"{flagged} of {able} comparisons show drift." if able else few)
    scores = [
        [dt.isoformat(), _ALL if group == _ALL else facts.name("challenge", group), *_shown(one)]
        for (dt, group), one in zip(score_of, judged, strict=False)
    ]
    shares = [
        [dt.isoformat(), "share without a score", *_shown(one)]
        for dt, one in zip(days, judged[len(score_of) :], strict=True)
    ]
    columns = [
        Column("period", "day (UTC)"),
        Column("stratum", "of"),
        Column("psi", "PSI", "number"),
        Column("bound", "flagged above", "number"),
        Column("state", "state"),
    ]
    alt = "Points: the stability index of each day; a triangle marks drift, and a dashed rule the least index for it."
    of_scores, of_shares = Table(columns, scores), Table(columns, shares)
    chart = charts.drift("day (UTC)")
    return Section(
        "drift",
        "Drift",
        notes,
        [
            Figure(
                "drift-scores",
                "Confidence, over all and by challenge",
                of_scores,
                drawn(chart, of_scores, "psi"),
                alt,
            ),
            Figure("drift-unscored", "Share without a score", of_shares, drawn(chart, of_shares, "psi"), alt),
        ],
    )


def _scores(facts: Facts, tally: Tally) -> dict[Any, dict[date, Counts]]:
    """By group (and over all), by day: counts in the drift bins of sessions that SUCCEEDED."""
    cuts = [cut_of(edge) for edge in DRIFT_EDGES]
    found: dict[Any, dict[date, Counts]] = {_ALL: {}}
    rows = facts.rows(
        "SELECT dt, challenge, bin, count(*) FROM facts_and_before WHERE bin > 0 GROUP BY ALL ORDER BY ALL"
    )
    by_day: dict[date, dict[int, Counts]] = {}
    for dt, group, number, count in rows:
        by_day.setdefault(dt, {}).setdefault(group, np.zeros(BINS, np.int64))[number] += count
    told = tally.groups["challenge"]
    for dt, groups in by_day.items():
        known: dict[Any, Counts] = dict(
            grouped_bins({group: counts for group, counts in groups.items() if group in told}, told)
        )
        known[_ALL] = np.sum(list(groups.values()), axis=0)
        for key, counts in known.items():
            found.setdefault(key, {})[dt] = np.add.reduceat(counts, cuts)
    return found


def _baseline(days: dict[date, Counts], dt: date, complete: set[date]) -> Counts:
    window = [
        counts
        for day, counts in days.items()
        if timedelta(0) < dt - day <= timedelta(BASELINE_DAYS) and day in complete
    ]
    return np.sum(window, axis=0) if window else np.zeros_like(days[dt])


def _shown(one: Drift) -> list[Any]:
    if one.psi is None or one.bound is None:
        return [None, None, one.state]
    return [round(one.psi, 3), round(max(SMALLEST_PSI, one.bound), 3), one.state]
