"""What the stand-in counts."""

from collections import Counter
from typing import Any


class Stats:
    """Counts since the server started; `second` is the whole seconds since then."""

    def __init__(self, count_ids: bool) -> None:
        self._count_ids = count_ids
        self._requests = 0
        self._throttled = 0
        self._faults = 0
        self._outcomes: Counter[str] = Counter()
        self._accepted: list[int] = []
        self._rejected: list[int] = []
        self._answers: list[int] = []
        self._asks_by_id: Counter[str] = Counter()
        self._answers_by_id: Counter[str] = Counter()
        self._connections = 0
        self._in_flight = 0
        self._most_in_flight = 0

    def count_ids(self, wanted: bool) -> None:
        self._count_ids = wanted

    def connected(self) -> int:
        """The number of the new connection."""
        self._connections += 1
        return self._connections

    def accepted(self, second: int) -> None:
        self._requests += 1
        _add(self._accepted, second)

    def rejected(self, second: int) -> None:
        self._requests += 1
        self._throttled += 1
        _add(self._rejected, second)

    def asked(self, session_id: str) -> None:
        if self._count_ids:
            self._asks_by_id[session_id] += 1

    def fault(self) -> None:
        self._faults += 1

    def answered(self, outcome: str, session_id: str, second: int, is_answer: bool) -> None:
        """An honest outcome was sent: a status (`is_answer`) or an error code."""
        self._outcomes[outcome] += 1
        if is_answer:
            _add(self._answers, second)
            if self._count_ids:
                self._answers_by_id[session_id] += 1

    def started(self) -> None:
        self._in_flight += 1
        self._most_in_flight = max(self._most_in_flight, self._in_flight)

    def ended(self) -> None:
        self._in_flight -= 1

    def snapshot(self, second: int, open_connections: int) -> dict[str, Any]:
        """JSON-ready; the lists have an entry for each second from the start to `second`, the current one."""
        for series in (self._accepted, self._rejected, self._answers):
            series.extend([0] * (second + 1 - len(series)))
        return {
            "requests": self._requests,
            "answers": sum(self._answers),
            "throttled": self._throttled,
            "faults": self._faults,
            "by_outcome": dict(self._outcomes),
            "accepted_per_second": list(self._accepted),
            "rejected_per_second": list(self._rejected),
            "answers_per_second": list(self._answers),
            "connections": self._connections,
            "open_connections": open_connections,
            "in_flight": self._in_flight,
            "most_in_flight": self._most_in_flight,
            "asks_by_id": dict(self._asks_by_id),
            "answers_by_id": dict(self._answers_by_id),
        }


def _add(series: list[int], second: int) -> None:
    if second >= len(series):
        series.extend([0] * (second + 1 - len(series)))
    series[second] += 1
