"""What is withheld, and that nobody can compute it from what is shown."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from liveness_etl.analysis.disclosure import HIDDEN, Ledger, folded, shared_edges

COUNTS = st.integers(0, 40)


def closed(rows: list[list[int]], min_cell: int = 10) -> Ledger:
    """A ledger of a table with row totals, column totals and a grand total."""
    ledger = Ledger(min_cell)
    columns = range(len(rows[0]))
    for r, row in enumerate(rows):
        for c in columns:
            ledger.add((r, c), row[c])
        ledger.add(("row", r), sum(row))
        ledger.sum([(r, c) for c in columns], ("row", r))
    for c in columns:
        ledger.add(("column", c), sum(row[c] for row in rows))
        ledger.sum([(r, c) for r in range(len(rows))], ("column", c))
    ledger.add("all", sum(map(sum, rows)))
    ledger.sum([("row", r) for r in range(len(rows))], "all")
    ledger.sum([("column", c) for c in columns], "all")
    ledger.close()
    return ledger


def test_small_count_is_withheld_and_zero_is_shown() -> None:
    """Zero tells of nobody; nine would tell of nine."""
    ledger = closed([[0, 9, 50], [30, 20, 40]])
    assert ledger[(0, 0)] == 0
    assert ledger[(0, 1)] == "<10"
    assert ledger[("row", 0)] == 59


def test_count_that_would_give_a_small_one_away_is_hidden() -> None:
    """59 - 50 is 9: so the 50 is hidden, and one more in its column."""
    ledger = closed([[0, 9, 50], [30, 20, 40]])
    assert ledger[(0, 2)] == HIDDEN
    assert ledger[(1, 2)] == HIDDEN
    assert ledger[(1, 1)] == HIDDEN
    assert ledger[(1, 0)] == 30


def test_rest_of_a_part_is_protected_too() -> None:
    """95 of 100 leave 5: the part is hidden though it is large."""
    ledger = Ledger(10)
    ledger.add("all", 100)
    ledger.add("late", 95)
    ledger.part("late", of="all")
    ledger.close()
    assert (ledger["all"], ledger["late"]) == (100, HIDDEN)
    assert ledger.share("late", "all") is None


@given(st.lists(st.lists(COUNTS, min_size=3, max_size=3), min_size=1, max_size=4))
def test_no_sum_gives_a_withheld_count_away(rows: list[list[int]]) -> None:
    """In no row and no column is exactly one value missing, nor do the missing parts add up to fewer than ten."""
    ledger = closed(rows)
    sums = [([(r, c) for c in range(3)], ("row", r)) for r in range(len(rows))]
    sums += [([(r, c) for r in range(len(rows))], ("column", c)) for c in range(3)]
    for parts, total in sums:
        missing = [part for part in parts if isinstance(ledger[part], str)]
        if isinstance(ledger[total], str):
            assert missing
        elif missing:
            row, column = zip(*missing, strict=True)
            assert len(missing) > 1
            assert sum(rows[r][c] for r, c in zip(row, column, strict=True)) >= 10
    assert not any(isinstance(ledger[(r, c)], int) and 0 < rows[r][c] < 10 for r in range(len(rows)) for c in range(3))


@given(st.lists(st.lists(COUNTS, min_size=8, max_size=8), min_size=1, max_size=3), st.permutations(range(1, 8)))
def test_bins_between_cuts_hold_nobody_or_enough(groups: list[list[int]], candidates: list[int]) -> None:
    """In every group, whatever the order in which cuts are wanted (unless all of a group is too small itself)."""
    arrays = [np.array(group) for group in groups]
    cuts = shared_edges(arrays, candidates, 10)
    assert cuts == sorted({0, 8, *cuts})
    for array in arrays:
        for low, high in pairwise(cuts):
            count = array[low:high].sum()
            assert count == 0 or count >= min(10, array.sum())


def test_wanted_cut_comes_before_others() -> None:
    """Twelve sessions: only one cut is possible, and it is the wanted one."""
    counts = np.array([4, 6, 4, 6])
    assert shared_edges([counts], [2, 1, 3], 10) == [0, 2, 4]
    assert shared_edges([counts], [1, 3], 10) == [0, 4]


def test_small_groups_are_told_as_other_until_other_is_large() -> None:
    """150 and 30 are small; together they are still below 200, so the next smallest joins them."""
    assert folded({1: 900, 2: 400, 3: 150, 4: 30}, 200, 0) == {1: 1, 2: 0, 3: 0, 4: 0}
    assert folded({1: 900, 2: 400}, 200, 0) == {1: 1, 2: 2}
