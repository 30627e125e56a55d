"""Landing, fold, publish and forget at once, killed and overtaken between any two calls of the store, against a model.

The store is one of S3's rules, without locks, so that everything may really happen at any point.
"""

import itertools
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from liveness_etl.load import append, forget, publish, rewrite
from liveness_etl.load.tombstones import read_tombstones
from tests.landing_rows import DT, MORNING, landed_ids, row, session_id, sessions
from tests.load.memory_store import Killed, MemoryStore, killed

NUMBERS = st.integers(0, 2)
STATUSES = st.sampled_from(["SUCCEEDED", "EXPIRED", "CREATED", None])
ANSWERS = st.lists(st.tuples(NUMBERS, STATUSES), min_size=1, max_size=3)
CALLS = st.integers(0, 3) | st.integers(4, 11) | st.integers(12, 25)
"""Before which call of an operation something happens; landing makes three, the others up to about twenty."""

OPERATIONS = ["land", "fold", "publish", "forget"]
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
        self.unlooked = False  # a process died that might have landed rows, and did not look for tombstones

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
            [(self.store, "images/")],
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

    @rule(number=NUMBERS)
    def forgotten_alone(self, number: int) -> None:
        self.forget(number)

    @rule(
        first=st.sampled_from(OPERATIONS),
        others=st.lists(st.sampled_from(OPERATIONS), min_size=1, max_size=2),
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

    @rule(name=st.sampled_from(OPERATIONS), answers=ANSWERS, number=NUMBERS, call=CALLS)
    def killed(self, name: str, answers: list[tuple[int, str | None]], number: int, call: int) -> None:
        with self.store.at_call(call, killed), suppress(Killed):
            self.operation(name, answers, number)()
            return
        self.unlooked = True

    @rule()
    def published(self) -> None:
        """Now the tables are exactly the winners of what landed, and whatever a process left behind is erased."""
        self.publish()
        self.unlooked = False
        possible = self.possible_winners()
        shown = {one["session_id"]: one for one in self.shown()}
        certain = {session for session in self.landed if not self.has_tombstone(session)}
        assert certain <= shown.keys() <= possible.keys()
        for session, one in shown.items():
            assert one["fetched_at"] in possible[session]

    @invariant()
    def no_table_forgets_what_it_had(self) -> None:
        """A publish from an older view of landing never wins over a newer one."""
        shown = {one["session_id"]: one for one in self.shown()}
        for session, rows in self.seen.items():
            if not self.has_tombstone(session):
                assert worth(shown[session]) >= max(map(worth, rows))

    @invariant()
    def no_erased_id_comes_back(self) -> None:
        """Nor to landing, but for what was landed by a process that died before it could look, until a publish."""
        assert self.erased.isdisjoint(one["session_id"] for one in self.shown())
        assert self.unlooked or self.erased.isdisjoint(landed_ids(self.store))

    @invariant()
    def nothing_landed_is_lost(self) -> None:
        held = set(landed_ids(self.store))
        assert {session for session in self.landed if not self.has_tombstone(session)} <= held

    def check(self) -> None:
        self.no_table_forgets_what_it_had()
        self.no_erased_id_comes_back()
        self.nothing_landed_is_lost()

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


@pytest.mark.parametrize("other", OPERATIONS)
@pytest.mark.parametrize("first", OPERATIONS)
def test_an_operation_may_be_overtaken_by_another_before_any_of_its_calls(first: str, other: str) -> None:
    """Every call of the one, with the other one run from start to end before it."""
    for call in itertools.count():
        output = Output()
        output.land([(0, "SUCCEEDED"), (1, "EXPIRED")])
        output.publish()
        output.land([(0, "CREATED"), (1, "SUCCEEDED"), (2, None)])
        with output.store.at_call(call, output.operation(other, [(0, "SUCCEEDED"), (2, "EXPIRED")], 0)):
            output.operation(first, [(0, "EXPIRED"), (2, "SUCCEEDED")], 0)()
            was_made = output.store.before_call is None
        output.check()
        output.published()
        output.check()
        if not was_made:
            return


Output.TestCase.settings = settings(max_examples=60, stateful_step_count=15, deadline=None, derandomize=True)
TestOutput = Output.TestCase
