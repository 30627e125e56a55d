"""How confidences are spread: over all sessions, by challenge, by SDK, and day by day."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from liveness_etl.analysis import charts
from liveness_etl.analysis.disclosure import shared_edges
from liveness_etl.analysis.facts import BINS, EDGES, Facts
from liveness_etl.analysis.figure import Chart, Column, Figure, Section, Table, drawn
from liveness_etl.analysis.tally import ALL, Tally, scored_bins

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

_COARSE = (*range(0, 99, 5), 98, 99, 99.5, 99.9)
_DISTANCES = (100, 50, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)

Counts = npt.NDArray[np.int64]


def cut_of(score: float) -> int:
    """The cut (see `shared_edges`) at the highest fine edge not above a score."""
    return bisect_right(EDGES, score)


def score_at(cut: int) -> float:
    """The score that a cut stands at; the first is the lowest there is."""
    return 0.0 if cut == 0 else 100.0 if cut >= BINS else EDGES[cut - 1]


def wanted_cuts(first: Sequence[float] = ()) -> list[int]:
    """Every fine edge, the most wanted first: those given, round numbers, then ever finer ones."""
    wanted = [*first, 100.0, *_COARSE, *(100 - distance for distance in _DISTANCES), *range(100), *EDGES]
    return list(dict.fromkeys([1, *(cut_of(round(score, 3)) for score in wanted)]))


def total_cuts(bins: Counts, threshold: float, min_cell: int) -> list[int]:
    """Where the distribution of all sessions may be cut; all finer distributions are cut at some of these."""
    return shared_edges([bins], wanted_cuts([threshold]), min_cell)


def confidence(facts: Facts, tally: Tally, bins: Counts, cuts: list[int]) -> Section:
    """The figures on confidence. `bins` are all scored sessions, `cuts` where they may be cut."""
    share = tally.ledger.share("unscored", ALL)
    unscored = f"{share:.1%}" if share is not None else f"fewer than {tally.ledger.min_cell}"
    notes = [
        f"Without a score: {unscored} of the requested sessions. They are counted nowhere below, and never as zero.",
        "Bins are joined with their neighbours until each holds nobody or at least "
        f"{tally.ledger.min_cell} sessions. A score of a session that did not end SUCCEEDED is counted in the first "
        "bin, whatever its value: it passes at no threshold.",
    ]
    if bins.sum() < tally.ledger.min_cell:
        few = f"Fewer than {tally.ledger.min_cell} sessions have a score, so nothing is told of them."
        return Section("confidence", "Confidence", [few], [])
    figures = [
        _histogram("histogram", "Histogram", bins, _among(cuts, _COARSE), charts.histogram(), "confidence"),
        _histogram(
            "histogram-distance",
            "Histogram of the distance from 100",
            bins,
            _among(cuts, [100 - distance for distance in _DISTANCES]),
            charts.distance_histogram(),
            "100 − confidence, on a log axis since scores crowd at 100",
        ),
        _ecdf("ecdf", "Cumulative distribution", bins, cuts, charts.ecdf()),
        _ecdf("ecdf-distance", "Cumulative distribution near 100", bins, cuts, charts.ecdf(distance=True)),
    ]
    figures += _by_group(facts, tally, "challenge", "challenge type and version", cuts)
    figures += _by_group(facts, tally, "sdk", "SDK type (as reported by the client)", cuts)
    figures.append(_by_period(facts, tally))
    return Section("confidence", "Confidence", notes, figures)


def _among(cuts: list[int], scores: Sequence[float]) -> list[int]:
    wanted = {cut_of(round(score, 3)) for score in scores} | {0, cut_of(100), BINS}
    return [cut for cut in cuts if cut in wanted]


def _histogram(name: str, title: str, bins: Counts, cuts: list[int], chart: Chart, axis: str) -> Figure:
    total = int(bins.sum())
    rows = []
    for low, high in pairwise(cuts):
        count = int(bins[low:high].sum())
        if high == 1 or low == BINS - 1:  # a bin without width: scored but not SUCCEEDED, and 100 itself
            if count:
                rows.append([None if high == 1 else 100.0, None, count, count / total, None])
            continue
        width = score_at(high) - score_at(low)
        rows.append([score_at(low), score_at(high), count, count / total if total else None, round(count / width, 3)])
    columns = [
        Column("low", "from", "score"),
        Column("high", "below", "score"),
        Column("sessions", "sessions", "count"),
        Column("share", "share of scored", "share"),
        Column("per_point", "per point of confidence", "number"),
    ]
    notes = ["A row without “below” is 100 itself, one without “from” those that did not end SUCCEEDED."]
    notes = notes if any(row[1] is None for row in rows) else []
    return Figure(
        name, title, Table(columns, rows), chart, f"Bars: how many scored sessions stand at each {axis}.", notes
    )


def _ecdf(name: str, title: str, bins: Counts, cuts: list[int], chart: Chart) -> Figure:
    # A page needs no more points than a chart has pixels: of more, those at rounder scores.
    allowed = set(cuts)
    chosen = cuts if len(cuts) <= 400 else [cut for cut in wanted_cuts()[:400] if cut in allowed]
    below = np.concatenate([[0], np.cumsum(bins)])
    total = int(below[-1])
    rows = [
        [score_at(cut), int(below[cut]), float(below[cut] / total)]
        for cut in sorted(chosen)
        if 0 < cut < BINS and total
    ]
    columns = [
        Column("score", "confidence", "score"),
        Column("sessions", "sessions below", "count"),
        Column("below", "share below", "share"),
    ]
    return Figure(name, title, Table(columns, rows), chart, "Line: the share of scored sessions below each confidence.")


def _by_group(facts: Facts, tally: Tally, kind: str, title: str, cuts: list[int]) -> list[Figure]:
    ledger, told = tally.ledger, tally.groups[kind]
    bins = grouped_bins(scored_bins(facts, tally, kind), told)
    shown = [group for group in tally.shown_groups(kind) if group in bins]
    names = {group: facts.name(kind, group) for group in tally.shown_groups(kind)}
    rank = {cut: place for place, cut in enumerate(wanted_cuts())}
    shared = shared_edges(list(bins.values()), sorted(cuts, key=lambda cut: rank.get(cut, -1)), ledger.min_cell)
    points = shared if len(shared) <= 60 else sorted(sorted(shared, key=lambda cut: rank.get(cut, -1))[:60])
    rows: list[list[Any]] = []
    for group in shown:
        below = np.concatenate([[0], np.cumsum(bins[group])])
        rows += [
            [names[group], score_at(cut), int(below[cut]), float(below[cut] / below[-1])]
            for cut in points
            if 0 < cut < BINS
        ]
    columns = [
        Column("name", title),
        Column("score", "confidence", "score"),
        Column("sessions", "sessions below", "count"),
        Column("below", "share below", "share"),
    ]
    counts = [
        [
            names[group],
            ledger[("group", kind, group)],
            ledger[("scored", kind, group)],
            ledger[("unscored", kind, group)],
            ledger.share(("unscored", kind, group), ("group", kind, group)),
        ]
        for group in tally.shown_groups(kind)
    ]
    table = Table(
        [
            Column("name", title),
            Column("requested", "requested", "count"),
            Column("scored", "scored", "count"),
            Column("unscored", "without a score", "count"),
            Column("share", "share without", "share"),
        ],
        counts,
    )
    alt = f"Lines, one for each {title}: the share of its scored sessions below each confidence."
    note = "Differences between groups are associations: who meets which is not random."
    return [
        Figure(
            f"ecdf-{kind}",
            f"Cumulative distribution by {title}",
            Table(columns, rows),
            charts.ecdf("name", title, distance=True),
            alt,
            [note, "All groups are cut at the same scores, as finely as the smallest of them allows."],
        ),
        Figure(
            f"unscored-{kind}",
            f"Share without a score by {title}",
            table,
            drawn(charts.shares_by_group("name", "share without a score", len(counts)), table, "share"),
            f"Bars: for each {title}, the share of sessions without a score.",
        ),
    ]


def grouped_bins(bins: dict[int, Counts], told: dict[int, int]) -> dict[int, Counts]:
    """The bins of groups, those that are told together added up."""
    found: dict[int, Counts] = {}
    for group, counts in bins.items():
        found[told[group]] = found.get(told[group], np.zeros(BINS, np.int64)) + counts
    return found


def _by_period(facts: Facts, tally: Tally) -> Figure:
    ledger = tally.ledger
    found = {
        p: (n, values)
        for p, n, values in facts.rows(
            f"SELECT {tally.period_sql()}, count(score), quantile_cont(score, {list(QUANTILES)}) "
            "FROM facts WHERE score IS NOT NULL GROUP BY ALL"
        )
    }
    rows: list[list[Any]] = []
    for p in tally.periods:
        n, values = found.get(p, (0, [None] * len(QUANTILES)))
        # A quantile is some session's score: it needs as many on either side as a count does.
        quantiles = [
            round(value, 3) if n * min(q, 1 - q) >= ledger.min_cell else None
            for q, value in zip(QUANTILES, values, strict=True)
        ]
        row = [ledger[(name, p)] for name in ("scored", "unscored")]
        rows.append([p.isoformat(), *row, ledger.share(("unscored", p), ("period", p)), *quantiles])
    columns = [
        Column("period", f"{tally.step} (UTC)"),
        Column("scored", "scored", "count"),
        Column("unscored", "without a score", "count"),
        Column("unscored_share", "share without", "share"),
        *(Column(f"p{round(100 * q):02d}", f"{q:.0%} quantile", "score") for q in QUANTILES),
    ]
    table = Table(columns, rows)
    return Figure(
        "quantiles",
        f"Quantiles by {tally.step}",
        table,
        drawn(charts.quantile_bands(f"{tally.step} (UTC)"), table, "p50"),
        "Two bands, from the 5 % to the 95 % and from the 25 % to the 75 % quantile, and the median as a line.",
        [
            "Of sessions that SUCCEEDED; exact, rounded to 0.001, and left out where fewer than "
            f"{ledger.min_cell} sessions stand on either side."
        ],
    )
