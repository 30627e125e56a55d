"""How many sessions of which kind: every plain count of a report, in one ledger.

They stand in one because they tie together: a day's sessions are those of its sources, and its scored and unscored
ones. What is withheld in one table is therefore withheld in all.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

from liveness_etl.analysis.disclosure import Ledger, folded
from liveness_etl.analysis.facts import NONE, OTHER, Facts

MOST_PERIODS: Final = 93

SMALLEST_GROUP: Final = 200
"""Scored sessions below which a challenge or SDK is told as part of `other`: it would blur the bins of all."""

ALL: Final = "all"


@dataclass(frozen=True)
class Tally:
    """The ledger, closed, and the values that its keys are made of.

    Keys: ALL; (period, p); (row, p, source); (outcome, o); (by period, p, o); (cell, p, source, o); late and ageless
    alone and as (late, p, source); scored and unscored alone, as (scored, p) and as (scored, kind, group);
    (group, kind, group); day, final and (open, o) of the last day.
    """

    ledger: Ledger
    step: str
    periods: tuple[date, ...]
    sources: tuple[int, ...]
    outcomes: tuple[int, ...]
    groups: dict[str, dict[int, int]]
    open_outcomes: tuple[int, ...]
    few_unscored: bool

    def period_sql(self) -> str:
        """The expression over `dt` that a period is."""
        return period_sql(self.step)

    def shown_groups(self, kind: str) -> list[int]:
        """The groups that are told on their own, the most frequent first, `other` and `none` last."""
        shown = set(self.groups[kind].values())
        return sorted(shown, key=lambda group: (group in (OTHER, NONE), group))


def period_sql(step: str) -> str:
    """A day, or the Monday or first day that its week or month begins with."""
    return f"date_trunc('{step}', dt)::DATE"


def period_step(first: date, last: date) -> str:
    """Days where they are at most MOST_PERIODS, else weeks, else months: a page of any span stays readable."""
    days = (last - first) / timedelta(days=1) + 1
    return "day" if days <= MOST_PERIODS else "week" if days <= 7 * MOST_PERIODS else "month"


def tally_sessions(facts: Facts, min_cell: int) -> Tally:
    """Count all sessions of the report."""
    ledger = Ledger(min_cell)
    step = period_step(facts.first, facts.last)
    period = period_sql(step)
    ((everyone, scored),) = facts.rows("SELECT count(*), count(bin) FROM facts")
    # Where fewer than min_cell have no score, telling how many have one would tell how many have none.
    few_unscored = 0 < everyone - scored < min_cell
    ledger.add(ALL, everyone)
    ledger.add("scored", scored, fixed=not few_unscored)
    ledger.add("unscored", everyone - scored)
    ledger.sum(["scored", "unscored"], ALL)
    periods, sources, outcomes = _cells(facts, ledger, period)
    _ages(facts, ledger, period)
    _scored(facts, ledger, period)
    groups = {kind: _groups(facts, ledger, kind, few_unscored) for kind in ("challenge", "sdk")}
    open_outcomes = _last_day(facts, ledger, step, periods[-1])
    ledger.close()
    return Tally(ledger, step, periods, sources, outcomes, groups, open_outcomes, few_unscored)


def scored_bins(facts: Facts, tally: Tally, by: str = "0") -> dict[int, npt.NDArray[np.int64]]:
    """Sessions by fine bin, for each value of `by`; a withheld number of unscored ones is in bin 0 with the scored
    ones that did not succeed."""
    found = facts.bins(by)
    if tally.few_unscored:
        for group, count in facts.rows(f"SELECT {by}, count(*) FROM facts WHERE bin IS NULL GROUP BY ALL"):
            if group in found:
                found[group][0] += count
    return found


def _cells(facts: Facts, ledger: Ledger, period: str) -> tuple[tuple[date, ...], tuple[int, ...], tuple[int, ...]]:
    cells = {
        (p, s, o): n for p, s, o, n in facts.rows(f"SELECT {period}, source, outcome, count(*) FROM facts GROUP BY ALL")
    }
    periods = tuple(sorted({p for p, _, _ in cells}))
    sources = _ranked({s for _, s, _ in cells})
    outcomes = _ranked({o for _, _, o in cells})
    for p in periods:
        for s in sources:
            for o in outcomes:
                ledger.add(("cell", p, s, o), cells.get((p, s, o), 0))
            ledger.add(("row", p, s), sum(cells.get((p, s, o), 0) for o in outcomes))
            ledger.sum([("cell", p, s, o) for o in outcomes], ("row", p, s))
        for o in outcomes:
            ledger.add(("by period", p, o), sum(cells.get((p, s, o), 0) for s in sources))
            ledger.sum([("cell", p, s, o) for s in sources], ("by period", p, o))
        ledger.add(("period", p), sum(n for (q, _, _), n in cells.items() if q == p))
        ledger.sum([("row", p, s) for s in sources], ("period", p))
        ledger.sum([("by period", p, o) for o in outcomes], ("period", p))
    for o in outcomes:
        ledger.add(("outcome", o), sum(cells.get((p, s, o), 0) for p in periods for s in sources))
        ledger.sum([("by period", p, o) for p in periods], ("outcome", o))
    ledger.sum([("period", p) for p in periods], ALL)
    ledger.sum([("outcome", o) for o in outcomes], ALL)
    return periods, sources, outcomes


def _ages(facts: Facts, ledger: Ledger, period: str) -> None:
    rows = facts.rows(
        f"SELECT {period}, source, count(*) FILTER (late), count(*) FILTER (ageless) FROM facts GROUP BY ALL"
    )
    for index, name in ((2, "late"), (3, "ageless")):
        ledger.add(name, sum(row[index] for row in rows))
        ledger.part(name, of=ALL)
        for row in rows:
            ledger.add((name, row[0], row[1]), row[index])
            ledger.part((name, row[0], row[1]), of=("row", row[0], row[1]))
        ledger.sum([(name, row[0], row[1]) for row in rows], name)


def _scored(facts: Facts, ledger: Ledger, period: str) -> None:
    rows = facts.rows(f"SELECT {period}, count(bin), count(*) - count(bin) FROM facts GROUP BY ALL")
    for p, with_score, without in rows:
        ledger.add(("scored", p), with_score)
        ledger.add(("unscored", p), without)
        ledger.sum([("scored", p), ("unscored", p)], ("period", p))
    for name in ("scored", "unscored"):
        ledger.sum([(name, p) for p, _, _ in rows], name)


def _groups(facts: Facts, ledger: Ledger, kind: str, few_unscored: bool) -> dict[int, int]:
    rows = facts.rows(f"SELECT {kind}, count(bin), count(*) - count(bin) FROM facts GROUP BY ALL")
    told = folded({group: scored for group, scored, _ in rows if scored}, SMALLEST_GROUP, OTHER)
    told |= {group: group for group, scored, _ in rows if not scored}
    for shown in sorted(set(told.values())):
        scored = sum(row[1] for row in rows if told[row[0]] == shown)
        unscored = sum(row[2] for row in rows if told[row[0]] == shown)
        ledger.add(("scored", kind, shown), scored, fixed=not few_unscored)
        ledger.add(("unscored", kind, shown), unscored)
        ledger.add(("group", kind, shown), scored + unscored)
        ledger.sum([("scored", kind, shown), ("unscored", kind, shown)], ("group", kind, shown))
    shown_groups = sorted(set(told.values()))
    ledger.sum([("group", kind, group) for group in shown_groups], ALL)
    for name in ("scored", "unscored"):
        ledger.sum([(name, kind, group) for group in shown_groups], name)
    return told


def _last_day(facts: Facts, ledger: Ledger, step: str, last_period: date) -> tuple[int, ...]:
    rows = facts.rows(
        "SELECT outcome, count(*), count(*) FILTER (final) FROM facts WHERE dt = $dt GROUP BY ALL", dt=facts.last
    )
    ledger.add("day", sum(n for _, n, _ in rows))
    if step == "day":
        ledger.sum(["day"], ("period", last_period))
    else:
        ledger.part("day", of=("period", last_period))
    ledger.add("final", sum(final for _, _, final in rows))
    still_open = {outcome: n - final for outcome, n, final in rows if n > final}
    for outcome, n in still_open.items():
        ledger.add(("open", outcome), n)
        if step == "day":
            ledger.part(("open", outcome), of=("by period", last_period, outcome))
    ledger.sum(["final", *(("open", outcome) for outcome in still_open)], "day")
    return _ranked(set(still_open))


def _ranked(numbers: set[int]) -> tuple[int, ...]:
    return tuple(sorted(numbers, key=lambda number: (number in (OTHER, NONE), number)))
