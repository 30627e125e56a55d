"""Intervals for rates, and a test for drift, as plain functions of counts.

Rates and shares are fractions between 0 and 1. Nothing here reads a table or draws a random number without a seed.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from liveness_etl.analysis.distributions import binomial_cdf, chi_square_quantile, chi_square_tail, root_of_falling

DRIFT_EDGES: Final = (0, 10, 50, 70, 80, 90, 95, 98, 99, 99.5, 99.9, 100)
"""Lower ends of the 12 bins of a confidence: [0, 10), [10, 50), …, [99.9, 100), and 100 itself. Scores crowd there."""

FEWEST_SESSIONS: Final = 500
SMALLEST_PSI: Final = 0.1
FALSE_DISCOVERIES: Final = 0.05


@dataclass(frozen=True)
class Interval:
    """A closed interval of rates."""

    low: float
    high: float


ANYTHING: Final = Interval(0.0, 1.0)
"""What is known of a rate that was never tried."""


def wilson(successes: float, n: float, confidence: float = 0.95) -> Interval:
    """The score interval of a rate (Wilson 1927), for tries that are independent of each other.

    `n` may be an effective sample size, so neither number has to be whole. Without tries the rate may be anything.
    """
    if n <= 0:
        return ANYTHING
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate = successes / n
    centre = rate + z * z / (2 * n)
    spread = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # Both ends are exact at 0 and n, where rounding would leave 1e-18 or 1 - 1e-16.
    low = 0.0 if successes <= 0 else (centre - spread) / scale
    high = 1.0 if successes >= n else (centre + spread) / scale
    return Interval(max(0.0, low), min(1.0, high))


def clustered_wilson(
    successes: npt.ArrayLike, tries: npt.ArrayLike, sessions: float, confidence: float = 0.95
) -> Interval:
    """Wilson's interval at the effective sample size of tries that come in clusters, such as people who repeat.

    One entry per cluster: its tries and those that succeeded, both as sums of weights. The effective size is the one
    at which independent tries would have the linearised variance of the ratio between clusters (Korn and Graubard
    1998), and at most `sessions`, the number of tries.
    """
    passed, total = np.asarray(successes, float), np.asarray(tries, float)
    if total.sum() <= 0:
        return ANYTHING
    rate = min(1.0, float(passed.sum() / total.sum()))
    residuals = passed - rate * total
    variance = float(residuals @ residuals) / float(total.sum()) ** 2
    # One cluster has no variance to show.
    variance *= len(total) / (len(total) - 1) if len(total) > 1 else 0.0
    return _worth(rate, variance, effective_size(total), sessions, confidence)


def effective_size(weights: npt.ArrayLike) -> float:
    """How many equal weights know as much (Kish 1965); 0 without any."""
    w = np.asarray(weights, float)
    squares = float(w @ w)
    return float(w.sum()) ** 2 / squares if squares > 0 else 0.0


def one_sided_upper(n: float, errors: int = 0, confidence: float = 0.95) -> float:
    """The exact upper bound of an error rate (Clopper and Pearson 1934), all of the doubt on one side.

    Without errors it is 1 - 0.05^(1/n), about 3/n: the rule of three. 1 where nothing was tried or all went wrong.
    """
    if n <= errors:
        return 1.0
    if errors == 0:
        return -math.expm1(math.log(1 - confidence) / n)
    return root_of_falling(lambda rate: binomial_cdf(errors, n, rate) - (1 - confidence), errors / n, 1.0)


def subject_bootstrap(
    kinds: Mapping[tuple[int, int], int], confidence: float = 0.95, repeats: int = 1_000, seed: int = 0
) -> Interval:
    """The interval of a rate when whole subjects are drawn again, since a person's tries are alike.

    `kinds` says how many subjects have each (passed, tries). Those of a kind are interchangeable, so what is drawn
    is how many of each kind there are: millions of subjects take no longer than their kinds. The draws tell the
    variance, and Wilson's formula the ends: the draws' own percentiles cover the truth too seldom at rates near 1
    (86 % against 94 % in simulated samples of 30 subjects).
    """
    rows = np.array(sorted((*kind, subjects) for kind, subjects in kinds.items() if kind[1]), np.int64)
    if not len(rows):
        return ANYTHING
    passed, tries, subjects = rows.T
    everyone, sessions = int(subjects.sum()), int(subjects @ tries)
    generator = np.random.default_rng(seed)
    # Draws of up to 8 MB at a time, however many kinds there are.
    at_once = max(1, 1_000_000 // len(rows))
    rates = np.empty(repeats)
    for start in range(0, repeats, at_once):
        drawn = generator.multinomial(everyone, subjects / everyone, size=min(at_once, repeats - start))
        rates[start : start + at_once] = (drawn @ passed) / (drawn @ tries)
    return _worth(int(subjects @ passed) / sessions, float(rates.var(ddof=1)), everyone, sessions, confidence)


def _worth(rate: float, variance: float, clusters: float, sessions: float, confidence: float) -> Interval:
    """Wilson's interval at the number of independent tries that would have this variance, at most all of them.

    Clusters that do not differ at all say nothing of the variance: each then counts as one try.
    """
    size = rate * (1 - rate) / variance if variance > 1e-20 else clusters
    size = min(size, sessions)
    return wilson(rate * size, size, confidence)


def psi(baseline_counts: npt.ArrayLike, day_counts: npt.ArrayLike) -> float:
    """The population stability index Σ (d - b) · ln(d / b) over the bins' shares b and d.

    Each bin counts half a session more than it has (Jeffreys' prior), so that an empty one is no infinity.
    """
    b, d = _smoothed_shares(baseline_counts), _smoothed_shares(day_counts)
    return float(np.sum((d - b) * np.log(d / b)))


def psi_bound(n_baseline: float, n_day: float, bins: int, quantile: float = 0.99) -> float:
    """What the index of two samples of one distribution stays below: (1/n + 1/m) times χ² of bins - 1 degrees.

    Yurdakul and Naranjo 2020, 'Statistical properties of the population stability index'.
    """
    return (1 / n_baseline + 1 / n_day) * chi_square_quantile(quantile, bins - 1)


def psi_p_value(index: float, n_baseline: float, n_day: float, bins: int) -> float:
    """How likely two samples of one distribution have an index at least as large."""
    return chi_square_tail(index / (1 / n_baseline + 1 / n_day), bins - 1)


def benjamini_hochberg(p_values: Sequence[float], q: float = 0.05) -> list[bool]:
    """Which hypotheses to reject so that a share of at most q of the rejected ones is true (1995), in given order."""
    ranked = sorted(p_values)
    passing = [p for rank, p in enumerate(ranked, 1) if p <= q * rank / len(ranked)]
    return [bool(passing) and p <= passing[-1] for p in p_values]


@dataclass(frozen=True)
class Drift:
    """One day of one stratum against its baseline; index, bound and p-value are None where there are too few."""

    n_baseline: int
    n_day: int
    psi: float | None
    bound: float | None
    p_value: float | None
    state: Literal["too few sessions", "steady", "drift"]


def drift_flags(comparisons: Iterable[tuple[npt.ArrayLike, npt.ArrayLike]]) -> list[Drift]:
    """Each (baseline counts, day's counts) judged, all days and strata of a report together.

    Drift is an index above both 0.1 and the 99 % bound for these sizes that Benjamini-Hochberg at 5 % over
    all comparisons with enough sessions also rejects. Either side below 500 is 'too few sessions'. The same holds
    for counts of two bins (scored, unscored).
    """
    found = [_compared(np.asarray(baseline), np.asarray(day)) for baseline, day in comparisons]
    tested = [drift.p_value for drift in found if drift.p_value is not None]
    rejected = iter(benjamini_hochberg(tested, FALSE_DISCOVERIES))
    return [
        replace(drift, state="drift") if drift.p_value is not None and next(rejected) and _stands_out(drift) else drift
        for drift in found
    ]


def _compared(baseline: npt.NDArray[np.int64], day: npt.NDArray[np.int64]) -> Drift:
    n_baseline, n_day = int(baseline.sum()), int(day.sum())
    if min(n_baseline, n_day) < FEWEST_SESSIONS:
        return Drift(n_baseline, n_day, None, None, None, "too few sessions")
    index, bins = psi(baseline, day), len(day)
    bound = psi_bound(n_baseline, n_day, bins)
    return Drift(n_baseline, n_day, index, bound, psi_p_value(index, n_baseline, n_day, bins), "steady")


def _stands_out(drift: Drift) -> bool:
    return drift.psi is not None and drift.bound is not None and drift.psi > max(SMALLEST_PSI, drift.bound)


def _smoothed_shares(counts: npt.ArrayLike) -> npt.NDArray[np.float64]:
    smoothed = np.asarray(counts, float) + 0.5
    shares: npt.NDArray[np.float64] = smoothed / smoothed.sum()
    return shares
