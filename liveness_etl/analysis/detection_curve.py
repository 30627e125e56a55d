"""The detection error trade-off of two kinds of scored sessions: both error rates at every threshold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_MOST_THRESHOLDS = 20_000

Floats = npt.NDArray[np.float64]
Scored = tuple[Floats, Floats]
"""Scores, -inf for what passes at no threshold, and the weight of each."""


@dataclass(frozen=True)
class DetPoint:
    """Error rates at a threshold: attacks that pass, and bona fide sessions that do not."""

    threshold: float
    attack_error: float
    bona_fide_error: float


@dataclass(frozen=True)
class Curve:
    """Rising thresholds, and both error rates at each; empty where one of the kinds has no sessions."""

    thresholds: Floats
    attack_error: Floats
    bona_fide_error: Floats

    def lowest_threshold(self, attack_error: float) -> float | None:
        """The one with the fewest bona fide errors among those with at most so much attack error."""
        fine = np.flatnonzero(self.attack_error <= attack_error)
        return float(self.thresholds[fine[0]]) if len(fine) else None

    def points(self, most: int = 200) -> tuple[DetPoint, ...]:
        """At most so many points, spread evenly along the curve as it is drawn: on axes of log odds."""
        chosen = np.arange(len(self.thresholds))
        if len(chosen) > most:
            steps = sum(np.abs(np.diff(_log_odds(rates))) for rates in (self.attack_error, self.bona_fide_error))
            travelled = np.concatenate(([0.0], np.cumsum(steps)))
            chosen = np.unique(np.searchsorted(travelled, np.linspace(0, travelled[-1], most)))
        return tuple(
            DetPoint(float(self.thresholds[i]), float(self.attack_error[i]), float(self.bona_fide_error[i]))
            for i in chosen
        )


def trace_curve(attacks: Sequence[Scored], bona_fide: Scored) -> Curve:
    """The curve at every score that occurs and at 100; of the given kinds of attack, the worst at each threshold.

    Of more than 20,000 different scores, evenly many are left out; the rates at the others are exact.
    """
    scores = np.concatenate([bona_fide[0], *(kind[0] for kind in attacks), [100.0]])
    thresholds = np.unique(scores[np.isfinite(scores)])
    if len(thresholds) > _MOST_THRESHOLDS:
        thresholds = thresholds[np.linspace(0, len(thresholds) - 1, _MOST_THRESHOLDS).astype(int)]
    kinds = [kind for kind in attacks if kind[1].sum() > 0]
    if not kinds or bona_fide[1].sum() <= 0:
        return Curve(*np.empty((3, 0)))
    worst = np.max([_passing(kind, thresholds) for kind in kinds], axis=0)
    return Curve(thresholds, worst, 1 - _passing(bona_fide, thresholds))


def _passing(scored: Scored, thresholds: Floats) -> Floats:
    """The weighted share of scores at or above each threshold."""
    scores, weights = scored
    reached = np.searchsorted(thresholds, scores, side="right")
    weight = np.bincount(reached, weights, minlength=len(thresholds) + 1)
    # Whatever reaches k thresholds passes the first k of them.
    above = np.cumsum(weight[::-1])[::-1][1:]
    shares: Floats = np.clip(above / weights.sum(), 0.0, 1.0)
    return shares


def _log_odds(rates: Floats) -> Floats:
    clipped = np.clip(rates, 1e-5, 1 - 1e-5)
    odds: Floats = np.log(clipped / (1 - clipped))
    return odds
