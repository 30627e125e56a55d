"""The ids of several plans as one stream, in the order of fetching; plans may join while it is read."""

import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from liveness_etl.extract.ask import Ask

_ALIVE, _UNKNOWN, _EXPIRED = 0, 1, 2


@dataclass(eq=False)
class _Stream:
    """A plan's ids, of which the first one has been taken out to be compared; `place` is its place among others."""

    asks: Iterator[Ask]
    number: int
    head: Ask
    place: tuple[int, float]


class AskQueue:
    """An iterator for a Sweep: None stands for 'nothing at the moment'. Its end comes with `close`.

    Whatever plan they are from, ids that may be alive come first, soonest to expire first; then those of unknown age;
    then the expired, youngest first. In memory are one id of each plan, and those that expired while they were it.
    """

    def __init__(self, ttl_seconds: float = math.inf, clock: Callable[[], float] = time.time) -> None:
        self._ttl_seconds, self._clock = ttl_seconds, clock
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._streams: list[_Stream] = []
        self._late: list[tuple[tuple[int, float], int, Ask]] = []
        self._closed = False
        self.planned = 0
        """Ids that were added."""
        self.handed = 0
        """Ids that were taken."""

    def add(self, asks: Iterator[Ask], count: int) -> None:
        """Take in a plan's ids, in the order of fetching."""
        with self._lock:
            self.planned += count
            self._advance(asks, next(self._numbers))

    def close(self) -> None:
        """There is nothing more to take, whatever is left."""
        with self._lock:
            self._closed = True
            for stream in self._streams:
                if isinstance(stream.asks, Generator):
                    stream.asks.close()  # and with it the plan's file
            self._streams.clear()

    @property
    def left(self) -> int:
        """Ids that were not taken yet."""
        with self._lock:
            return self.planned - self.handed

    def __iter__(self) -> Iterator[Ask | None]:
        return self

    def __next__(self) -> Ask | None:
        with self._lock:
            if self._closed:
                raise StopIteration
            ask = self._take()
            self.handed += ask is not None
            return ask

    def _take(self) -> Ask | None:
        now = self._clock()
        for stream in self._streams[:]:
            if stream.place[0] == _ALIVE and stream.head.expired(now, self._ttl_seconds):
                self._streams.remove(stream)
                heapq.heappush(self._late, (self._place(stream.head, now), stream.number, stream.head))
                self._advance(stream.asks, stream.number)
        first = min(self._streams, key=lambda stream: (stream.place, stream.number), default=None)
        if self._late and (first is None or self._late[0][0] <= first.place):
            return heapq.heappop(self._late)[2]
        if first is None:
            return None
        self._streams.remove(first)
        self._advance(first.asks, first.number)
        return first.head

    def _advance(self, asks: Iterator[Ask], number: int) -> None:
        head = next(asks, None)
        if head is not None:
            self._streams.append(_Stream(asks, number, head, self._place(head, self._clock())))

    def _place(self, ask: Ask, now: float) -> tuple[int, float]:
        if ask.created_at is None:
            return (_UNKNOWN, 0.0)
        return (_EXPIRED, -ask.created_at) if ask.expired(now, self._ttl_seconds) else (_ALIVE, ask.created_at)
