"""Intervals against published values, scipy and statsmodels, and against the truth that simulated samples have."""

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from liveness_etl.analysis.distributions import chi_square_quantile, chi_square_tail
from liveness_etl.analysis.statistics import (
    Interval,
    benjamini_hochberg,
    clustered_wilson,
    effective_size,
    one_sided_upper,
    subject_bootstrap,
    wilson,
)

ANYTHING = Interval(0.0, 1.0)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_has_the_published_values(successes: int, n: int, low: float, high: float) -> None:
    """Newcombe 1998, 'Two-sided confidence intervals for the single proportion', table I, method 3."""
    found = wilson(successes, n)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_wilson_is_that_of_statsmodels(confidence: float) -> None:
    """At every number of successes of several sizes."""
    for n in (1, 7, 100, 10_000_000):
        for successes in {0, 1, n // 3, n - 1, n}:
            found = wilson(successes, n, confidence)
            expected = proportion_confint(successes, n, 1 - confidence, method="wilson")
            assert (found.low, found.high) == pytest.approx(expected, abs=1e-12)


def test_wilson_ends_exactly_at_none_and_all() -> None:
    """No rounding leaves 1e-18 or 0.9999999999999999, and without tries the rate may be anything."""
    assert all(wilson(0, n).low == 0 and wilson(n, n).high == 1 for n in range(1, 500))
    assert all(0 < wilson(0, n).high < 1 and 0 < wilson(n, n).low < 1 for n in range(1, 500))
    assert wilson(0, 0) == ANYTHING


def test_wilson_covers_the_truth_about_as_often_as_it_says() -> None:
    """Exactly, over all outcomes: 95 % on average, nearly always 93 % (Brown, Cai and DasGupta 2001)."""
    rates = np.linspace(0.005, 0.995, 199)
    for n in (40, 100, 400):
        intervals = [wilson(successes, n) for successes in range(n + 1)]
        low, high = (np.array([getattr(one, end) for one in intervals])[:, None] for end in ("low", "high"))
        probability = stats.binom.pmf(np.arange(n + 1)[:, None], n, rates)
        coverage = (probability * ((low <= rates) & (rates <= high))).sum(axis=0)
        assert coverage.mean() == pytest.approx(0.95, abs=0.005)
        away_from_the_ends = coverage[n * rates * (1 - rates) > 5]
        assert away_from_the_ends.min() >= 0.92
        assert np.mean(away_from_the_ends >= 0.93) >= 0.97


def test_upper_bound_without_errors_is_the_rule_of_three() -> None:
    """Hanley and Lippman-Hand 1983, 'If nothing goes wrong, is everything all right?': 3/n."""
    for n in (100, 1_000, 1_000_000):
        assert one_sided_upper(n) == pytest.approx(3 / n, rel=0.02)
    assert one_sided_upper(59) < 0.05 < one_sided_upper(58)


def test_upper_bound_is_that_of_clopper_and_pearson() -> None:
    """The 95 % quantile of Beta(errors + 1, n - errors), and 1 where nothing was tried or all went wrong."""
    for errors, n in [(0, 1), (0, 20), (1, 20), (19, 20), (50, 100), (5_000, 100_000), (3, 10_000_000)]:
        expected = stats.beta.ppf(0.95, errors + 1, n - errors)
        assert one_sided_upper(n, errors) == pytest.approx(expected, rel=1e-9)
    assert one_sided_upper(0) == one_sided_upper(5, 5) == 1.0


def test_chi_square_is_that_of_scipy() -> None:
    """Tails and quantiles for odd and even degrees."""
    for degrees in range(1, 30):
        for x in (0.0, 0.01, 1.0, 11.0, 60.0, 400.0):
            assert chi_square_tail(x, degrees) == pytest.approx(stats.chi2.sf(x, degrees), rel=1e-9)
        for probability in (0.5, 0.95, 0.99):
            expected = stats.chi2.ppf(probability, degrees)
            assert chi_square_quantile(probability, degrees) == pytest.approx(expected, rel=1e-9)


def test_benjamini_and_hochberg_reject_what_they_did_in_their_paper() -> None:
    """Their 1995 example of 15 comparisons in a study of thrombolysis: the four smallest at 5 %."""
    p_values = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
        0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000,
    ]  # fmt: skip
    assert benjamini_hochberg(p_values) == [True] * 4 + [False] * 11
    assert benjamini_hochberg(p_values[::-1]) == [False] * 11 + [True] * 4
    assert benjamini_hochberg([]) == []


def test_benjamini_and_hochberg_reject_what_statsmodels_does() -> None:
    """Mixtures of true and false hypotheses, ties included."""
    generator = np.random.default_rng(5)
    for _ in range(50):
        p_values = np.round(generator.beta(generator.choice([0.1, 1.0], 40), 1.0), 3)
        expected = multipletests(p_values, 0.05, "fdr_bh")[0]
        assert benjamini_hochberg(p_values.tolist()) == expected.tolist()


def people(generator: np.random.Generator, count: int, rate: float) -> np.ndarray:
    """(passed, tries) of people who come back, each with a rate of their own, around `rate`."""
    tries = generator.geometric(0.25, count)
    own = generator.beta(4 * rate, 4 * (1 - rate), count)
    return np.stack([generator.binomial(tries, own), tries], axis=1)


def alike(rows: npt.ArrayLike) -> Counter[tuple[int, int]]:
    """How many people have each (passed, tries)."""
    return Counter((passed, tries) for passed, tries in np.asarray(rows, int).reshape(-1, 2).tolist())


@pytest.mark.parametrize("rate", [0.8, 0.95])
def test_bootstrap_by_subject_covers_where_people_repeat_and_wilson_does_not(rate: float) -> None:
    """Of 500 samples of 100 people with four tries on average, Wilson's intervals miss the truth of one in eight."""
    generator = np.random.default_rng(7)
    samples = [people(generator, 100, rate) for _ in range(500)]
    by_subject = [subject_bootstrap(alike(sample), repeats=300) for sample in samples]
    linearised = [clustered_wilson(sample[:, 0], sample[:, 1], sample[:, 1].sum()) for sample in samples]
    independent = [wilson(*sample.sum(axis=0)) for sample in samples]

    def coverage(intervals: list[Interval]) -> float:
        return sum(one.low <= rate <= one.high for one in intervals) / len(intervals)

    assert 0.92 <= coverage(by_subject) <= 0.98
    assert 0.92 <= coverage(linearised) <= 0.98
    assert coverage(independent) <= 0.87


def test_bootstrap_by_subject_agrees_with_scipys_percentiles_in_a_large_sample() -> None:
    """Far from 0 and 1 and with many people, all ways to make an interval of draws come to the same."""
    sample = people(np.random.default_rng(11), 5_000, 0.7)
    expected = stats.bootstrap(
        (sample[:, 0], sample[:, 1]),
        lambda passed, tries, axis: passed.sum(axis=axis) / tries.sum(axis=axis),
        paired=True, vectorized=True, n_resamples=2_000, batch=100, method="percentile", rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    found = subject_bootstrap(alike(sample), repeats=2_000)
    width = expected.high - expected.low
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.06 * width)


def test_one_try_each_is_wilsons_interval() -> None:
    """Where nobody repeats both ways by subject agree with independent tries."""
    passed = np.arange(2_000) < 1_500
    expected = wilson(1_500, 2_000)
    bootstrap = subject_bootstrap(alike(np.stack([passed, np.ones(2_000)], axis=1)), repeats=4_000)
    linearised = clustered_wilson(passed, np.ones(2_000), 2_000)
    assert (linearised.low, linearised.high) == pytest.approx((expected.low, expected.high), abs=1e-4)
    assert (bootstrap.low, bootstrap.high) == pytest.approx((expected.low, expected.high), abs=2e-3)


def test_subjects_that_do_not_differ_count_as_one_try_each() -> None:
    """30 people who passed all of 5 tries are worth 30, a single one is worth 1, and none may be anything."""
    assert subject_bootstrap({(5, 5): 30}) == clustered_wilson([5] * 30, [5] * 30, 150) == wilson(30, 30)
    assert subject_bootstrap({(40, 40): 1}) == clustered_wilson([40], [40], 40) == wilson(1, 1)
    assert subject_bootstrap({}) == subject_bootstrap({(0, 0): 1}) == clustered_wilson([], [], 0) == ANYTHING


def test_bootstrap_is_repeatable_and_does_not_depend_on_the_order_of_people() -> None:
    """The same report twice is the same, however the rows came."""
    sample = people(np.random.default_rng(13), 300, 0.9)
    assert subject_bootstrap(alike(sample)) == subject_bootstrap(alike(sample[::-1]))
    assert subject_bootstrap(alike(sample)) != subject_bootstrap(alike(sample), seed=1)


def test_a_million_people_are_drawn_by_their_kinds() -> None:
    """Draws in pieces and of few kinds: memory and time of a thousand draws of a million people stay small."""
    kinds = people(np.random.default_rng(17), 50, 0.9)
    found = subject_bootstrap({kind: 20_000 * count for kind, count in alike(kinds).items()})
    rate = kinds[:, 0].sum() / kinds[:, 1].sum()
    assert found.low < rate < found.high
    assert found.high - found.low < 0.001


def test_effective_size_of_weights() -> None:
    """Equal weights are worth their number, one that outweighs all others is worth one (Kish 1965)."""
    assert effective_size(np.full(40, 2.5)) == pytest.approx(40)
    assert effective_size([1_000_000, 1, 1]) == pytest.approx(1, abs=1e-5)
    assert effective_size([3, 1]) == pytest.approx(16 / 10)
    assert effective_size([]) == effective_size([0, 0]) == 0
