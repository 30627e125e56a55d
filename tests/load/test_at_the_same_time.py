"""Landing, fold, publish and forget at once, killed and overtaken between any two calls of the store, against a model.

The store is one of S3's rules, without locks, so that everything may really happen at any point.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from liveness_etl.load import append, forget, publish, rewrite
from liveness_etl.load.tombstones import read_tombstones
from tests.landing_rows import DT, MORNING, landed_ids, row, session_id, sessions
from tests.load.memory_store import Killed, MemoryStore, killed

NUMBERS = st.integers(0, 4)
STATUSES = st.sampled_from(["SUCCEEDED", "EXPIRED", "CREATED", None])
ANSWERS = st.lists(st.tuples(NUMBERS, STATUSES), min_size=1, max_size=3)
CALLS = st.integers(0, 25)
"""Before which call of an operation something happens; most have about twenty."""

RANKS = {"SUCCEEDED": 5, "EXPIRED": 3, "CREATED": 1, None: 0}
NOW = datetime(2026, 6, 1, tzinfo=UTC)

Row = dict[str, Any]


def worth(one: Row) -> tuple[int, float]:
    """The contract's order of these rows: by rank; the earliest result, else the latest answer."""
    rank = RANKS[one["status"]]
    seconds = (one["fetched_at"] - MORNING).total_seconds()
    return rank, -seconds if rank == 5 else seconds


class Output(RuleBasedStateMachine):
    """One partition. `landed` holds rows that are durable for certain, `perhaps` those of a killed process; what a
    finished publish has seen is in `seen`, and ids whose `forget` ended are `erased`."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.seconds = 0
        self.landed: dict[str, list[Row]] = {}
        self.perhaps: dict[str, list[Row]] = {}
        self.seen: dict[str, list[Row]] = {}
        self.erased: set[str] = set()

    # Operations: each brings the model up to date when it is through

    def land(self, answers: list[tuple[int, str | None]]) -> None:
        rows = []
        for number, status in answers:
            self.seconds += 1
            rows.append(row(number, status, fetched_at=MORNING + timedelta(seconds=self.seconds)))
            if status is None:
                rows[-1]["error_code"] = "ThrottlingException"
        for one in rows:
            self.perhaps.setdefault(one["session_id"], []).append(one)
        append.append_rows(self.store, DT, f"part-{self.seconds:06d}", rows)
        for one in rows:
            self.landed.setdefault(one["session_id"], []).append(one)

    def fold(self) -> None:
        rewrite.fold(self.store, DT)

    def publish(self) -> None:
        before = {session: list(rows) for session, rows in self.landed.items()}
        publish.publish_partition(self.store, DT)
        for session, rows in before.items():
            self.seen.setdefault(session, [])
            self.seen[session] += [one for one in rows if one not in self.seen[session]]

    def forget(self, number: int) -> None:
        session = session_id(number)
        self.seconds += 1
        forget.forget(
            self.store,
            (self.store, "images/"),
            [session],
            lambda dt: publish.publish_partition(self.store, dt),
            now=NOW + timedelta(seconds=self.seconds),
        )
        self.erased.add(session)

    def operation(self, name: str, answers: list[tuple[int, str | None]], number: int) -> Callable[[], None]:
        return {
            "land": lambda: self.land(answers),
            "fold": self.fold,
            "publish": self.publish,
            "forget": lambda: self.forget(number),
        }[name]

    # What may happen

    @rule(answers=ANSWERS)
    def landed_alone(self, answers: list[tuple[int, str | None]]) -> None:
        self.land(answers)

    @rule(
        first=st.sampled_from(["land", "fold", "publish", "forget"]),
        others=st.lists(st.sampled_from(["land", "fold", "publish", "forget"]), min_size=1, max_size=2),
        answers=ANSWERS,
        more=ANSWERS,
        numbers=st.tuples(NUMBERS, NUMBERS),
        call=CALLS,
    )
    def overtaken(
        self,
        first: str,
        others: list[str],
        answers: list[tuple[int, str | None]],
        more: list[tuple[int, str | None]],
        numbers: tuple[int, int],
        call: int,
    ) -> None:
        """The first operation stands still before one of its calls while others run from start to end."""

        def meanwhile() -> None:
            for name in others:
                self.operation(name, more, numbers[1])()

        with self.store.at_call(call, meanwhile):
            self.operation(first, answers, numbers[0])()

    @rule(name=st.sampled_from(["land", "fold", "publish", "forget"]), answers=ANSWERS, number=NUMBERS, call=CALLS)
    def killed(self, name: str, answers: list[tuple[int, str | None]], number: int, call: int) -> None:
        with self.store.at_call(call, killed), suppress(Killed):
            self.operation(name, answers, number)()

    @rule()
    def published(self) -> None:
        """Now the tables are exactly the winners of what landed."""
        self.publish()
        possible = self.possible_winners()
        shown = {one["session_id"]: one for one in self.shown()}
        certain = {session for session in self.landed if not self.has_tombstone(session)}
        assert certain <= shown.keys() <= possible.keys()
        for session, one in shown.items():
            assert one["fetched_at"] in possible[session]

    @precondition(lambda self: self.erased)
    @rule()
    def erased_from_landing_too(self) -> None:
        """After a publish nothing of an erased id is left, be it that a process died before it could look."""
        self.publish()
        assert self.erased.isdisjoint(landed_ids(self.store))

    @invariant()
    def no_table_forgets_what_it_had(self) -> None:
        """A publish from an older view of landing never wins over a newer one."""
        shown = {one["session_id"]: one for one in self.shown()}
        for session, rows in self.seen.items():
            if not self.has_tombstone(session):
                assert worth(shown[session]) >= max(map(worth, rows))

    @invariant()
    def no_erased_id_comes_back(self) -> None:
        assert self.erased.isdisjoint(one["session_id"] for one in self.shown())

    @invariant()
    def nothing_landed_is_lost(self) -> None:
        held = set(landed_ids(self.store))
        assert {session for session in self.landed if not self.has_tombstone(session)} <= held

    # The model

    def shown(self) -> list[Row]:
        """The rows of the table sessions; none before the first publish."""
        return sessions(self.store) if publish.table_path("sessions", DT) in self.store.objects else []

    def has_tombstone(self, session: str) -> bool:
        return bool(read_tombstones(self.store).among([session]))

    def possible_winners(self) -> dict[str, set[datetime]]:
        """When the winning answer of each id came; several are possible where a process died while it landed. An id
        whose `forget` was killed may still be shown: until it is called again."""
        winners = {}
        for session, rows in self.perhaps.items():
            certain = max(map(worth, self.landed.get(session, [])), default=(-9, 0.0))
            better = [one for one in rows if worth(one) >= certain]
            if session not in self.erased:
                winners[session] = {one["fetched_at"] for one in better}
        return winners


Output.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None, derandomize=True)
TestOutput = Output.TestCase
