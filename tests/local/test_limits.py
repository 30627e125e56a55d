"""The limit, as plain objects with plain times and over HTTP."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from liveness_etl.local import LocalConfig, LocalRekognition, session_ids
from liveness_etl.local.limits import (
    FixedWindow,
    Limit,
    SlidingWindow,
    TokenBucket,
    changed_limit,
    make_limit,
)
from tests.local.raw import ask

EPOCH = 1000.0


def count_allowed(limit: Limit, tps: float, start: float, seconds: float) -> int:
    """Asks evenly at `tps` and counts what is allowed."""
    return sum(limit.allows(start + number / tps) for number in range(int(tps * seconds)))


LIMITS: list[Callable[[float], Limit]] = [lambda tps: TokenBucket(tps, 0.1), FixedWindow, SlidingWindow]


@pytest.mark.parametrize("make", LIMITS)
def test_a_client_at_the_limit_is_never_rejected(make: Callable[[float], Limit]) -> None:
    """Evenly paced calls pass, whatever way the limit is enforced."""
    assert count_allowed(make(25), 25, EPOCH, 60) == 1500


@pytest.mark.parametrize("make", LIMITS)
def test_a_client_at_twice_the_limit_gets_the_limit(make: Callable[[float], Limit]) -> None:
    """What is rejected uses nothing up."""
    assert count_allowed(make(50), 100, EPOCH, 60) == pytest.approx(3000, abs=60)


@pytest.mark.parametrize("make", LIMITS)
def test_a_limit_below_one_a_second_still_lets_some_through(make: Callable[[float], Limit]) -> None:
    """A small share of a small quota."""
    assert count_allowed(make(0.5), 10, EPOCH, 20) == pytest.approx(10, abs=1)


@pytest.mark.parametrize("make", LIMITS)
def test_a_new_rate_holds_from_the_next_request_on(make: Callable[[float], Limit]) -> None:
    """Another client takes half: what was used before still counts."""
    limit = make(100)
    assert count_allowed(limit, 100, EPOCH, 10) == 1000
    limit.tps = 50
    assert count_allowed(limit, 100, EPOCH + 10, 10) == pytest.approx(500, abs=55)


def test_the_token_bucket_holds_a_tenth_of_a_second_by_default() -> None:
    """A burst after a pause gets that and no more."""
    limit = make_limit(LocalConfig(limit_tps=100))
    assert limit is not None
    assert sum(limit.allows(EPOCH) for _ in range(100)) == 10
    assert sum(limit.allows(EPOCH + 60) for _ in range(100)) == 10
    assert sum(limit.allows(EPOCH + 60.05) for _ in range(100)) == 5


def test_the_fixed_window_lets_two_windows_meet_and_the_sliding_one_does_not() -> None:
    """The known weakness of the one is the reason for the other."""
    around_a_full_second = [EPOCH + 0.99] * 20 + [EPOCH + 1.01] * 20
    fixed, sliding = FixedWindow(20), SlidingWindow(20)
    assert sum(fixed.allows(now) for now in around_a_full_second) == 40
    assert sum(sliding.allows(now) for now in around_a_full_second) == 20


def test_changing_the_rate_does_not_refill_the_window() -> None:
    """A limit that is lowered in the middle of a second is low at once."""
    before = LocalConfig(limit_tps=100, limit_kind="sliding_window")
    after = LocalConfig(limit_tps=50, limit_kind="sliding_window")
    limit = make_limit(before)
    assert limit is not None
    assert sum(limit.allows(EPOCH) for _ in range(60)) == 60
    limit = changed_limit(limit, before, after)
    assert limit is not None
    assert not limit.allows(EPOCH + 0.5)
    assert changed_limit(limit, after, LocalConfig()) is None


@pytest.mark.parametrize("kind", ["token_bucket", "fixed_window", "sliding_window"])
def test_over_the_limit_both_throttling_errors_come_in_turn(kind: str) -> None:
    """The two that AWS may send, both as 400; nothing else of the session is touched."""
    config = LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 1.0}, limit_tps=5, limit_kind=kind)
    with LocalRekognition(config) as rekognition:
        answers = list(ask(rekognition.port, session_ids(1, 101)))
        stats = rekognition.stats()
    rejected = [json.loads(body)["__type"] for status, body in answers if status == 400]
    assert 1 <= len(answers) - len(rejected) <= 11
    assert rejected[:4] == ["ThrottlingException", "ProvisionedThroughputExceededException"] * 2
    kinds = Counter(rejected)
    assert abs(kinds["ThrottlingException"] - kinds["ProvisionedThroughputExceededException"]) <= 1
    assert stats["throttled"] == len(rejected) == sum(stats["rejected_per_second"])
    assert stats["answers"] == len(answers) - len(rejected) == sum(stats["accepted_per_second"])


def test_the_limit_can_be_changed_while_it_runs(connect: Callable[[str], Any]) -> None:
    """Tests play another client that takes a part of the quota."""
    config = LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 1.0}, limit_tps=0.001)
    one, two = session_ids(1, 2)
    with LocalRekognition(config) as rekognition:
        client = connect(rekognition.endpoint_url)
        client.get_face_liveness_session_results(SessionId=one)
        with pytest.raises(client.exceptions.ThrottlingException):
            client.get_face_liveness_session_results(SessionId=two)
        with pytest.raises(client.exceptions.ProvisionedThroughputExceededException):
            client.get_face_liveness_session_results(SessionId=two)
        rekognition.configure(limit_tps=None)
        assert client.get_face_liveness_session_results(SessionId=two)["Status"] == "SUCCEEDED"
