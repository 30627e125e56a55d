"""Presentation attack detection by ISO/IEC 30107-3, counted by hand and held against scipy and simulated truth."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from liveness_etl.analysis import labelled
from liveness_etl.analysis.labelled import Detection, measure_detection
from liveness_etl.analysis.statistics import ANYTHING, wilson

JOINED = pa.schema(
    [
        ("label", pa.string()),
        ("pai_species", pa.string()),
        ("subject_id", pa.string()),
        ("weight", pa.float64()),
        ("status", pa.string()),
        ("confidence", pa.float64()),
        ("created_at", pa.timestamp("ms", "UTC")),
    ]
)
START = datetime(2025, 1, 1, tzinfo=UTC)


def session(label: str, confidence: float | None = None, status: str = "SUCCEEDED", **more: Any) -> dict[str, Any]:
    """One labelled session."""
    return {"label": label, "confidence": confidence, "status": status, **more}


def measure(rows: Iterable[dict[str, Any]], threshold: float = 90.0) -> Detection:
    """The figures of these sessions."""
    return measure_detection(pa.Table.from_pylist(list(rows), JOINED), threshold)


def attacks(species: str | None, scores: Iterable[float | None], **more: Any) -> list[dict[str, Any]]:
    """SUCCEEDED attacks of one species."""
    return [session("attack", score, pai_species=species, **more) for score in scores]


def people(scores: Iterable[float | None], **more: Any) -> list[dict[str, Any]]:
    """SUCCEEDED bona fide sessions."""
    return [session("bona_fide", score, **more) for score in scores]


def test_error_rates_are_those_counted_by_hand() -> None:
    """APCER by species over the answered attacks, BPCER over the answered people, the worst species named."""
    found = measure(
        attacks("print", [10, 20, 30, 89.9]) + attacks("mask", [95, 90, 50, 10]) + people([99, 98, 97, 91, 89])
    ).rates
    by_species = {one.species: (one.apcer.value, one.apcer.count, one.apcer.n) for one in found.species}
    assert by_species == {"mask": (0.5, 2, 4), "print": (0.0, 0, 4)}
    assert found.worst_species == "mask"
    assert (found.bpcer.value, found.bpcer.count, found.bpcer.n) == (0.2, 1, 5)
    assert (found.pooled_attack_acceptance.value, found.pooled_attack_acceptance.n) == (0.25, 8)


def test_sessions_without_an_answer_are_counted_as_non_response() -> None:
    """EXPIRED, errors, unfinished ones and SUCCEEDED without a score: in APNRR and BPNRR, in no error rate."""
    unanswered = ["EXPIRED", "CREATED", "IN_PROGRESS", None]
    found = measure(
        [session("attack", status=status, pai_species="mask") for status in unanswered]
        + [session("bona_fide", status=status) for status in unanswered[:2]]
        + attacks("mask", [95, None])
        + people([95, 95, 95, 20, None])
    ).rates
    assert (found.apnrr.value, found.apnrr.count, found.apnrr.n) == (5 / 6, 5, 6)
    assert (found.bpnrr.value, found.bpnrr.count, found.bpnrr.n) == (3 / 7, 3, 7)
    assert (found.species[0].apnrr.n, found.species[0].apcer.n) == (6, 1)
    assert (found.bpcer.value, found.bpcer.n) == (0.25, 4)


def test_failed_is_an_answer_that_did_not_pass() -> None:
    """It rejects a person and stops an attack at every threshold, even with a score beside it."""
    rows = [session("attack", 99.0, status="FAILED"), session("bona_fide", None, status="FAILED")]
    found = measure(rows + people([99]) + attacks(None, [99]), threshold=0.0).rates
    assert (found.pooled_attack_acceptance.value, found.bpcer.value) == (0.5, 0.5)
    assert found.apnrr.count == found.bpnrr.count == 0


def test_threshold_itself_passes() -> None:
    """pass = SUCCEEDED and confidence ≥ threshold."""
    found = measure(people([90.0, np.nextafter(90.0, 0)])).rates
    assert found.bpcer.count == 1


def test_no_error_gives_the_one_sided_bound() -> None:
    """None of 59 attacks passed: APCER is below 5 % with 95 % confidence, exactly (Clopper and Pearson)."""
    apcer = measure(attacks("mask", [1.0] * 59) + people([99])).rates.species[0].apcer
    assert (apcer.value, apcer.one_sided, apcer.interval.low) == (0.0, True, 0.0)
    assert apcer.interval.high == pytest.approx(stats.beta.ppf(0.95, 1, 59))
    assert apcer.interval.high < 0.05


def test_interval_of_independent_sessions_is_wilsons() -> None:
    """One session per subject and no weights."""
    bpcer = measure(people([99] * 180 + [10] * 20)).rates.bpcer
    expected = wilson(20, 200)
    assert not bpcer.one_sided
    assert (bpcer.interval.low, bpcer.interval.high) == pytest.approx((expected.low, expected.high), rel=5e-3)


def test_sessions_of_one_subject_are_no_independent_evidence() -> None:
    """Ten people with 20 sessions each, who pass always or never, know as much as ten sessions."""
    rows = [row for who in range(10) for row in people([10 if who < 3 else 99] * 20, subject_id=f"p{who}")]
    found = measure(rows).rates.bpcer
    expected = wilson(3, 10)
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high), abs=0.03)
    without_errors = measure(people([99] * 200, subject_id="p")).rates.bpcer
    assert without_errors.interval.high == pytest.approx(0.95)


def test_weights_say_how_many_sessions_one_stands_for() -> None:
    """Rates are shares of weights, intervals those of the effective number of sessions, counts stay counts."""
    rows = people([99] * 50, weight=9.0) + people([10] * 50, weight=1.0)
    found = measure(rows).rates.bpcer
    assert found.value == pytest.approx(0.1)
    assert (found.n, found.count) == (100, 50)
    zero = measure(people([99], weight=0.0) + attacks("mask", [10] * 100, weight=2.0)).rates
    assert (zero.bpcer.value, zero.bpcer.n, zero.bpcer.interval) == (None, 1, ANYTHING)
    assert zero.species[0].apcer.interval.high == pytest.approx(stats.beta.ppf(0.95, 1, 100))


def test_of_species_without_an_error_the_least_tried_is_the_worst() -> None:
    """A species of which little is known must not hide behind one that was tried often."""
    found = measure(attacks("print", [1] * 100) + attacks("mask", [1] * 5) + people([99])).rates
    assert found.worst_species == "mask"


def test_without_species_there_is_no_apcer() -> None:
    """The figure is a pooled attack acceptance, and the notes say why that matters."""
    found = measure(attacks(None, [95, 10, 10, 10]) + people([99]))
    assert (found.rates.species, found.rates.worst_species) == ((), None)
    assert found.rates.pooled_attack_acceptance.value == 0.25
    assert found.attack_error == "pooled attack acceptance"
    assert labelled.NO_SPECIES in found.notes
    some = measure(attacks(None, [95]) + attacks("mask", [10]) + people([99]))
    assert (some.rates.pooled_attack_acceptance.n, some.rates.species[0].apcer.n) == (2, 1)
    assert labelled.SOME_SPECIES in some.notes
    assert labelled.NO_SPECIES not in some.notes


def test_notes_say_what_the_labels_do_not() -> None:
    """No weights, no subjects, no split; and none of it where all is there."""
    bare = measure(attacks("mask", [10]) + people([99]))
    assert bare.notes == (labelled.NO_WEIGHTS, labelled.NO_SUBJECTS, labelled.NOT_SPLIT)
    assert measure(timeline()).notes == ()


def timeline() -> list[dict[str, Any]]:
    """Each day an attack and two people; the attacks' scores lie between 41 and 80, the people's between 61 and 100."""
    rows = []
    for day in range(40):
        for i, label in enumerate(("attack", "bona_fide", "bona_fide")):
            rows.append(
                session(
                    label,
                    (41.0 if label == "attack" else 61.0) + (day * 7 + i) % 40,
                    pai_species="mask" if label == "attack" else None,
                    subject_id=f"{label}-{i}-{day}",
                    weight=1.0,
                    created_at=START + timedelta(days=day),
                )
            )
    return rows


def test_threshold_is_chosen_on_the_earlier_part_and_measured_on_the_later() -> None:
    """Attacks get stronger in the later part: the chosen threshold lets through what it was never shown."""
    early = attacks("mask", range(20), weight=1.0) + people([15, *range(50, 69)], weight=1.0)
    late = attacks("mask", [*range(5), *range(95, 100)], weight=1.0) + people([10, 20, 60, 70], weight=1.0)
    rows = [{**row, "created_at": START, "subject_id": f"e{i}"} for i, row in enumerate(early)]
    rows += [{**row, "created_at": START + timedelta(days=9), "subject_id": f"l{i}"} for i, row in enumerate(late)]
    rows += [
        {**row, "created_at": START + timedelta(days=9), "subject_id": f"m{i}"}
        for i, row in enumerate(attacks("mask", [1.0] * 15, weight=1.0))
    ]
    found = measure(rows)
    five, ten = found.operating_points
    # Of the early attacks 0 … 19, one in 20 reaches 19 and two reach 18.
    assert (five.target, five.threshold) == (0.05, 19.0)
    assert (ten.target, ten.threshold) == (0.10, 18.0)
    assert five.rates is not None
    assert (five.rates.bpcer.value, five.rates.bpcer.n) == (0.25, 4)
    assert (five.rates.species[0].apcer.value, five.rates.species[0].apcer.n) == (0.2, 25)
    assert found.split is not None
    assert (found.split.n_choosing, found.split.n_measuring, found.split.n_left_out) == (40, 29, 0)
    assert found.split.cut.startswith("2025-01-10T00:00:00")
    assert found.split.cut.endswith("Z")
    assert found.rates.bpcer.n == 24


def test_no_subject_is_on_both_sides_and_no_earlier_session_measures() -> None:
    """Whatever subjects and times there are, also where some are unknown."""
    generator = np.random.default_rng(37)
    for _ in range(50):
        rows = [
            {
                **session(str(generator.choice(["attack", "bona_fide"])), float(generator.uniform(0, 100))),
                "subject_id": None if generator.random() < 0.1 else f"p{generator.integers(0, 60)}",
                "created_at": None
                if generator.random() < 0.1
                else START + timedelta(hours=int(generator.integers(99))),
            }
            for _ in range(200)
        ]
        sessions, _names = labelled.read_sessions(pa.Table.from_pylist(rows, JOINED))
        parts = labelled.split_sessions(sessions)
        assert parts is not None
        choosing, measuring = parts
        assert not set(sessions.subject[choosing]) & set(sessions.subject[measuring])
        assert sessions.created[choosing].max() < sessions.created[measuring].min()
        assert (choosing | measuring).sum() > 60
        assert not (choosing | measuring)[[row["created_at"] is None for row in rows]].any()


def test_cut_halves_the_rarer_label_as_well_as_whole_days_allow() -> None:
    """Times of whole days, most of them one day's: the attacks are 10, 3 and 2 by day, and ten choose."""
    rows = [
        {**row, "created_at": START + timedelta(days=day)}
        for day, count in enumerate((10, 3, 2))
        for row in attacks("mask", [50] * count) + people([99] * 50)
    ]
    split = measure(rows).split
    assert split is not None
    assert (split.n_choosing, split.n_measuring) == (60, 105)
    assert split.cut.startswith("2025-01-02")


def test_without_times_thresholds_are_chosen_and_measured_on_the_same_sessions() -> None:
    """And the notes say that they look too good."""
    found = measure(attacks("mask", range(1, 101)) + people(range(1, 101)))
    assert found.split is None
    assert labelled.NOT_SPLIT in found.notes
    five = found.operating_points[0]
    assert five.threshold == 96
    assert five.rates is not None
    assert (five.rates.species[0].apcer.value, five.rates.bpcer.value) == (0.05, 0.95)


def test_target_that_no_threshold_reaches_is_none() -> None:
    """One attack in two gets 100: not even that threshold holds it off."""
    found = measure(attacks("mask", [100, 50]) + people([99]))
    assert [(point.threshold, point.rates) for point in found.operating_points] == [(None, None)] * 2
    reachable = measure(attacks("mask", [99.9] * 10) + people([95])).operating_points[0]
    assert reachable.threshold == 100
    assert reachable.rates is not None
    assert reachable.rates.bpcer.value == 1


def test_operating_point_is_that_of_the_worst_species() -> None:
    """A few strong masks among many weak prints: pooled they would be under 5 %."""
    found = measure(attacks("print", range(80)) + attacks("mask", [85, 86, 87]) + people([88, 99]))
    assert found.attack_error == "APCER of the worst species"
    assert found.operating_points[0].threshold == 88


def test_curve_is_the_one_that_scipys_distributions_give() -> None:
    """Scores of two known distributions: both errors at every point are their tails, and they fall and rise."""
    generator = np.random.default_rng(41)
    attack, bona_fide = stats.norm(40, 15), stats.norm(75, 10)
    rows = attacks("mask", attack.rvs(20_000, generator)) + people(bona_fide.rvs(20_000, generator))
    points = measure(rows).det
    assert 100 < len(points) <= 200
    thresholds, attack_error, bona_fide_error = np.array([list(asdict(point).values()) for point in points]).T
    assert np.abs(attack_error - attack.sf(thresholds)).max() < 0.015
    assert np.abs(bona_fide_error - bona_fide.cdf(thresholds)).max() < 0.015
    assert (np.diff(thresholds) > 0).all()
    assert (np.diff(attack_error) <= 0).all()
    assert (np.diff(bona_fide_error) >= 0).all()
    # Both ends of the axes of log odds are drawn, down to errors of one in a thousand.
    assert ((attack_error > 0) & (attack_error < 1e-3)).sum() >= 3
    assert ((bona_fide_error > 0) & (bona_fide_error < 1e-3)).sum() >= 3


def test_small_curve_has_every_point() -> None:
    """Every score that occurs and 100, where 99 crowd together too."""
    found = measure(attacks("mask", [10, 50, 50]) + people([50, 99.99, 100.0]))
    assert [tuple(asdict(point).values()) for point in found.det] == [
        (10.0, 1.0, 0.0),
        (50.0, 2 / 3, 0.0),
        (99.99, 0.0, pytest.approx(1 / 3)),
        (100.0, 0.0, pytest.approx(2 / 3)),
    ]


def test_intervals_hold_the_truth_where_attackers_repeat() -> None:
    """40 attackers of unequal skill with 5 attacks each, 400 times: at least 92 % of the APCER intervals."""
    generator = np.random.default_rng(43)
    skill = stats.beta(1, 4)
    held = 0
    for _ in range(400):
        passes = generator.random((40, 5)) < skill.rvs((40, 1), generator)
        table = pa.table(
            {
                "label": pa.repeat("attack", 200),
                "pai_species": pa.repeat("mask", 200),
                "subject_id": pa.array(np.repeat(np.arange(40), 5)).cast(pa.string()),
                "status": pa.repeat("SUCCEEDED", 200),
                "confidence": np.where(passes, 99.0, 1.0).ravel(),
            }
        )
        interval = measure_detection(table, 90.0).rates.species[0].apcer.interval
        held += interval.low <= skill.mean() <= interval.high
    assert held >= 0.92 * 400


@pytest.mark.parametrize("rows", [[], attacks("mask", [10]), people([99])], ids=["nothing", "attacks", "people"])
def test_one_kind_alone_or_none_has_no_curve(rows: list[dict[str, Any]]) -> None:
    """What was not tried is None with n = 0, not an error."""
    found = measure(rows)
    assert found.det == ()
    assert found.split is None
    assert [point.threshold for point in found.operating_points] == [None, None]
    for rate in (found.rates.bpcer, found.rates.pooled_attack_acceptance):
        assert (rate.value is None) == (rate.n == 0)


def test_everything_becomes_json() -> None:
    """Plain numbers and strings, no NaN and no infinity."""
    found = asdict(measure(timeline()))
    assert json.loads(json.dumps(found, allow_nan=False))["rates"]["worst_species"] == "mask"
