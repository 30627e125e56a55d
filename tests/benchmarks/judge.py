"""The judge of the pace: a LocalRekognition in another process, and what it saw of a client, second by second."""

import http.client
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.benchmarks.server import demo_environment, local_rekognition

FROM_SECOND = 6
"""Whole seconds after the one of the first call; at least five have passed then (contract: 'from the sixth')."""


@dataclass(frozen=True)
class Seen:
    """Counts per whole second of the judge's clock, from the second of the first call on.

    `limits`: what it enforced, calls a second. `until`: the second in which the last id was first asked, which is
    not whole any more and does not count.
    """

    accepted: list[int]
    rejected: list[int]
    limits: list[float]
    until: int
    requests: int
    throttled: int
    faults: int

    def share(self, first: int = FROM_SECOND, last: int | None = None) -> float | None:
        """Accepted calls over the limit, from second `first` to before `last` or `until`; None if there is none.

        Accepted calls that met a scripted fault have used up the limit too.
        """
        counted = slice(first, self.until if last is None else min(last, self.until))
        return sum(self.accepted[counted]) / sum(self.limits[counted]) if counted.start < counted.stop else None

    @property
    def rejected_share(self) -> float:
        """Calls that the limit rejected, of all calls of the whole run."""
        return self.throttled / max(1, self.requests)


class Judge:
    """Asks a LocalRekognition with `count_ids` for its counts; `limit_tps` may be changed on the way."""

    def __init__(self, url: str, ids: int, limit_tps: float) -> None:
        self.url, self._ids = url, ids
        self._address = urlsplit(url).netloc
        self._changes = [(0, limit_tps)]
        self._zero = self._start_of_its_clock()
        self._first: int | None = None
        self._until = 0

    def second(self) -> float:
        """Seconds on the judge's clock."""
        return time.monotonic() - self._zero

    def look(self) -> float | None:
        """Take note of how far the client is. Returns the second, counted from that of the first call; None before."""
        second, stats = int(self.second()), self._stats()
        if self._first is None:
            calls = enumerate(zip(stats["accepted_per_second"], stats["rejected_per_second"], strict=True))
            self._first = next((number for number, pair in calls if any(pair)), None)
        if len(stats["asks_by_id"]) < self._ids:
            self._until = second
        return None if self._first is None else second - self._first

    def set_limit(self, limit_tps: float) -> None:
        """Enforce another limit from now on."""
        self._ask("POST", "/_local/config", {"limit_tps": limit_tps})
        self._changes.append((round(self.second()), limit_tps))

    def seen(self) -> Seen:
        """All of it, once the client is through."""
        stats, first = self._stats(), self._first or 0
        accepted, rejected = stats["accepted_per_second"], stats["rejected_per_second"]
        calls = [second for second, pair in enumerate(zip(accepted, rejected, strict=True)) if any(pair)]
        seconds = range(first, (calls[-1] if calls else first) + 1)
        return Seen(
            [accepted[second] for second in seconds],
            [rejected[second] for second in seconds],
            [next(tps for since, tps in reversed(self._changes) if since <= second) for second in seconds],
            self._until - first,
            stats["requests"],
            stats["throttled"],
            stats["faults"],
        )

    def _start_of_its_clock(self) -> float:
        """Its seconds begin when their number changes."""
        before = now = len(self._stats()["accepted_per_second"]) - 1
        while now == before:
            time.sleep(0.002)
            now = len(self._stats()["accepted_per_second"]) - 1
        return time.monotonic() - now

    def _stats(self) -> dict[str, Any]:
        return self._ask("GET", "/_local/stats")

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._address, timeout=30)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            return json.load(connection.getresponse())  # type: ignore[no-any-return]
        finally:
            connection.close()


@contextmanager
def judge(ids: int, limit_tps: float, **config: Any) -> Iterator[Judge]:
    """A fresh server that answers for any id and enforces `limit_tps` with a burst of 0.1 s of it."""
    settings = {"answer_any": True, "count_ids": True, "limit_tps": limit_tps, "burst_seconds": 0.1, **config}
    with local_rekognition(settings) as (url, _):
        yield Judge(url, ids, limit_tps)


def watch(
    commands: list[list[str]], judges: Sequence[Judge], changes: list[tuple[int, float]], within_seconds: float
) -> list[str]:
    """Run the commands at once and look on every second; returns what they printed.

    `changes`: (second since the first call, limit from then on), of the first judge.
    """
    over = time.monotonic() + within_seconds
    with tempfile.TemporaryFile("w+") as errors:
        processes = [
            subprocess.Popen(command, env=demo_environment(), stdout=subprocess.PIPE, stderr=errors, text=True)
            for command in commands
        ]
        try:
            for _ in _seconds_of(judges[0]):
                at, *_ = [each.look() for each in judges]
                if changes and at is not None and at >= changes[0][0]:
                    judges[0].set_limit(changes.pop(0)[1])
                if all(process.poll() is not None for process in processes):
                    break
                if time.monotonic() > over:
                    raise SystemExit(f"not finished within {within_seconds:.0f} s")
        finally:
            for process in processes:
                process.kill()
            outputs = [process.communicate()[0] for process in processes]
        if any(process.returncode not in (0, 3) for process in processes):
            errors.seek(0)
            raise SystemExit(errors.read())
    return outputs


def _seconds_of(judge: Judge) -> Iterator[None]:
    """Comes back at the start of each second of the judge's."""
    while True:
        time.sleep(1 - judge.second() % 1)
        yield
