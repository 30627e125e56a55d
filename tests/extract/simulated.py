"""A service with a limit and a client with a governor, on a simulated clock: deterministic, and no time passes."""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from liveness_etl.extract.governor import Governor

Limit = Callable[[float], float]


class Server(Protocol):
    """Decides whether a call that arrives now is accepted."""

    def accepts(self, now: float) -> bool: ...


@dataclass
class TokenBucket:
    """Refills at `limit(now)` a second and holds `burst_seconds` of it, at least one."""

    limit: Limit
    burst_seconds: float = 0.1
    tokens: float = math.inf
    at: float = 0.0

    def accepts(self, now: float) -> bool:
        limit = self.limit(now)
        burst = max(1.0, limit * self.burst_seconds)
        self.tokens = min(burst, self.tokens + (now - self.at) * limit)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass
class FixedWindow:
    """`limit(now)` calls in every full second."""

    limit: Limit
    window: int = -1
    used: int = 0

    def accepts(self, now: float) -> bool:
        if int(now) != self.window:
            self.window, self.used = int(now), 0
        self.used += 1
        return self.used <= self.limit(now)


@dataclass
class SlidingWindow:
    """`limit(now)` calls within any second."""

    limit: Limit
    accepted: deque[float] = field(default_factory=deque)

    def accepts(self, now: float) -> bool:
        while self.accepted and self.accepted[0] <= now - 1:
            self.accepted.popleft()
        if len(self.accepted) >= self.limit(now):
            return False
        self.accepted.append(now)
        return True


@dataclass(frozen=True)
class Outcome:
    """What the server saw: the times of accepted and of rejected calls, and scripted throttles."""

    accepted: list[float]
    rejected: list[float]
    scripted: int
    last_first_call: float

    def share_of(self, limit: Limit, start: float = 6.0, end: float | None = None) -> float:
        """Accepted calls over what the limit would have let through between two times."""
        end = self.last_first_call if end is None else end
        possible = sum(limit(start + step / 100) for step in range(int((end - start) * 100))) / 100
        return sum(start <= at < end for at in self.accepted) / possible

    def rejected_share(self) -> float:
        """Rejected calls over all calls, scripted faults not counted."""
        return len(self.rejected) / (len(self.rejected) + len(self.accepted))

    def rate(self, start: float, end: float) -> float:
        """Accepted calls a second between two times."""
        return sum(start <= at < end for at in self.accepted) / (end - start)


def simulate(
    server: Server,
    *,
    ceiling: float,
    ids: int,
    latency: Callable[[random.Random], float] = lambda _: 0.04,
    fault_share: float = 0.0,
    scripted_throttle_share: float = 0.2,
    late: Callable[[random.Random], float] = lambda _: 0.0,
    seed: int = 1,
) -> Outcome:
    """Ask for `ids` ids. Of them, `fault_share` meet a fault on their first call or two, a fifth of these a
    scripted throttle. `late` is how long after its slot a call starts."""
    chance = random.Random(seed)
    governor = Governor(ceiling)
    waiting: list[tuple[float, int, int, int]] = []  # (due, id, calls so far, faults left)
    answers: list[tuple[float, int, float, bool, int, int, int]] = []
    outcome_accepted: list[float] = []
    rejected: list[float] = []
    scripted = fresh = order = 0
    now = last_first_call = 0.0
    while fresh < ids or waiting or answers:
        slot = max(now, governor.next_slot(now))
        due = waiting[0][0] if waiting else math.inf
        ready = slot if fresh < ids or due <= slot else max(slot, due)
        answered = answers[0][0] if answers else math.inf
        if answered <= ready:
            now, _, started, throttled, one, calls, faults = heapq.heappop(answers)
            governor.answered(now, started=started, throttled=throttled)
            if throttled or faults < 0:
                delay = chance.uniform(0, min(5.0, 0.2 * 2 ** min(calls, 10)))
                heapq.heappush(waiting, (now + delay, one, calls, max(faults, 0)))
            continue
        now = ready + late(chance)
        if waiting and waiting[0][0] <= now:
            _, one, calls, faults = heapq.heappop(waiting)
        else:
            one, calls, fresh, last_first_call = fresh, 0, fresh + 1, now
            faults = chance.choice((1, 2)) if chance.random() < fault_share else 0
        governor.take(now)
        order += 1
        wait = latency(chance)
        arrives = now + min(wait / 2, 0.02)  # the rest is the service's own time
        throttled = not server.accepts(arrives)
        (rejected if throttled else outcome_accepted).append(arrives)
        left = faults
        if not throttled and faults:
            left = faults - 1
            throttled = chance.random() < scripted_throttle_share
            scripted += throttled
            left = left if throttled or left else -1  # another fault: asked again all the same
        heapq.heappush(answers, (now + wait, order, now, throttled, one, calls + 1, left))
    return Outcome(sorted(outcome_accepted), rejected, scripted, last_first_call)
