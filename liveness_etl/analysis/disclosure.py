"""What a report may show without telling of fewer than `min_cell` people: the one place that decides it.

Two ways, for two kinds of figures. A count in a table is withheld (Ledger), and so is another one wherever the first
could be had by subtraction. A distribution is not withheld but told more coarsely (`shared_edges`): neighbouring
bins are joined until each holds nobody or at least `min_cell`, so that no difference between two thresholds is small.
Zero is shown: it tells of nobody.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

HIDDEN: Final = "hidden"
"""Stands for a count that is large enough itself, but would give away one that is not."""

Shown = int | str
"""A count; or "<10", or HIDDEN."""


class Ledger:
    """Counts, and the sums that tie them together: what may be shown of each, decided for all at once.

    Add counts and sums, call `close` once, then read by key. In each sum that has a withheld count there are at least
    two, and the withheld parts together hold `min_cell` or more. That stops recomputing by one subtraction, and
    covers every sum that the report prints; it does not solve systems of sums.
    """

    def __init__(self, min_cell: int) -> None:
        self.min_cell = min_cell
        self._counts: dict[Hashable, int] = {}
        self._sums: list[tuple[list[Hashable], Hashable]] = []
        self._fixed: set[Hashable] = set()
        self._unprinted: set[Hashable] = set()
        self._withheld: set[Hashable] = set()

    def add(self, key: Hashable, count: int, *, fixed: bool = False, unprinted: bool = False) -> None:
        """A count. `fixed`: shown elsewhere already; `unprinted`: shown nowhere, but a reader could compute it."""
        self._counts[key] = int(count)
        if fixed:
            self._fixed.add(key)
        if unprinted:
            self._unprinted.add(key)

    def sum(self, parts: Iterable[Hashable], total: Hashable) -> None:
        """Declare that a reader knows these counts to add up to that one; they must have been added."""
        self._sums.append((list(parts), total))

    def part(self, key: Hashable, of: Hashable) -> None:
        """Declare that a count is part of another, so that a reader can compute the rest."""
        rest = ("rest", key)
        self.add(rest, self._counts[of] - self._counts[key], unprinted=True)
        self.sum([key, rest], of)

    def close(self) -> None:
        """Decide what is withheld."""
        self._withheld = {key for key, count in self._counts.items() if 0 < count < self.min_cell}
        changed = True
        while changed:
            changed = False
            for parts, total in self._sums:
                while (another := self._another(parts, total)) is not None:
                    self._withheld.add(another)
                    changed = True

    def _another(self, parts: list[Hashable], total: Hashable) -> Hashable | None:
        """A further count of this sum that must be withheld, if any."""
        withheld = [key for key in parts if key in self._withheld]
        if total in self._withheld:
            enough = bool(withheld)
        else:
            held = sum(self._counts[key] for key in withheld)
            enough = not withheld or (len(withheld) > 1 and held >= self.min_cell)
        if enough:
            return None
        taken = (self._withheld, self._fixed)
        free = [key for key in parts if self._counts[key] and not any(key in keys for keys in taken)]
        if free:
            return min(free, key=lambda key: (key not in self._unprinted, self._counts[key]))
        return None if any(total in keys for keys in taken) else total

    def __getitem__(self, key: Hashable) -> Shown:
        """The count, if it may be shown."""
        if key not in self._withheld:
            return self._counts[key]
        return f"<{self.min_cell}" if self._counts[key] < self.min_cell else HIDDEN

    def share(self, key: Hashable, of: Hashable) -> float | None:
        """One count as a share of another, or None where either is withheld or there is nothing to share."""
        if self._withheld & {key, of} or not self._counts[of]:
            return None
        return self._counts[key] / self._counts[of]


def shared_edges(groups: Sequence[npt.NDArray[np.int64]], candidates: Iterable[int], min_cell: int) -> list[int]:
    """Where to cut so that in every group each bin between two cuts holds nobody or at least `min_cell`.

    groups: counts over the same fine bins, one array each. candidates: the cuts that are wanted (cut i comes before
    fine bin i), most wanted first. Returns the cuts in order, the first and the last (0 and the number of bins)
    included. Groups that a reader could subtract from each other need the same cuts, and cuts that
    are among those of their sum.
    """
    if not groups:
        return [0]
    bins = len(groups[0])
    below = np.concatenate([np.zeros((len(groups), 1), np.int64), np.cumsum(np.stack(groups), axis=1)], axis=1)
    cuts = [0, bins]
    for cut in candidates:
        after = int(np.searchsorted(cuts, cut))
        if after < len(cuts) and cuts[after] == cut:
            continue
        pieces = np.concatenate([below[:, cut] - below[:, cuts[after - 1]], below[:, cuts[after]] - below[:, cut]])
        if bool(np.all((pieces == 0) | (pieces >= min_cell))):
            cuts.insert(after, cut)
    return cuts


def folded(counts: dict[int, int], smallest: int, other: int) -> dict[int, int]:
    """Which group each group is told as: those below `smallest` as `other`, which must not stay below it either."""
    shown = {group: group for group in counts}
    for group in sorted(counts, key=lambda group: (group != other, counts[group])):
        together = sum(counts[key] for key, told in shown.items() if told == other)
        if group != other and (counts[group] < smallest or 0 < together < smallest):
            shown[group] = other
    return shown
