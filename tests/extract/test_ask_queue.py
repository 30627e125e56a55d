"""One stream out of several plans: who is first, and what happens while ids wait."""

from collections.abc import Iterable

from liveness_etl.extract.ask import Ask
from liveness_etl.extract.ask_queue import AskQueue
from tests.running import DT

NOW, TTL = 1_000_000.0, 180.0


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def asks(*ages: float | None, name: str = "") -> list[Ask]:
    """Asks of these ages, named by them."""
    return [Ask(f"{name}{age}", DT, None if age is None else NOW - age) for age in ages]


def queue_of(*plans: Iterable[Ask], clock: Clock | None = None) -> AskQueue:
    queue = AskQueue(TTL, clock or Clock())
    for plan in plans:
        asked = list(plan)
        queue.add(iter(asked), len(asked))
    return queue


def taken(queue: AskQueue, count: int = 1_000) -> list[str]:
    """The names of the next ids, up to the first time that there is nothing."""
    found = []
    while len(found) < count and (ask := next(queue)) is not None:
        found.append(ask.session_id)
    return found


def test_ids_of_all_plans_come_in_the_contracts_order() -> None:
    """Alive: soonest to expire first; of unknown age; expired: youngest first."""
    queue = queue_of(asks(170, 20, None, 200, 900), asks(90, 300), asks(None, 250))
    assert taken(queue) == ["170", "90", "20", "None", "None", "200", "250", "300", "900"]


def test_a_plan_that_joins_late_goes_before_the_expired_ids_of_all_others() -> None:
    """That is what the queue is for."""
    queue = queue_of(asks(*range(1_000, 51_000)))
    assert taken(queue, 2) == ["1000", "1001"]
    new = asks(30, 10)
    queue.add(iter(new), 2)
    assert taken(queue, 3) == ["30", "10", "1002"]


def test_an_id_that_expires_while_it_is_first_of_its_plan_is_put_behind_living_ones() -> None:
    """It does not hold up those behind it, either."""
    clock = Clock()
    queue = queue_of(asks(170, 5), asks(160, 6, 500), clock=clock)
    clock.now += 30
    assert taken(queue) == ["6", "5", "160", "170", "500"]


def test_none_stands_for_nothing_yet_and_only_close_ends_it() -> None:
    """A Sweep waits at None, and is through at the end."""
    queue = queue_of()
    assert next(queue) is None
    queue.add(iter(asks(1)), 1)
    assert (taken(queue), queue.planned, queue.left) == (["1"], 1, 0)
    queue.add(iter(asks(2)), 1)
    queue.close()
    assert (list(queue), queue.left) == ([], 1)


def test_closing_closes_the_plans_that_were_not_read_to_their_end() -> None:
    """Their files are open."""
    closed = []

    def plan() -> Iterable[Ask]:
        try:
            yield from asks(1, 2, 3)
        finally:
            closed.append(True)

    queue = AskQueue(TTL, Clock())
    queue.add(iter(plan()), 3)
    queue.close()
    assert closed
