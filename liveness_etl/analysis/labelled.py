"""How well a threshold tells attacks from people, where it is known which was which: ISO/IEC 30107-3.

A session passes if it SUCCEEDED with a confidence of at least the threshold. One that FAILED, or SUCCEEDED below it,
was answered and did not pass. Every other one (SUCCEEDED without a score too) is a non-response, counted apart.

    APCER    of the answered attacks of one species of presentation attack instrument, the share that passed
    BPCER    of the answered bona fide sessions, the share that did not pass
    APNRR, BPNRR    of all attacks (of a species) and of all bona fide sessions, the share without an answer

Shares are weighted where there are weights. An interval knows that sessions of one subject are alike, and how unequal
the weights are. All results turn into JSON through dataclasses.asdict.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from liveness_etl.analysis.detection_curve import Curve, DetPoint, trace_curve
from liveness_etl.analysis.labelled_sessions import LabelledSessions, Mask, has_values, read_sessions, split_sessions
from liveness_etl.analysis.statistics import ANYTHING, Interval, clustered_wilson, effective_size, one_sided_upper

TARGETS: Final = (0.05, 0.10)
"""The attack error rates at which the bona fide one is read: BPCER20 and BPCER10."""

NO_SPECIES: Final = (
    "The labels name no species of attack, so the share of all attacks that passed is a pooled attack acceptance, "
    "which is not an APCER: one species that always passes can hide in it."
)
SOME_SPECIES: Final = "Attacks without a species are in the pooled attack acceptance and in no APCER."
NO_WEIGHTS: Final = (
    "The labels have no weights, so they are not a known sample: the rates hold for the labelled sessions alone."
)
NO_SUBJECTS: Final = (
    "Some labels name no subject: each such session is taken as another person, so that intervals are too narrow "
    "where people repeat, and one person may be on both sides of the split."
)
NOT_SPLIT: Final = (
    "The labelled sessions cannot be split into an earlier and a later part that both have attacks and bona fide "
    "sessions with an answer: the thresholds were chosen on the sessions they are measured on, and look too good."
)


@dataclass(frozen=True)
class Rate:
    """A share of n sessions, `count` of them; None where there were none to count (or all have weight 0).

    The interval is the two-sided 95 % one; where none was counted, its high end is the one-sided 95 % bound.
    """

    value: float | None
    n: int
    count: int
    interval: Interval
    one_sided: bool


@dataclass(frozen=True)
class SpeciesRates:
    """One species of presentation attack instrument; `apcer.n` counts the answered attacks, `apnrr.n` all."""

    species: str
    apcer: Rate
    apnrr: Rate


@dataclass(frozen=True)
class Rates:
    """All rates at one threshold. APCER of the system is that of `worst_species`; without any it has none."""

    threshold: float
    species: tuple[SpeciesRates, ...]
    worst_species: str | None
    pooled_attack_acceptance: Rate
    apnrr: Rate
    bpcer: Rate
    bpnrr: Rate


@dataclass(frozen=True)
class OperatingPoint:
    """The lowest threshold with at most the target's attack error, None where even 100 lets too many pass."""

    target: float
    threshold: float | None
    rates: Rates | None


@dataclass(frozen=True)
class Split:
    """Sessions before `cut` (ISO 8601, UTC) chose, later ones measure; a subject's on the other side are left out."""

    cut: str
    n_choosing: int
    n_measuring: int
    n_left_out: int


@dataclass(frozen=True)
class Detection:
    """What labelled sessions say of the service as a detector of presentation attacks.

    `rates` and `det` are of all labelled sessions. `operating_points` are chosen on one part of `split` and their
    rates measured on the other; without a split on all. `attack_error` says what the curve and the targets mean.
    """

    attack_error: str
    rates: Rates
    det: tuple[DetPoint, ...]
    operating_points: tuple[OperatingPoint, ...]
    split: Split | None
    notes: tuple[str, ...]


def measure_detection(joined: pa.Table, threshold: float) -> Detection:
    """All figures of labelled sessions.

    `joined` has one row per label whose session is in the table: label (`bona_fide` or `attack`), status and
    confidence; where known also pai_species, subject_id, weight and created_at.
    """
    sessions, names = read_sessions(joined)
    species = bool((sessions.species >= 0).any())
    masks = split_sessions(sessions)
    choosing, measuring = (sessions, sessions) if masks is None else map(sessions.part, masks)
    curve = _curve(choosing)
    points = []
    for target in TARGETS:
        chosen = curve.lowest_threshold(target)
        points.append(OperatingPoint(target, chosen, None if chosen is None else _rates(measuring, names, chosen)))
    notes = [NO_SPECIES] if not species else [SOME_SPECIES] if (sessions.attack & (sessions.species < 0)).any() else []
    notes += [NO_WEIGHTS] if not has_values(joined, "weight") else []
    notes += [NO_SUBJECTS] if not has_values(joined, "subject_id") or joined["subject_id"].null_count else []
    notes += [NOT_SPLIT] if masks is None else []
    return Detection(
        "APCER of the worst species" if species else "pooled attack acceptance",
        _rates(sessions, names, threshold),
        _curve(sessions).points(),
        tuple(points),
        None if masks is None else _described(sessions, *masks),
        tuple(notes),
    )


def _rates(sessions: LabelledSessions, names: list[str], threshold: float) -> Rates:
    attack, answered, passed = sessions.attack, ~np.isnan(sessions.score), sessions.score >= threshold
    species = []
    for code in np.unique(sessions.species[sessions.species >= 0]):
        of_it = sessions.species == code
        apcer, apnrr = _rate(sessions, passed, of_it & answered), _rate(sessions, ~answered, of_it)
        species.append(SpeciesRates(names[code], apcer, apnrr))
    species.sort(key=lambda one: one.species)
    measured = [one for one in species if one.apcer.value is not None]
    # Of several at the same rate, such as 0, the one of which least is known is the worst.
    worst = max(measured, key=lambda one: (one.apcer.value, one.apcer.interval.high), default=None)
    return Rates(
        threshold,
        tuple(species),
        worst.species if worst else None,
        _rate(sessions, passed, attack & answered),
        _rate(sessions, ~answered, attack),
        _rate(sessions, ~passed, ~attack & answered),
        _rate(sessions, ~answered, ~attack),
    )


def _rate(sessions: LabelledSessions, counted: Mask, among: Mask) -> Rate:
    n, count = int(among.sum()), int((counted & among).sum())
    weight = sessions.weight[among]
    _, subject = np.unique(sessions.subject[among], return_inverse=True)
    tries = np.bincount(subject, weight)
    hits = np.bincount(subject, weight * counted[among])
    if tries.sum() <= 0:
        return Rate(None, n, count, ANYTHING, False)
    if count == 0:
        return Rate(0.0, n, 0, Interval(0.0, one_sided_upper(effective_size(tries))), True)
    return Rate(float(hits.sum() / tries.sum()), n, count, clustered_wilson(hits, tries, n), False)


def _curve(sessions: LabelledSessions) -> Curve:
    answered = ~np.isnan(sessions.score)
    known = sessions.part(answered & (sessions.species >= 0))
    attacks = sessions.part(answered & sessions.attack)
    bona_fide = sessions.part(answered & ~sessions.attack)
    kinds = [known.part(known.species == code) for code in np.unique(known.species)] or [attacks]
    return trace_curve([(kind.score, kind.weight) for kind in kinds], (bona_fide.score, bona_fide.weight))


def _described(sessions: LabelledSessions, choosing: Mask, measuring: Mask) -> Split:
    cut = np.datetime64(int(sessions.created[measuring].min()), "ms")
    chose, measured = int(choosing.sum()), int(measuring.sum())
    return Split(f"{cut}Z", chose, measured, len(choosing) - chose - measured)
