"""The retry policy, as numbers."""

from itertools import count

import pytest

from liveness_etl.extract.retry import CallFailed, RetryPolicy

FAILED = CallFailed("InternalServerError", "try again")
THROTTLED = CallFailed("ThrottlingException", "Rate exceeded", throttled=True)


def delays(failure: CallFailed, *, failures: int, throttles: int) -> list[float]:
    """Many draws of the same delay."""
    policy = RetryPolicy(attempts=1_000)
    found = [policy.next_delay(failure, failures=failures, throttles=throttles, elapsed=0.0) for _ in range(2_000)]
    return [delay for delay in found if delay is not None]


@pytest.mark.parametrize(
    ("calls", "bound"), [(1, 0.2), (2, 0.4), (3, 0.8), (4, 1.6), (5, 3.2), (6, 5.0), (7, 5.0), (500, 5.0)]
)
@pytest.mark.parametrize("failure", [FAILED, THROTTLED], ids=["failure", "throttle"])
def test_delay_has_full_jitter_below_a_bound_that_doubles_up_to_five_seconds(
    failure: CallFailed, calls: int, bound: float
) -> None:
    """After the n-th call of an id the delay is uniform between 0 and 0.2·2^(n-1) seconds, at most 5."""
    counts = {"failures": 0, "throttles": calls} if failure.throttled else {"failures": calls, "throttles": 0}
    drawn = delays(failure, **counts)
    assert len(drawn) == 2_000
    assert 0 <= min(drawn) < 0.05 * bound
    assert 0.95 * bound < max(drawn) <= bound
    assert sum(drawn) / len(drawn) == pytest.approx(bound / 2, rel=0.1)


def test_throttles_and_failures_of_an_id_grow_its_delay_together() -> None:
    """Three throttles and a failure wait like four calls."""
    drawn = delays(FAILED, failures=1, throttles=3)
    assert 0.95 * 1.6 < max(drawn) <= 1.6


def test_an_id_is_given_up_after_six_failed_calls() -> None:
    """Six calls in all, so five delays."""
    policy = RetryPolicy()
    given_up_after = next(
        calls for calls in count(1) if policy.next_delay(FAILED, failures=calls, throttles=0, elapsed=1.0) is None
    )
    assert given_up_after == 6


def test_throttles_never_use_up_attempts() -> None:
    """However many throttles there were, only failed calls count."""
    policy = RetryPolicy()
    assert policy.next_delay(THROTTLED, failures=0, throttles=10_000, elapsed=59.0) is not None
    assert policy.next_delay(THROTTLED, failures=6, throttles=1, elapsed=59.0) is not None
    assert policy.next_delay(FAILED, failures=5, throttles=10_000, elapsed=59.0) is not None


@pytest.mark.parametrize("failure", [FAILED, THROTTLED], ids=["failure", "throttle"])
def test_an_id_is_given_up_when_its_seconds_are_over(failure: CallFailed) -> None:
    """Sixty seconds after its first call nothing is tried again, throttled or not."""
    policy = RetryPolicy()
    assert policy.next_delay(failure, failures=1, throttles=1, elapsed=59.9) is not None
    assert policy.next_delay(failure, failures=1, throttles=1, elapsed=60.0) is None


@pytest.mark.parametrize("kind", ["denied", "credentials", "final"])
def test_what_asking_again_cannot_change_is_not_asked_again(kind: str) -> None:
    """Denials, refused credentials and unknown sessions are over with the first call."""
    failure = CallFailed("SomeException", "no", **{kind: True})
    assert RetryPolicy().next_delay(failure, failures=1, throttles=0, elapsed=0.0) is None


def test_attempts_and_seconds_can_be_set() -> None:
    """One attempt means no retry; more seconds mean longer patience with throttles."""
    assert RetryPolicy(attempts=1).next_delay(FAILED, failures=1, throttles=0, elapsed=0.0) is None
    patient = RetryPolicy(seconds=600.0)
    assert patient.next_delay(THROTTLED, failures=0, throttles=9, elapsed=599.0) is not None
