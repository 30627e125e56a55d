"""People: what they pass at their first attempt and at any, and intervals of rates that draw people again.

Sessions are read in the order of people and of time, so a person's are counted at once and forgotten. What is kept is
how many people are alike, which takes no more room for more people.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from liveness_etl.analysis.confidence import Counts, cut_of
from liveness_etl.analysis.disclosure import shared_edges
from liveness_etl.analysis.facts import BINS, Facts
from liveness_etl.analysis.figure import Column, Figure, Table
from liveness_etl.analysis.statistics import Interval, subject_bootstrap, wilson

COARSE: Final = (50, 60, 70, 80, 85, 90, 95, 98, 99, 99.5, 99.9)
"""Thresholds for which people are drawn again; the configured one comes on top."""

_AT_ONCE: Final = 1_000_000

_PEOPLE: Final = """
SELECT subject, coalesce(bin, -1)::SMALLINT AS bin_or_none FROM facts WHERE subject IS NOT NULL
ORDER BY subject, born, bin_or_none
"""

_Kinds = Counter[tuple[int, int]]
"""How many people have each (passed, tries)."""


@dataclass(frozen=True)
class People:
    """The people in `facts`, counted: by the fine bin of their first and of their best session, where bin 0 holds who
    did not pass at any threshold, scored or not; and for each cut (see `shared_edges`) by sessions that pass among
    the scored ones, and among all.
    """

    first: Counts
    best: Counts
    kinds: dict[int, tuple[_Kinds, _Kinds]]
    sessions: int

    @property
    def subjects(self) -> int:
        """How many they are."""
        return int(self.first.sum())


def people(facts: Facts, cuts: list[int], threshold: float, min_cell: int) -> list[Figure]:
    """First-attempt and ever-passed rates, and intervals that draw people again; `cuts` as for `confidence`."""
    coarse = [cut for cut in map(cut_of, (threshold, *COARSE)) if cut in cuts]
    found = count_people(facts, coarse)
    if found.subjects < min_cell:
        return []
    allowed = shared_edges([found.first, found.best], coarse, min_cell)
    rows: list[list[Any]] = []
    for score in sorted({*COARSE, threshold}):
        if (cut := cut_of(score)) not in allowed:
            continue
        row: list[Any] = [score]
        for bins in (found.first, found.best):
            passed = int(bins[cut:].sum())
            row += [passed / found.subjects, *_ends(wilson(passed, found.subjects))]
        for kinds in found.kinds[cut]:
            row += _ends(subject_bootstrap(kinds))
        rows.append(row)
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
    few = found.sessions < min_cell
    with_person = "few sessions name a person" if few else f"{found.sessions:,} sessions name a person"
    notes = [
        f"{found.subjects:,} people; {with_person}. A first attempt is a person's earliest session in these days; one "
        "without a score counts as not passed.",
        "Intervals of the rates among sessions: whole people drawn again (bootstrap), at these thresholds only.",
    ]
    return [Figure("people", "People", Table(columns, rows), notes=notes)]


def count_people(facts: Facts, cuts: Iterable[int]) -> People:
    """Count them, for these cuts."""
    first, best, sessions = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64), 0
    kinds: dict[int, tuple[_Kinds, _Kinds]] = {cut: (Counter(), Counter()) for cut in cuts}
    for subject, bins in _whole_people(facts):
        starts = np.flatnonzero(np.concatenate([[True], subject[1:] != subject[:-1]]))
        sessions += len(bins)
        first += np.bincount(bins[starts].clip(0), minlength=BINS)
        best += np.bincount(np.maximum.reduceat(bins, starts).clip(0), minlength=BINS)
        scored, requested = np.add.reduceat(bins >= 0, starts, dtype=np.int64), np.diff(starts, append=len(bins))
        for cut, (of_scored, of_requested) in kinds.items():
            passed = np.add.reduceat(bins >= cut, starts, dtype=np.int64)
            of_scored.update(_alike(passed, scored))
            of_requested.update(_alike(passed, requested))
    return People(first, best, kinds, sessions)


def _whole_people(facts: Facts) -> Iterator[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int16]]]:
    """Sessions in order, many at once but never a part of a person's: whose they are, and their bin or -1."""
    subject, bins = np.empty(0, np.uint64), np.empty(0, np.int16)
    for batch in facts.batches(_PEOPLE, _AT_ONCE):
        subject = np.concatenate([subject, batch["subject"].to_numpy()])
        bins = np.concatenate([bins, batch["bin_or_none"].to_numpy()])
        last = int(np.searchsorted(subject, subject[-1]))
        if last:
            yield subject[:last], bins[:last]
        subject, bins = subject[last:], bins[last:]
    if len(subject):
        yield subject, bins


def _alike(passed: Counts, tries: Counts) -> dict[tuple[int, int], int]:
    codes, people = np.unique(passed << 32 | tries, return_counts=True)
    return {(code >> 32, code & 0xFFFFFFFF): count for code, count in zip(codes.tolist(), people.tolist(), strict=True)}


def _ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high
