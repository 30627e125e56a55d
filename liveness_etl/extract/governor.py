"""The pace of one source: when the next call may start. Pure arithmetic over times that the caller gives.

Calls are spaced evenly at `rate`. While nothing is throttled the rate rises to the ceiling: from a tenth of
it within `RAMP_SECONDS` at the start, later along a cubic curve (as TCP CUBIC does) that is flat near the
last rate that was too high and steep far from it. A throttle event (3 calls and more than 5 % throttled
within 2 s) sets the rate just under what the service accepted in that time. All times are seconds of one
monotonic clock; rates are calls a second.
"""

from collections import deque
from typing import Final

RAMP_SECONDS: Final = 2.5
CATCH_UP_SECONDS: Final = 0.05
EVENT_SECONDS: Final = 2.0
EVENT_CALLS: Final = 3
EVENT_SHARE: Final = 0.05
"""The contract: slow down when 3 calls and more than 5 % of them were throttled within 2 s."""

_BACK_TO: Final = 0.96  # of the accepted rate, after an event
_PLATEAU_SECONDS: Final = 6.0  # until the curve is back at the rate that was too high
_LOWEST_RATE: Final = 0.2


class Governor:
    """Paces the calls of one source below `ceiling` calls a second. Not thread-safe: sweep holds a lock."""

    def __init__(self, ceiling: float) -> None:
        self.ceiling = ceiling
        self._started: float | None = None
        self._slot = 0.0
        self._answers: deque[tuple[float, bool]] = deque()  # (time, throttled) of the last EVENT_SECONDS
        self._throttled = 0
        self._event_at: float | None = None
        self._too_high = ceiling
        self._floor = ceiling

    def rate(self, now: float) -> float:
        """Calls a second that are allowed now."""
        if self._event_at is not None:
            grown = self._grown(now - self._event_at)
            return max(_LOWEST_RATE, min(self.ceiling, grown))
        if self._started is None:
            return self.ceiling
        ramp = (now - self._started) / RAMP_SECONDS
        return self.ceiling * min(1.0, 0.1 + 0.9 * ramp)

    def next_slot(self, now: float) -> float:
        """When the next call may start; not later than `now` if it is due."""
        if self._started is None:
            return now
        return self._slot

    def take(self, now: float) -> None:
        """A call starts now. A slot that was missed is caught up if it is not older than 50 ms."""
        if self._started is None:
            self._started = self._slot = now
        interval = 1.0 / self.rate(now)
        self._slot = max(self._slot, now - CATCH_UP_SECONDS) + interval

    def answered(self, now: float, *, started: float, throttled: bool) -> None:
        """The call that started at `started` was answered, or throttled."""
        if self._event_at is not None and started <= self._event_at:
            return  # it was under way when the source slowed down: the same event
        self._answers.append((now, throttled))
        self._throttled += throttled
        while self._answers[0][0] < now - EVENT_SECONDS:
            self._throttled -= self._answers.popleft()[1]
        if throttled and self._throttled >= EVENT_CALLS and self._throttled > EVENT_SHARE * len(self._answers):
            self._slow_down(now)

    def _slow_down(self, now: float) -> None:
        accepted = len(self._answers) - self._throttled
        seconds = max(0.25, now - self._answers[0][0])
        self._too_high = min(self.rate(now), accepted / seconds)
        self._floor = max(_LOWEST_RATE, self._too_high * _BACK_TO)
        self._event_at = now
        self._answers.clear()
        self._throttled = 0

    def _grown(self, elapsed: float) -> float:
        depth = self._too_high - self._floor
        curve = ((elapsed - _PLATEAU_SECONDS) / _PLATEAU_SECONDS) ** 3
        return self._too_high + depth * curve
