"""Many calls at once → a stream of rows, landed as they come. One Sweep asks one source.

Each worker thread, in turn, waits for the governor's next slot, takes the next id and calls. Ids come lazily
from the plan; an id that is to be asked again waits in a heap, so that neither a slow answer nor a delayed
retry holds up the others. Threads are started only as the pace needs them.
"""

import heapq
import itertools
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Final, Protocol

from liveness_etl.extract.ask import Ask, Origin, Row, is_incomplete
from liveness_etl.extract.breaker import Breaker
from liveness_etl.extract.governor import Governor
from liveness_etl.extract.in_flight import MOST_IN_FLIGHT, InFlight
from liveness_etl.extract.members import count_members
from liveness_etl.extract.pending import Pending
from liveness_etl.extract.rekognition import Fetch
from liveness_etl.extract.retry import CallFailed, RetryPolicy
from liveness_etl.transform.result import KeepImages

log = logging.getLogger(__name__)

_MOST_KEEPING: Final = 64  # answers that wait for their images to be stored: each holds about a MiB
_LOOK_SECONDS: Final = 0.25  # how often one looks for calls that never end
_NOTHING_SECONDS: Final = 0.25  # how often an iterator that has nothing at the moment is asked again

_NO_END: Final = CallFailed("TimeoutError", "the call did not end")


class Landing(Protocol):
    """Somewhere to land: rows given to `land` become durable within seconds."""

    gave_up: bool

    def land(self, dt: date, row: Row) -> None: ...

    def wait_for_room(self, timeout_seconds: float) -> bool: ...


@dataclass
class SweepCounts:
    """What a sweep did: calls, and ids. `finished` ids were handed to landing; `incomplete` ones of them would
    be asked again by a rerun. `unmodelled_members` counts answers by the names of members that botocore dropped.
    `stopped` says in a sentence why the source was stopped, if it was."""

    calls: int = 0
    throttled_calls: int = 0
    retried_calls: int = 0
    finished: int = 0
    incomplete: int = 0
    expired_before_fetch: int = 0
    unmodelled_members: Counter[str] = field(default_factory=Counter)
    stopped: str | None = None


class Sweep:
    """Asks one source for all ids of an iterator: `run` does it, `stop` drains it from another thread. Where the
    iterator gives None, there is nothing at the moment, and it is asked again in a quarter of a second.

    `max_in_flight` None means as many as the pace and the latency need, up to 512.
    """

    def __init__(
        self,
        origin: Origin,
        asks: Iterator[Ask | None],
        fetch: Fetch,
        keep_images: KeepImages,
        landing: Landing,
        governor: Governor,
        *,
        retry: RetryPolicy,
        ttl_seconds: float,
        max_in_flight: int | None = None,
    ) -> None:
        self.counts = SweepCounts()
        self.asks = asks
        """What `run` has not reached is left here."""
        self._origin, self._fetch, self._keep_images = origin, fetch, keep_images
        self._landing, self._governor, self._retry = landing, governor, retry
        self._ttl_seconds = ttl_seconds
        self._breaker = Breaker(origin.source, origin.region)
        self._turn = threading.Lock()  # held by the one worker that waits for the next slot
        self._stopping = threading.Event()
        self._drain_seconds = math.inf
        self._changed = threading.Condition()  # guards the governor and all below (its lock is re-entrant)
        self._again: list[tuple[float, int, Pending]] = []
        self._sequence = itertools.count()
        self._under_way: set[Pending] = set()
        self._waiting = 0
        self._keeping = 0
        self._workers = 0
        self._left_behind = 0
        self._exhausted = False
        self._over = False  # what a call brings from now on comes too late
        self._bug: BaseException | None = None
        self._in_flight = InFlight(max_in_flight)

    def run(self, drain_seconds: float) -> SweepCounts:
        """Ask for every id; returns when all were handed to landing, or `drain_seconds` after a stop.

        Raises what a bug raised in a worker.
        """
        with self._changed:
            self._start_worker()
            while not self._changed.wait_for(lambda: self._stopping.is_set() or self._done(), _LOOK_SECONDS):
                self._leave_behind(time.monotonic())
                if not (self._waiting or self._exhausted) and self._in_flight.may_grow(self._workers):
                    self._start_worker()  # all others are in calls, none of which may come back for long
            self._changed.wait_for(lambda: not self._under_way, min(drain_seconds, self._drain_seconds))
            if self._bug is not None:
                raise self._bug
            for pending in [*(again[2] for again in self._again), *self._under_way]:
                self._land(pending, pending.late_row(self._origin))
            self._over = True
        return self.counts

    def stop(self, drain_seconds: float = math.inf) -> None:
        """Start no further call; what is under way may finish, within `drain_seconds` if that is less than `run`'s."""
        if not self._stopping.is_set():
            self._drain_seconds = drain_seconds
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()

    def rate(self) -> float:
        """Calls a second that the governor allows now."""
        with self._changed:
            return self._governor.rate(time.monotonic())

    # Workers: taking turns for the next slot

    def _start_worker(self) -> None:
        self._workers += 1
        threading.Thread(target=self._work, name=f"{self._origin.source}-{self._workers}", daemon=True).start()

    def _work(self) -> None:
        try:
            used = time.thread_time()
            while (pending := self._next()) is not None:
                try:
                    self._call(pending)
                finally:
                    before, used = used, time.thread_time()
                    with self._changed:
                        self._in_flight.used(used - before)
                        self._under_way.discard(pending)
                        if self._exhausted or self._stopping.is_set():
                            self._changed.notify_all()
                if pending.given_up:
                    return
        except BaseException as error:  # a bug: the run ends, and says so
            with self._changed:
                self._bug = self._bug or error
            self.stop()

    def _leave_behind(self, now: float) -> None:
        """Give up ids whose call lasts longer than an id may take, and replace the workers that wait for them.

        A timeout holds for each read of a socket: headers that come one byte at a time never end.
        """
        for pending in [each for each in self._under_way if each.called and now - each.called > self._retry.seconds]:
            self._land(pending, pending.failure_row(self._origin, _NO_END))
            pending.given_up = True
            self._left_behind += 1
            self._workers -= 1
            self._start_worker()
        if self._left_behind >= MOST_IN_FLIGHT and self.counts.stopped is None:
            self.counts.stopped = (
                f"source {self._origin.source} ({self._origin.region}): {self._left_behind} calls did not end; "
                "check the endpoint and the network, and run again"
            )
            self._stopping.set()

    def _next(self) -> Pending | None:
        """The next id, at the time when it may be asked; None when there is nothing more to do."""
        with self._changed:
            self._waiting += 1
        with self._turn:
            pending = self._wait_for_turn()
        with self._changed:
            self._waiting -= 1
            if pending is not None and not self._waiting and self._in_flight.may_grow(self._workers):
                self._start_worker()
        return pending

    def _wait_for_turn(self) -> Pending | None:
        while not self._stopping.is_set():
            if not self._landing.wait_for_room(0.25):
                if self._landing.gave_up:
                    self.stop()
                continue
            with self._changed:
                if self._keeping >= _MOST_KEEPING:
                    self._changed.wait(0.25)
                    continue
                now = time.monotonic()
                slot = self._governor.next_slot(now)
                if slot <= now:
                    pending = self._due(now)
                    if pending is not None:
                        self._count_call(pending, now)
                        return pending
                    if self._done():
                        self._changed.notify_all()
                        return None
                    self._changed.wait(self._seconds_to_next(now))
                    continue
            self._stopping.wait(slot - now)
        return None

    def _due(self, now: float) -> Pending | None:
        if self._again and self._again[0][0] <= now:
            return heapq.heappop(self._again)[2]
        if not self._exhausted:
            try:
                ask = next(self.asks)
            except StopIteration:
                self._exhausted = True
                return None
            return None if ask is None else Pending(ask, now)
        return None

    def _seconds_to_next(self, now: float) -> float | None:
        """How long to wait where no id is due: None where only a call that ends can bring one."""
        again = self._again[0][0] - now if self._again else None
        if self._exhausted:
            return again
        return _NOTHING_SECONDS if again is None else min(again, _NOTHING_SECONDS)

    def _count_call(self, pending: Pending, now: float) -> None:
        self._governor.take(now)
        self._under_way.add(pending)
        pending.called = now
        self.counts.calls += 1
        if pending.calls:
            self.counts.retried_calls += 1
        elif pending.ask.expired(time.time(), self._ttl_seconds):
            self.counts.expired_before_fetch += 1

    def _done(self) -> bool:
        return self._exhausted and not self._again and not self._under_way

    # One call

    def _call(self, pending: Pending) -> None:
        started = time.monotonic()
        try:
            answer = self._fetch(pending.ask.session_id)
        except CallFailed as failure:
            self._failed(pending, failure, started)
            return
        fetched_at = time.time()
        with self._changed:
            pending.called = None
            self._governor.answered(time.monotonic(), started=started, throttled=False)
            self._breaker.answered()
            count_members(self.counts.unmodelled_members, answer.unmodelled)
            pending.answered = answer.result, fetched_at
            self._keeping += 1
        try:
            result, all_kept = self._keep_images(answer, pending.ask.dt)
        finally:
            with self._changed:
                self._keeping -= 1
                if self._keeping == _MOST_KEEPING - 1:
                    self._changed.notify_all()
        self._land(pending, pending.answer_row(self._origin, result, fetched_at, all_kept=all_kept))

    def _failed(self, pending: Pending, failure: CallFailed, started: float) -> None:
        now = time.monotonic()
        with self._changed:
            pending.called = None
            if pending.given_up:
                return
        pending.last_failure = failure
        pending.throttles += failure.throttled
        pending.failures += not failure.throttled
        delay = self._retry.next_delay(
            failure,
            failures=pending.failures,
            throttles=pending.throttles,
            elapsed=now - pending.first_called,
        )
        alive = pending.ask.created_at is not None and not pending.ask.expired(time.time(), self._ttl_seconds)
        with self._changed:
            self._governor.answered(now, started=started, throttled=failure.throttled)
            self.counts.throttled_calls += failure.throttled
            reason = self._breaker.failed(failure, alive=alive)
            if reason is not None and self.counts.stopped is None:
                self.counts.stopped = reason
            if delay is not None:
                heapq.heappush(self._again, (now + delay, next(self._sequence), pending))
                self._changed.notify_all()
        source = {"source": self._origin.source}
        log.debug("%s: %s on call %d", pending.ask.session_id, failure, pending.calls, extra=source)
        if reason is not None:
            self.stop()
        if delay is None:
            self._land(pending, pending.failure_row(self._origin, failure))

    def _land(self, pending: Pending, row: Row) -> None:
        with self._changed:  # also over `land`: who sees nothing under way may count on every row
            if not self._over and not pending.given_up:
                self._under_way.discard(pending)
                self._landing.land(pending.ask.dt, row)
                self.counts.finished += 1
                self.counts.incomplete += is_incomplete(pending.ask, row, self._ttl_seconds)
