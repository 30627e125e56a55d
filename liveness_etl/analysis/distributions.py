"""Tails of distributions, exact for the whole numbers needed here: scipy, which has them too, is 140 MB."""

import math
from collections.abc import Callable
from functools import cache


def chi_square_tail(x: float, degrees: int) -> float:
    """P(χ² > x), by the recurrence of the incomplete gamma function in whole steps: exact for whole degrees."""
    if x <= 0:
        return 1.0
    half = x / 2
    a = 0.5 if degrees % 2 else 1.0
    tail = math.erfc(math.sqrt(half)) if degrees % 2 else math.exp(-half)
    while a < degrees / 2:
        tail += math.exp(a * math.log(half) - half - math.lgamma(a + 1))
        a += 1
    return min(1.0, tail)


@cache
def chi_square_quantile(probability: float, degrees: int) -> float:
    """What χ² stays below with this probability."""
    return root_of_falling(lambda x: chi_square_tail(x, degrees) - (1 - probability), 0.0, 10.0 * degrees + 100)


def binomial_cdf(k: int, n: float, rate: float) -> float:
    """P(X ≤ k), summed downwards from k, for rates above k/n: the terms then shrink at each step."""
    if rate >= 1:
        return 0.0
    term = math.exp(
        math.lgamma(n + 1)
        - math.lgamma(k + 1)
        - math.lgamma(n - k + 1)
        + k * math.log(rate)
        + (n - k) * math.log1p(-rate)
    )
    total = 0.0
    for i in range(k, -1, -1):
        total += term
        term *= i * (1 - rate) / ((n - i + 1) * rate)
        if term < 1e-17 * total:
            break
    return total


def root_of_falling(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function is 0, to the last bit that matters."""
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2
