"""The population stability index, and when a day is said to have drifted."""

from datetime import date, timedelta

import numpy as np
import pytest
from scipy import stats

from liveness_etl.analysis.statistics import (
    DRIFT_EDGES,
    drift_counts,
    drift_flags,
    psi,
    psi_bound,
    psi_p_value,
    trailing_baselines,
)

USUAL = np.array([2, 2, 1, 2, 3, 5, 10, 14, 11, 20, 18, 12]) / 100
"""Shares of the bins: scores crowd at 100."""
SHIFTED = np.array([4, 6, 4, 5, 6, 9, 14, 14, 9, 14, 10, 5]) / 100
FEW = "too few sessions"
START = date(2025, 1, 1)


def test_bins_are_the_documented_ones() -> None:
    """An edge belongs to the bin above it, and 100 alone has its own."""
    assert DRIFT_EDGES == (0, 10, 50, 70, 80, 90, 95, 98, 99, 99.5, 99.9, 100)
    assert drift_counts(DRIFT_EDGES).tolist() == [1] * 12
    assert drift_counts([np.nextafter(edge, -1) for edge in DRIFT_EDGES[1:]]).tolist() == [1] * 11 + [0]
    assert drift_counts([-1.0, 100.0, 100.0, 101.0]).tolist() == [1] + [0] * 10 + [3]
    assert drift_counts([]).tolist() == [0] * 12


def test_index_is_the_symmetric_divergence_of_the_smoothed_shares() -> None:
    """By hand for two bins, and by scipy's entropy for twelve: half a session more in each bin."""
    # (9.5, 0.5)/10 against (4.5, 5.5)/10: 0.5·0.74721 + 0.5·2.39790
    assert psi([9, 0], [4, 5]) == pytest.approx(1.57255, abs=1e-5)
    baseline, day = np.array([0, 5, 0, 9, 11, 3, 70, 0, 8, 1, 2, 40]), np.array([3, 0, 0, 1, 1, 9, 20, 4, 0, 0, 7, 5])
    b, d = baseline + 0.5, day + 0.5
    assert psi(baseline, day) == pytest.approx(stats.entropy(d, b) + stats.entropy(b, d))
    assert psi(day, day) == 0


def test_bound_and_p_value_are_chi_square_at_the_sizes() -> None:
    """χ² of 11 degrees: 24.725 is its 99 % quantile in every printed table."""
    assert psi_bound(14_000, 500, 12) == pytest.approx(24.725 * (1 / 14_000 + 1 / 500), rel=1e-4)
    assert psi_bound(1_000, 1_000, 12, 0.95) == pytest.approx(19.675 * 2 / 1_000, rel=1e-4)
    assert psi_p_value(psi_bound(3_000, 700, 12), 3_000, 700, 12) == pytest.approx(0.01)


@pytest.mark.parametrize("sizes", [(500, 500), (14_000, 500), (28_000, 1_000)])
def test_bound_is_exceeded_by_one_sample_in_a_hundred(sizes: tuple[int, int]) -> None:
    """Of 20,000 pairs of samples of one distribution, smoothing and rare bins included."""
    generator = np.random.default_rng(19)
    bound = psi_bound(*sizes, 12)
    baselines, days = (generator.multinomial(n, USUAL, 20_000) for n in sizes)
    above = np.mean([psi(baseline, day) > bound for baseline, day in zip(baselines, days, strict=True)])
    assert 0.005 <= above <= 0.012


def test_baseline_is_the_28_complete_days_before() -> None:
    """Not the day itself, not an incomplete day, not the 29th day back; a day that is missing adds nothing."""
    days = [START + timedelta(offset) for offset in (0, 1, 2, 28, 29, 30)]
    counts = [[1, 100], [2, 200], [4, 400], [8, 800], [16, 1_600], [32, 3_200]]
    complete = [True, True, False, True, True, True]
    found = trailing_baselines(days, counts, complete)
    assert found[:, 0].tolist() == [0, 1, 1 + 2, 1 + 2, 2 + 8, 8 + 16]
    assert found[:, 1].tolist() == [100 * baseline for baseline in found[:, 0]]
    assert trailing_baselines(days, counts, complete, window=1)[:, 0].tolist() == [0, 1, 2, 0, 8, 16]


def strata(generator: np.random.Generator, sessions: int, days: int = 40) -> list[tuple[np.ndarray, np.ndarray]]:
    """(baseline, day) of all days of five strata in which nothing changes."""
    pairs = []
    for _ in range(5):
        counts = generator.multinomial(sessions, USUAL, days)
        dates = [START + timedelta(offset) for offset in range(days)]
        pairs += zip(trailing_baselines(dates, counts, [True] * days), counts, strict=True)
    return pairs


@pytest.mark.parametrize("sessions", [500, 5_000])
def test_false_alarms_are_rarer_than_one_report_in_twenty(sessions: int) -> None:
    """Of 60 reports over five strata and 40 days without any change, at most 5 % flag a single day."""
    generator = np.random.default_rng(23)
    reports = [drift_flags(strata(generator, sessions)) for _ in range(60)]
    alarms = sum(any(drift.state == "drift" for drift in report) for report in reports)
    assert alarms <= 0.05 * 60
    assert all(sum(drift.state == FEW for drift in report) == 5 for report in reports)


def test_false_alarms_stay_rare_where_the_index_alone_would_give_many() -> None:
    """One in a hundred pairs of samples of 500 is above bound and 0.1 by chance; of 4,000, next to none is flagged."""
    generator = np.random.default_rng(29)
    pairs = list(zip(generator.multinomial(500, USUAL, 4_000), generator.multinomial(500, USUAL, 4_000), strict=True))
    found = drift_flags(pairs)
    assert sum(drift.psi is not None and drift.psi > 0.1 for drift in found) > 15
    assert sum(drift.state == "drift" for drift in found) <= 1


def test_a_real_shift_is_found_among_many_quiet_days() -> None:
    """Days of 500 sessions whose scores fell are flagged in 95 of 100 reports, and their neighbours are not."""
    generator = np.random.default_rng(31)
    found = 0
    for _ in range(100):
        pairs = strata(generator, 500, days=30)
        quiet = len(pairs)
        pairs.append((generator.multinomial(14_000, USUAL), generator.multinomial(500, SHIFTED)))
        flags = drift_flags(pairs)
        found += flags[quiet].state == "drift"
        assert sum(drift.state == "drift" for drift in flags[:quiet]) <= 1
    assert found >= 95


def test_fewer_than_500_sessions_are_too_few_on_either_side() -> None:
    """However large the change, and it takes no part in the correction for many comparisons."""
    loud, quiet = np.array([500] + [0] * 11), np.array([0] * 11 + [500])
    one_less = [(loud, quiet - quiet // 500), (loud - loud // 500, quiet), (loud, quiet * 0)]
    assert [drift.state for drift in drift_flags([(loud, quiet), *one_less])] == ["drift", FEW, FEW, FEW]
    few = drift_flags(one_less)[2]
    assert (few.n_baseline, few.n_day, few.psi, few.bound, few.p_value) == (500, 0, None, None, None)


def test_a_change_beyond_doubt_but_below_a_tenth_is_no_drift() -> None:
    """With a million sessions every difference is significant; the index says that this one is small."""
    slightly = 0.8 * USUAL + 0.2 * SHIFTED
    drift = drift_flags([((1_000_000 * USUAL).astype(int), (1_000_000 * slightly).astype(int))])[0]
    assert drift.psi is not None
    assert drift.bound is not None
    assert drift.bound < drift.psi < 0.1
    assert drift.p_value == pytest.approx(0, abs=1e-9)
    assert drift.state == "steady"


def test_unscored_share_is_judged_by_two_bins() -> None:
    """(scored, unscored): from 5 % to 6 % is steady, to 20 % is drift."""
    usual = (19_000, 1_000)
    assert [drift.state for drift in drift_flags([(usual, (940, 60)), (usual, (800, 200))])] == ["steady", "drift"]
