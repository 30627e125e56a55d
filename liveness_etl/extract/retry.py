"""What may be retried, and when. The only layer that retries Rekognition: boto3 makes one attempt.

tenacity's strategies decide over plain numbers; nothing here sleeps. Sweep puts an id that is to be asked
again into a queue of its own, so that no worker waits while another id could be asked.
"""

from dataclasses import dataclass

import tenacity


class CallFailed(Exception):
    """One call that brought no answer: an AWS error code, or ours, and a masked message."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        throttled: bool = False,
        denied: bool = False,
        credentials: bool = False,
        final: bool = False,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message
        self.throttled, self.denied, self.credentials = throttled, denied, credentials
        self.retryable = not (denied or credentials or final)


@dataclass(frozen=True)
class RetryPolicy:
    """Full jitter from 0.2 s up to 5 s between tries; `attempts` failed calls or `seconds` at the most.

    A throttle never uses up attempts: a throttled id is given up only when the seconds are over.
    """

    attempts: int = 6
    seconds: float = 60.0

    def next_delay(self, failure: CallFailed, *, failures: int, throttles: int, elapsed: float) -> float | None:
        """Seconds until the next try, or None to give up.

        `failures` and `throttles` count this id's calls so far by kind, this one included; `elapsed` is the
        time in seconds since its first call.
        """
        if not failure.retryable:
            return None
        state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
        state.start_time, state.outcome_timestamp = 0.0, elapsed
        state.attempt_number = failures
        stop = tenacity.stop_after_delay(self.seconds)
        if (stop if failure.throttled else stop | tenacity.stop_after_attempt(self.attempts))(state):
            return None
        state.attempt_number = failures + throttles
        return tenacity.wait_random_exponential(multiplier=0.2, max=5.0)(state)
