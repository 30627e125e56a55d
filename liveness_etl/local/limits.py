"""Ways in which a service may enforce its limit; AWS does not say which one is its own.

Each class has `tps`, which may be changed at any time, and `allows(now)`, which takes one request at `now`
(monotonic seconds) and says whether it is within the limit. A rejected request uses nothing up.
"""

from collections import deque
from typing import Protocol

from liveness_etl.local.config import LocalConfig

_ROUNDING = 1e-9  # a client paced at exactly `tps` must not fall to a rounding error


class Limit(Protocol):
    tps: float

    def allows(self, now: float) -> bool: ...


class TokenBucket:
    """Refills at `tps`, holds `max(1, tps * burst_seconds)`, starts full."""

    def __init__(self, tps: float, burst_seconds: float) -> None:
        self.tps = tps
        self._burst_seconds = burst_seconds
        self._tokens = float("inf")
        self._at = 0.0

    def allows(self, now: float) -> bool:
        holds = max(1.0, self.tps * self._burst_seconds)
        self._tokens = min(holds, self._tokens + max(0.0, now - self._at) * self.tps)
        self._at = now
        if self._tokens < 1 - _ROUNDING:
            return False
        self._tokens -= 1
        return True


class FixedWindow:
    """At most `tps` requests (rounded down) in each whole second; below 1, one in each `1 / tps` seconds."""

    def __init__(self, tps: float) -> None:
        self.tps = tps
        self._window = -1
        self._taken = 0

    def allows(self, now: float) -> bool:
        seconds = max(1.0, 1 / self.tps)
        window = int(now / seconds)
        if window != self._window:
            self._window, self._taken = window, 0
        if self._taken + 1 > self.tps * seconds:
            return False
        self._taken += 1
        return True


class SlidingWindow:
    """At most `tps` requests (rounded down) in any second; below 1, one in any `1 / tps` seconds."""

    def __init__(self, tps: float) -> None:
        self.tps = tps
        self._taken: deque[float] = deque()

    def allows(self, now: float) -> bool:
        seconds = max(1.0, 1 / self.tps)
        while self._taken and self._taken[0] <= now - seconds + _ROUNDING:
            self._taken.popleft()
        if len(self._taken) + 1 > self.tps * seconds:
            return False
        self._taken.append(now)
        return True


def make_limit(config: LocalConfig) -> Limit | None:
    """The limit that the configuration asks for, none of it used yet."""
    if config.limit_tps is None:
        return None
    if config.limit_kind == "fixed_window":
        return FixedWindow(config.limit_tps)
    if config.limit_kind == "sliding_window":
        return SlidingWindow(config.limit_tps)
    return TokenBucket(config.limit_tps, config.burst_seconds)


def changed_limit(current: Limit | None, before: LocalConfig, after: LocalConfig) -> Limit | None:
    """The limit after a change of configuration: a new rate goes on with what was used under the old one."""
    same_kind = (before.limit_kind, before.burst_seconds) == (after.limit_kind, after.burst_seconds)
    if current is None or after.limit_tps is None or not same_kind:
        return make_limit(after)
    current.tps = after.limit_tps
    return current
