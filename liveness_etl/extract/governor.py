"""The pace of one source: when the next call may start. Pure arithmetic over times that the caller gives.

Calls are spaced evenly at `rate`, which ramps up to the ceiling within `RAMP_SECONDS`. A throttle event makes it
fall at once to just under what the service accepted; from there it follows a cubic curve as TCP CUBIC's window
does (RFC 9438): soon near the limit that was learned, long just around it, then faster and faster away from it
towards the ceiling. So a limit below the ceiling is probed gently and seldom, and one that was lifted is used
again within seconds.

All times are seconds of one monotonic clock; rates are calls a second.
"""

from collections import deque
from typing import Final

RAMP_SECONDS: Final = 2.5
_RAMP_FROM: Final = 0.5  # of the ceiling: few ids are done at once, and it is no spike
CATCH_UP_SECONDS: Final = 0.05
_IDLE_SECONDS: Final = 1.0

EVENT_SECONDS: Final = 2.0
EVENT_CALLS: Final = 3
EVENT_SHARE: Final = 0.05
"""The contract: slow down when 3 calls and more than 5 % were throttled within 2 s."""

_SAME_EVENT_SECONDS: Final = 1.0  # AWS and others count by the second: what is left of it is the same event
_STRONG_SHARE: Final = 0.25  # of calls since the first throttle: no chance, the limit is lower than thought
_AGAIN_SECONDS: Final = 6.0  # a weak event so soon after another is no chance either
_PROBE_SHARE: Final = 0.03  # of calls throttled while the pace is above the learned limit: the probe has its answer
_FAR_ABOVE: Final = 1.3  # times the learned limit
_STEP_BACK: Final = 0.93  # of what was accepted
_CURVE: Final = 3.6e-4  # per s³, below the learned limit: back near it within 6 s
_FALL_TO: Final = 0.25  # of the rate, at one event
_LIMIT_AT_LEAST: Final = 0.05  # of the ceiling
_PROBE_CURVE: Final = 2e-3  # per s³, above it: a rate that was halved is doubled again within 14 s
_LOWEST_RATE: Final = 0.2

_CHANCE_ANSWERS: Final = 200  # over which throttles that do not depend on the pace are averaged
_CHANCE_MOST: Final = 0.03


class Governor:
    """Paces the calls of one source below `ceiling` calls a second. Not thread-safe: sweep holds a lock."""

    def __init__(self, ceiling: float) -> None:
        self.ceiling = ceiling
        self._started: float | None = None
        self._slot = 0.0
        self._limit = ceiling  # as learned; the ceiling where nothing was
        self._fell_at: float | None = None
        self._depth = 0.0  # of the last fall below the limit, as a share of it
        self._answers: deque[tuple[float, bool]] = deque()  # (time, throttled), of calls since the last fall
        self._throttled = 0
        self._since_first_throttle = 0
        self._chance = 0.0  # share of calls that are throttled whatever the pace

    def rate(self, now: float) -> float:
        """Calls a second that are allowed now."""
        if self._started is None:
            return self.ceiling
        ramp = (now - self._started) / RAMP_SECONDS
        rate = self.ceiling * min(1.0, _RAMP_FROM + (1 - _RAMP_FROM) * ramp)
        if self._fell_at is not None:
            back_seconds = (self._depth / _CURVE) ** (1 / 3)
            seconds = now - self._fell_at - back_seconds
            rate = min(rate, self._limit * (1 + (_CURVE if seconds < 0 else _PROBE_CURVE) * seconds**3))
        return max(_LOWEST_RATE, rate)

    def next_slot(self, now: float) -> float:
        """When the next call may start; not later than `now` if it is due."""
        return now if self._started is None else self._slot

    def take(self, now: float) -> None:
        """A call starts now. Slots that were missed are caught up as far as 50 ms back."""
        if self._started is None:
            self._started = self._slot = now
        if now - self._slot > _IDLE_SECONDS:
            self._slot = now  # nothing was to be asked: no slots were missed
        self._slot = max(self._slot, now - CATCH_UP_SECONDS) + 1.0 / self.rate(now)

    def answered(self, now: float, *, started: float, throttled: bool) -> None:
        """The call that started at `started` was answered, or throttled."""
        if self._fell_at is not None and started <= self._fell_at + _SAME_EVENT_SECONDS:
            return
        self._answers.append((now, throttled))
        while self._answers[0][0] < now - EVENT_SECONDS:
            self._throttled -= self._answers.popleft()[1]
        if throttled and not self._throttled:
            self._since_first_throttle = 0
        self._throttled += throttled
        self._since_first_throttle += 1
        self._chance = min(_CHANCE_MOST, self._chance + (throttled - self._chance) / _CHANCE_ANSWERS)
        if throttled and (self._fell_at is None or now - self._answers[0][0] > _SAME_EVENT_SECONDS):
            by_pace = self._throttled - self._chance * len(self._answers)
            share = _PROBE_SHARE if self.rate(now) > self._limit else EVENT_SHARE
            if by_pace >= EVENT_CALLS and by_pace > share * len(self._answers):
                self._fall(now)

    def _fall(self, now: float) -> None:
        rate = self.rate(now)
        strong = self._throttled > _STRONG_SHARE * self._since_first_throttle
        probing = rate > self._limit
        again = self._fell_at is not None and now - self._fell_at < _AGAIN_SECONDS
        lowest = max(rate * _FALL_TO, self.ceiling * _LIMIT_AT_LEAST)  # a moment's refusal of all is no limit
        if rate > _FAR_ABOVE * self._limit and not strong and not again:
            accepted = rate  # the old limit is gone, and one weak event is no new one
        else:
            accepted = min(rate, max(lowest, self._accepted_rate(now, rate, strong)))
        if strong or probing or again:
            self._limit = max(_LOWEST_RATE, accepted)
        self._depth = max(0.0, 1 - _STEP_BACK * accepted / self._limit)
        self._fell_at = now
        self._answers.clear()
        self._throttled = 0

    def _accepted_rate(self, now: float, rate: float, strong: bool) -> float:
        """What the service accepts, calls a second, had it not been for chance."""
        seconds = max(0.5, now - self._answers[0][0])
        in_window = (len(self._answers) - self._throttled) / (1 - self._chance) / seconds
        if not strong or self._since_first_throttle == self._throttled:  # nothing until the next full second
            return in_window
        # The window reaches back to before the limit was met: only what came since the first throttle tells.
        share = (self._throttled - 1) / (self._since_first_throttle - 1)
        return max(rate * (1 - share), in_window / 2)
