"""When a source is stopped, from its first calls."""

import pytest

from liveness_etl.extract.breaker import Breaker
from liveness_etl.extract.retry import CallFailed

DENIED = CallFailed("AccessDeniedException", "no", denied=True)
THROTTLED = CallFailed("ThrottlingException", "Rate exceeded", throttled=True)
UNKNOWN = CallFailed("SessionNotFoundException", "Session not found", final=True)
INVALID = CallFailed("InvalidParameterException", "Request has invalid parameters", final=True)
UNREACHABLE = CallFailed("ConnectionError", "EndpointConnectionError")
TIMED_OUT = CallFailed("TimeoutError", "no answer in time")
BROKEN = CallFailed("InternalServerError", "try again")
NO_CREDENTIALS = CallFailed("ExpiredTokenException", "expired", credentials=True)


@pytest.fixture
def breaker() -> Breaker:
    return Breaker("eu", "eu-west-1")


def fail(breaker: Breaker, failure: CallFailed, times: int, *, alive: bool = False) -> list[str]:
    """The reasons given, one after the other."""
    reasons = [breaker.failed(failure, alive=alive) for _ in range(times)]
    return [reason for reason in reasons if reason is not None]


def test_refused_credentials_stop_a_source_at_once(breaker: Breaker) -> None:
    """One call is enough, and the sentence names source, region and code."""
    (reason,) = fail(breaker, NO_CREDENTIALS, 1)
    assert "eu (eu-west-1)" in reason
    assert "ExpiredTokenException" in reason


def test_credentials_that_expire_mid_run_stop_a_source_that_worked(breaker: Breaker) -> None:
    """Answers before do not help: all further calls would fail."""
    breaker.answered()
    assert fail(breaker, NO_CREDENTIALS, 1)


@pytest.mark.parametrize(
    ("failures", "word"),
    [
        ([DENIED], "rekognition:GetFaceLivenessSessionResults"),
        ([UNREACHABLE, TIMED_OUT], "endpoint"),
        ([UNKNOWN, INVALID], "region and account"),
    ],
    ids=["denied", "unreachable", "unknown"],
)
def test_twenty_first_calls_that_all_fail_alike_stop_a_source(
    breaker: Breaker, failures: list[CallFailed], word: str
) -> None:
    """Not nineteen; and the reason is given once and says what to look at."""
    calls = [failures[number % len(failures)] for number in range(30)]
    given = [breaker.failed(failure, alive=True) for failure in calls]
    assert [number for number, reason in enumerate(given, 1) if reason] == [20]
    assert word in (given[19] or "")


@pytest.mark.parametrize("failure", [DENIED, UNREACHABLE, UNKNOWN], ids=lambda failure: failure.code)
def test_one_answer_proves_a_source(breaker: Breaker, failure: CallFailed) -> None:
    """After it, failures belong to their ids alone."""
    assert not fail(breaker, failure, 19, alive=True)
    breaker.answered()
    assert not fail(breaker, failure, 50, alive=True)


@pytest.mark.parametrize("failure", [DENIED, UNREACHABLE], ids=lambda failure: failure.code)
def test_an_error_of_the_service_itself_proves_that_it_can_be_reached(breaker: Breaker, failure: CallFailed) -> None:
    """An InternalServerError comes from a service that let the call in."""
    fail(breaker, BROKEN, 1)
    assert not fail(breaker, failure, 50)


def test_throttles_say_nothing_about_a_source(breaker: Breaker) -> None:
    """They neither count as refusals nor prove anything."""
    assert not fail(breaker, THROTTLED, 100)
    assert fail(breaker, DENIED, 20)


def test_unknown_sessions_that_may_have_expired_do_not_stop_a_source(breaker: Breaker) -> None:
    """A night's manifest of expired sessions is no wrong region."""
    assert not fail(breaker, UNKNOWN, 500, alive=False)


def test_one_live_session_among_the_first_twenty_unknown_ones_is_enough(breaker: Breaker) -> None:
    """A live session that the service does not know belongs elsewhere."""
    assert not fail(breaker, UNKNOWN, 10, alive=False)
    assert not fail(breaker, UNKNOWN, 1, alive=True)
    assert fail(breaker, UNKNOWN, 9, alive=False)


def test_a_live_session_later_than_the_first_twenty_does_not_stop_a_source(breaker: Breaker) -> None:
    """The rule looks at the first twenty answers alone."""
    assert not fail(breaker, UNKNOWN, 20, alive=False)
    assert not fail(breaker, UNKNOWN, 5, alive=True)


def test_the_reason_holds_no_message_of_the_service(breaker: Breaker) -> None:
    """Codes only: a message may name accounts."""
    secret = CallFailed("AccessDeniedException", "User 123456789012 is not authorized", denied=True)
    (reason,) = fail(breaker, secret, 20)
    assert "123456789012" not in reason
