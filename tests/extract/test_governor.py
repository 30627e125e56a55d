"""The governor against simulated services: deterministic, on a simulated clock."""

import random

import pytest

from liveness_etl.extract.governor import CATCH_UP_SECONDS, Governor
from tests.extract.simulated import FixedWindow, Limit, Server, SlidingWindow, TokenBucket, simulate


def heavy_tail(chance: random.Random) -> float:
    """Mostly 50 ms, and one answer in twenty up to 2 s."""
    return 0.05 if chance.random() < 0.95 else chance.uniform(0.3, 2.0)


def late(chance: random.Random) -> float:
    """A worker that wakes a millisecond late, and sometimes twenty."""
    return chance.expovariate(1000) if chance.random() < 0.97 else chance.uniform(0, 0.02)


def steady(tps: float) -> Limit:
    return lambda now: tps


def halved(tps: float) -> Limit:
    """Another client takes half of the limit between 30 and 60 s."""
    return lambda now: tps / 2 if 30 <= now < 60 else tps


BURSTS = [pytest.param(0.1, id="burst of 100 ms"), pytest.param(1.0, id="burst of 1 s")]
FAULTS = [pytest.param(0.0, id="no faults"), pytest.param(0.09, id="9 % faults")]


@pytest.mark.parametrize("burst", BURSTS)
@pytest.mark.parametrize("faults", FAULTS)
@pytest.mark.parametrize("tps", [25, 50, 250])
def test_ceiling_at_the_limit_is_used_to_98_percent(tps: int, faults: float, burst: float) -> None:
    """Ceiling = limit: at least 98 % of it, at most 1 % rejected."""
    done = simulate(
        TokenBucket(steady(tps), burst), ceiling=tps, ids=tps * 60, latency=heavy_tail, late=late, fault_share=faults
    )
    assert done.share_of(steady(tps)) >= 0.98
    assert done.rejected_share() <= 0.01


@pytest.mark.parametrize("burst", BURSTS)
@pytest.mark.parametrize("faults", FAULTS)
@pytest.mark.parametrize("tps", [25, 50, 250])
def test_ceiling_twice_too_high_is_learned(tps: int, faults: float, burst: float) -> None:
    """Ceiling = twice the limit: at least 92 % of the limit, at most 5 % rejected."""
    done = simulate(
        TokenBucket(steady(tps), burst),
        ceiling=2 * tps,
        ids=tps * 90,
        latency=heavy_tail,
        late=late,
        fault_share=faults,
    )
    assert done.share_of(steady(tps)) >= 0.92
    assert done.rejected_share() <= 0.05


@pytest.mark.parametrize("burst", BURSTS)
@pytest.mark.parametrize("faults", FAULTS)
@pytest.mark.parametrize("tps", [25, 50, 250])
def test_half_of_the_limit_taken_away_and_given_back(tps: int, faults: float, burst: float) -> None:
    """At least 90 % of what is left, at most 5 % rejected, and back at the ceiling within 20 s."""
    limit = halved(tps)
    for seed in range(3):
        server = TokenBucket(limit, burst)
        done = simulate(server, ceiling=tps, ids=tps * 90, latency=heavy_tail, late=late, fault_share=faults, seed=seed)
        assert done.share_of(limit) >= 0.90
        assert done.rejected_share() <= 0.05
        assert max(done.rate(at, at + 2) for at in range(60, 79)) >= 0.95 * tps


@pytest.mark.parametrize(
    ("server", "least", "most_rejected"),
    [
        pytest.param(FixedWindow(steady(50)), 0.98, 0.01, id="fixed window"),
        pytest.param(SlidingWindow(steady(50)), 0.95, 0.03, id="sliding window"),
        pytest.param(TokenBucket(steady(50), 0.0), 0.60, 0.06, id="no burst at all"),
    ],
)
def test_other_kinds_of_limits_do_not_break_the_pace(server: Server, least: float, most_rejected: float) -> None:
    """A service that counts in another way than a token bucket is still used, and not hammered."""
    done = simulate(server, ceiling=50, ids=50 * 60, latency=heavy_tail, late=late, fault_share=0.09)
    assert done.share_of(steady(50)) >= least
    assert done.rejected_share() <= most_rejected


@pytest.mark.parametrize("latency", [0.005, 0.2, 2.0])
def test_pace_does_not_depend_on_the_latency(latency: float) -> None:
    """From 5 ms to 2 s an answer: the same pace."""
    done = simulate(TokenBucket(steady(50)), ceiling=50, ids=3000, latency=lambda _: latency)
    assert done.share_of(steady(50)) >= 0.98


def test_the_pace_ramps_up_within_three_seconds() -> None:
    """It starts well below the ceiling and is there before the fourth second."""
    done = simulate(TokenBucket(steady(1000)), ceiling=100, ids=1000)
    assert done.rate(0, 0.5) < 75
    assert done.rate(3, 6) == pytest.approx(100, rel=0.02)


def test_calls_are_spaced_evenly() -> None:
    """At the ceiling, slots follow each other at the same distance."""
    governor = Governor(50)
    at, gaps = 0.0, []
    for _ in range(500):
        slot = max(at, governor.next_slot(at))
        governor.take(slot)
        gaps.append(slot - at)
        at = slot
    assert max(gaps[300:]) == pytest.approx(min(gaps[300:])) == pytest.approx(0.02)


def test_a_late_worker_catches_up_at_most_50_ms() -> None:
    """After a pause of a second, no more slots are due at once than 50 ms hold."""
    governor = Governor(100)
    at = 0.0
    while at < 5:
        at = max(at, governor.next_slot(at))
        governor.take(at)
    at += 1.0
    due = 0
    while governor.next_slot(at) <= at:
        governor.take(at)
        due += 1
    assert due <= 1 + CATCH_UP_SECONDS * 100


def feed(governor: Governor, start: float, end: float, throttle_every: int | None) -> None:
    """Calls at the governor's pace, answered after 10 ms, every so-many-th throttled."""
    at, count = start, 0
    while at < end:
        at = max(at, governor.next_slot(at))
        governor.take(at)
        count += 1
        throttled = throttle_every is not None and count % throttle_every == 0
        governor.answered(at + 0.01, started=at, throttled=throttled)


def test_an_isolated_throttle_does_not_slow_the_source() -> None:
    """One throttle in a hundred calls leaves the rate where it was."""
    governor = Governor(50)
    feed(governor, 0, 10, 100)
    assert governor.rate(10) == 50


def test_three_throttles_and_more_than_five_percent_slow_the_source_at_once() -> None:
    """The contract's rule."""
    governor = Governor(50)
    feed(governor, 0, 10, None)
    feed(governor, 10, 11, 4)
    assert governor.rate(11) < 47


def test_throttles_of_one_event_count_once() -> None:
    """What was under way when the pace fell does not make it fall again."""
    governor = Governor(50)
    feed(governor, 0, 10, None)
    for call in range(12):
        governor.answered(10.1, started=10.0 - call / 50, throttled=True)
    fallen = governor.rate(10.1)
    assert fallen < 50
    for call in range(40):
        governor.answered(10.2, started=10.0 - call / 50, throttled=True)
    assert governor.rate(10.1) == fallen


def test_a_pause_without_ids_is_not_caught_up() -> None:
    """What comes after it starts with one call, and the next at the usual distance."""
    governor = Governor(25.0)
    for call in range(200):
        governor.take(call / 25)
    governor.take(20.0)
    assert governor.next_slot(20.0) == pytest.approx(20.04)
