"""Many calls at once, against a real server: who waits for whom, what is landed, and how it stops."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from liveness_etl.errors import UsageError
from liveness_etl.extract.account import open_session
from liveness_etl.extract.ask import Ask, Origin, Row
from liveness_etl.extract.ask_queue import AskQueue
from liveness_etl.extract.governor import Governor
from liveness_etl.extract.rekognition import fetch_with, rekognition_client
from liveness_etl.extract.retry import RetryPolicy
from liveness_etl.extract.sweep import Sweep
from liveness_etl.load.images import discard_images
from liveness_etl.local import LocalRekognition
from liveness_etl.transform.result import Answer, SessionResult
from tests.running import DT, SUCCEEDING, asks, ids, wait_until

ORIGIN = Origin("eu", "us-east-1", "run-1")
TTL = 180.0
QUICK = RetryPolicy(attempts=2, seconds=30.0)


class LandedRows:
    """Somewhere to land: a list, with room while `room` is set."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.at: dict[object, float] = {}
        self.room = threading.Event()
        self.room.set()
        self.gave_up = False

    def land(self, dt: date, row: Row) -> None:
        self.at[row["session_id"]] = time.monotonic()
        self.rows.append(row)

    def wait_for_room(self, timeout_seconds: float) -> bool:
        return self.room.wait(timeout_seconds)

    def count(self) -> Counter[object]:
        return Counter(row["session_id"] for row in self.rows)

    def row_of(self, session_id: str) -> Row:
        (row,) = [row for row in self.rows if row["session_id"] == session_id]
        return row


def connect(rekognition: LocalRekognition) -> Any:
    session = open_session(region="us-east-1", profile=None)
    return rekognition_client(session, endpoint_url=rekognition.endpoint_url, connections=64, timeout_seconds=2.0)


@pytest.fixture(scope="module")
def running() -> Iterator[LocalRekognition]:
    with LocalRekognition(SUCCEEDING) as rekognition:
        yield rekognition


@pytest.fixture(scope="module")
def client(running: LocalRekognition) -> Iterator[Any]:
    client = connect(running)
    yield client
    client.close()


@pytest.fixture
def rekognition(running: LocalRekognition) -> Iterator[LocalRekognition]:
    yield running
    running.configure(faults={}, fault_share=0.0, latency_seconds=0.0, limit_tps=None)


@pytest.fixture
def landed() -> LandedRows:
    return LandedRows()


@pytest.fixture
def make_sweep(client: Any, landed: LandedRows) -> Callable[..., Sweep]:
    def make(asked: Iterable[Ask], *, tps: float = 2_000, retry: RetryPolicy = QUICK, **options: Any) -> Sweep:
        return Sweep(
            ORIGIN,
            iter(asked),
            options.pop("fetch", fetch_with(client)),
            options.pop("keep_images", discard_images),
            landed,
            Governor(tps),
            retry=retry,
            ttl_seconds=TTL,
            **options,
        )

    return make


series = iter(range(100, 1_000))


def some(count: int, created_at: float | None = None) -> list[Ask]:
    """Asks for ids that no other test has asked for."""
    return [Ask(session_id, DT, created_at) for session_id in ids(count, seed=next(series))]


def start(sweep: Sweep, drain_seconds: float = 5.0) -> threading.Thread:
    """Run the sweep in a thread, as one source of several."""
    thread = threading.Thread(target=sweep.run, args=(drain_seconds,))
    thread.start()
    return thread


# Every id


def test_each_id_is_landed_exactly_once_while_three_in_ten_meet_faults(
    rekognition: LocalRekognition, landed: LandedRows, make_sweep: Callable[..., Sweep]
) -> None:
    """Faults of every kind that passes: each id ends as an answer, and no row comes twice."""
    asked = some(600)
    kinds = ("500", "throttle", "provisioned", "reset", "cut", "garbage", "binary", "empty", "html503")
    rekognition.configure(fault_share=0.3, fault_kinds=kinds)
    counts = make_sweep(asked, retry=RetryPolicy()).run(5.0)
    assert landed.count() == Counter(ask.session_id for ask in asked)
    assert {row["status"] for row in landed.rows} == {"SUCCEEDED"}
    assert (counts.finished, counts.incomplete, counts.stopped) == (600, 0, None)
    requests = [asks(rekognition)[ask.session_id] for ask in asked]
    assert counts.calls == sum(requests)
    assert counts.retried_calls == sum(requests) - 600 > 100
    assert [landed.row_of(ask.session_id)["attempts"] for ask in asked] == requests


def test_no_ids_are_no_calls(landed: LandedRows, make_sweep: Callable[..., Sweep]) -> None:
    """An empty plan ends at once."""
    counts = make_sweep([]).run(5.0)
    assert (counts.calls, counts.finished, landed.rows) == (0, 0, [])


def test_rows_say_who_was_asked_by_which_run_and_when(landed: LandedRows, make_sweep: Callable[..., Sweep]) -> None:
    """Source, region, run and attributes of the ask; fetched_at is the time of the answer."""
    (one,) = some(1, created_at=time.time() - 10)
    before = time.time()
    make_sweep([Ask(one.session_id, DT, one.created_at, (("user", "u1"),))]).run(5.0)
    (row,) = landed.rows
    assert (row["source"], row["region"], row["run_id"]) == ("eu", "us-east-1", "run-1")
    assert row["attributes"] == (("user", "u1"),)
    assert before <= row["fetched_at"].timestamp() <= time.time()  # type: ignore[attr-defined]


# Nobody waits for another


def test_a_slow_answer_never_holds_up_the_others(
    rekognition: LocalRekognition, landed: LandedRows, make_sweep: Callable[..., Sweep]
) -> None:
    """One id answers after two seconds; all others were landed before."""
    asked = some(100)
    slow = asked[0].session_id
    rekognition.configure(faults={slow: "stall"}, stall_seconds=1.9)
    make_sweep(asked).run(5.0)
    assert max(at for session_id, at in landed.at.items() if session_id != slow) < landed.at[slow]


def test_slow_answers_in_all_workers_never_hold_up_the_others(
    rekognition: LocalRekognition, landed: LandedRows, make_sweep: Callable[..., Sweep]
) -> None:
    """More slow ones than there are workers at first: new workers come while none of the old ones comes back."""
    asked = some(60)
    slow = {ask.session_id for ask in asked[:12]}
    rekognition.configure(faults=dict.fromkeys(slow, "stall"), stall_seconds=1.9)
    make_sweep(asked).run(5.0)
    others = max(at for session_id, at in landed.at.items() if session_id not in slow)
    assert others < min(landed.at[session_id] for session_id in slow)


def test_a_throttled_id_is_asked_again_until_it_answers(
    rekognition: LocalRekognition, landed: LandedRows, make_sweep: Callable[..., Sweep]
) -> None:
    """Throttles do not use up its attempts, and do not delay the others."""
    asked = some(60)
    throttled = asked[0].session_id
    rekognition.configure(faults={throttled: ["throttle", "provisioned"] * 2 + [None]})
    counts = make_sweep(asked, retry=RetryPolicy(attempts=1)).run(5.0)
    row = landed.row_of(throttled)
    assert (row["status"], row["attempts"]) == ("SUCCEEDED", 5)
    assert (counts.throttled_calls, counts.retried_calls, counts.calls) == (4, 4, 64)
    assert landed.at[throttled] == max(landed.at.values())


def test_a_throttled_id_is_given_up_when_its_seconds_are_over(
    rekognition: LocalRekognition, landed: LandedRows, make_sweep: Callable[..., Sweep]
) -> None:
    """Its row is the throttle, to be asked by the next run."""
    asked = some(30)
    throttled = asked[0].session_id
    rekognition.configure(faults={throttled: "throttle"})
    counts = make_sweep(asked, retry=RetryPolicy(seconds=0.5)).run(5.0)
    row = landed.row_of(throttled)
    assert (row["status"], row["error_code"]) == (None, "ThrottlingException")
    assert row["attempts"] == asks(rekognition)[throttled]
    assert counts.incomplete == 1


def test_an_id_that_fails_six_times_gets_its_row_while_the_others_go_on(
    rekognition: LocalRekognition, landed: LandedRows, make_sweep: Callable[..., Sweep]
) -> None:
    """Six calls in all, with the last error as its row."""
    asked = some(60)
    failing = asked[0].session_id
    rekognition.configure(faults={failing: ["garbage", "500", "reset", "html503", "empty", "500", None]})
    counts = make_sweep(asked, retry=RetryPolicy()).run(5.0)
    row = landed.row_of(failing)
    assert (row["status"], row["error_code"], row["attempts"]) == (None, "InternalServerError", 6)
    assert row["error_message"]
    assert asks(rekognition)[failing] == 6
    assert landed.at[failing] == max(landed.at.values())
    assert (counts.finished, counts.incomplete) == (60, 1)


@pytest.mark.parametrize(
    ("fault", "code", "incomplete"),
    [
        ("not_found", "SessionNotFoundException", 0),
        ("invalid", "InvalidParameterException", 0),
        ("denied", "AccessDeniedException", 1),
    ],
)
def test_what_asking_again_cannot_change_is_asked_once(
    rekognition: LocalRekognition,
    landed: LandedRows,
    make_sweep: Callable[..., Sweep],
    fault: str,
    code: str,
    incomplete: int,
) -> None:
    """One call, one row."""
    asked = some(5)
    refused = asked[2].session_id
    rekognition.configure(faults={refused: fault})
    counts = make_sweep(asked).run(5.0)
    row = landed.row_of(refused)
    assert (row["error_code"], row["attempts"]) == (code, 1)
    assert (counts.calls, counts.incomplete) == (5, incomplete)


def test_an_id_first_asked_after_its_ttl_counts_as_expired_before_the_fetch(
    rekognition: LocalRekognition, make_sweep: Callable[..., Sweep]
) -> None:
    """Once an id, however often it is asked; unknown age does not count."""
    old, young, unknown = some(3, time.time() - TTL - 5), some(4, time.time() - 5), some(5)
    rekognition.configure(faults={old[0].session_id: ["500", None]})
    counts = make_sweep([*old, *young, *unknown]).run(5.0)
    assert counts.expired_before_fetch == 3


# Bounded memory and concurrency


def test_in_flight_never_exceeds_its_maximum(rekognition: LocalRekognition, make_sweep: Callable[..., Sweep]) -> None:
    """The server never sees more than max_in_flight at once, and does see that many."""
    with LocalRekognition(SUCCEEDING) as fresh:
        fresh.configure(latency_seconds=0.05)
        client = connect(fresh)
        make_sweep(some(150), fetch=fetch_with(client), max_in_flight=7).run(5.0)
        client.close()
        assert fresh.stats()["most_in_flight"] == 7


def test_the_plan_is_read_no_further_than_the_calls_have_come(
    rekognition: LocalRekognition, landed: LandedRows, make_sweep: Callable[..., Sweep]
) -> None:
    """Ids stream through: those taken are in flight, waiting for another try, or landed."""
    rekognition.configure(latency_seconds=0.02)
    ahead = []

    def counted() -> Iterator[Ask]:
        for taken, ask in enumerate(some(400), 1):
            ahead.append(taken - len(landed.rows))
            yield ask

    make_sweep(counted(), max_in_flight=8).run(5.0)
    assert len(ahead) == 400
    assert max(ahead) <= 8 + 1


# Stopping


def test_stop_finishes_what_is_in_flight_and_leaves_the_rest(
    rekognition: LocalRekognition, landed: LandedRows, make_sweep: Callable[..., Sweep]
) -> None:
    """After stop no call starts; every id was either landed or is left in `asks`, in order."""
    asked = some(500)
    rekognition.configure(latency_seconds=0.1)
    sweep = make_sweep(asked, tps=400)
    thread = start(sweep)
    wait_until(lambda: len(landed.rows) >= 20)
    sweep.stop()
    calls = sweep.counts.calls
    thread.join(5.0)
    assert not thread.is_alive()
    assert sweep.counts.calls - calls <= 1  # one may have been starting
    left = [ask.session_id for ask in sweep.asks]
    assert left == [ask.session_id for ask in asked[-len(left) :]]
    assert landed.count() == Counter(ask.session_id for ask in asked[: -len(left)])
    assert {row["status"] for row in landed.rows} == {"SUCCEEDED"}


def test_stop_lands_what_waits_for_another_try_with_its_last_error(
    rekognition: LocalRekognition, landed: LandedRows, make_sweep: Callable[..., Sweep]
) -> None:
    """What was asked is accounted for, and the next run asks again."""
    asked = some(8)
    rekognition.configure(faults={"*": "html503"})
    sweep = make_sweep(asked, retry=RetryPolicy(attempts=100))
    thread = start(sweep)
    wait_until(lambda: sweep.counts.retried_calls >= 12)
    sweep.stop()
    thread.join(5.0)
    assert landed.count() == Counter(ask.session_id for ask in asked)
    assert {row["error_code"] for row in landed.rows} == {"Http503"}
    assert sweep.counts.incomplete == 8


@pytest.mark.alone
def test_a_stalled_server_cannot_hold_up_the_end_beyond_the_drain(
    rekognition: LocalRekognition, landed: LandedRows, make_sweep: Callable[..., Sweep]
) -> None:
    """The stalled ids get a row that says so, once, and what comes later for them comes too late."""
    asked = some(20)
    stalled = {ask.session_id for ask in asked[:3]}
    rekognition.configure(faults=dict.fromkeys(stalled, "stall"), stall_seconds=1.5)
    sweep = make_sweep(asked)
    thread = start(sweep, drain_seconds=0.3)
    wait_until(lambda: len(landed.rows) == 17)
    sweep.stop()
    stopped_at = time.monotonic()
    thread.join(5.0)
    assert time.monotonic() - stopped_at < 0.6
    assert {row["session_id"] for row in landed.rows if row["error_code"] == "TimeoutError"} == stalled
    time.sleep(1.5)
    assert set(landed.count().values()) == {1}


def test_a_source_that_denies_everything_is_stopped(
    rekognition: LocalRekognition, landed: LandedRows, make_sweep: Callable[..., Sweep]
) -> None:
    """After its first calls, with a reason; what was not asked is left."""
    asked = some(300)
    rekognition.configure(faults={"*": "denied"})
    sweep = make_sweep(asked, tps=200)
    counts = sweep.run(5.0)
    assert "denied" in (counts.stopped or "")
    assert 20 <= counts.calls < 60
    assert len(landed.rows) + len(list(sweep.asks)) == 300


def test_landing_that_gives_up_stops_the_sweep(
    rekognition: LocalRekognition, landed: LandedRows, make_sweep: Callable[..., Sweep]
) -> None:
    """Nothing is asked whose answer nobody would keep."""
    asked = some(400)
    rekognition.configure(latency_seconds=0.02)
    sweep = make_sweep(asked, tps=200)
    thread = start(sweep)
    wait_until(lambda: len(landed.rows) >= 20)
    landed.gave_up = True
    landed.room.clear()
    thread.join(5.0)
    assert not thread.is_alive()
    assert len(landed.rows) + len(list(sweep.asks)) == 400


def test_no_call_starts_while_there_is_no_room_to_land(landed: LandedRows, make_sweep: Callable[..., Sweep]) -> None:
    """The sweep waits, and goes on as soon as there is room again."""
    landed.room.clear()
    sweep = make_sweep(some(10))
    thread = start(sweep)
    time.sleep(0.3)
    assert sweep.counts.calls == 0
    landed.room.set()
    thread.join(5.0)
    assert len(landed.rows) == 10


def test_a_bug_ends_the_sweep_and_surfaces(make_sweep: Callable[..., Sweep]) -> None:
    """What no CallFailed stands for is raised by run, not swallowed by a thread."""

    def keep_images(answer: Answer, dt: date) -> tuple[SessionResult, bool]:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        make_sweep(some(50), keep_images=keep_images).run(0.5)


def test_a_bug_in_the_plan_surfaces_too(make_sweep: Callable[..., Sweep]) -> None:
    """The iterator of ids may fail while it is read."""

    def asked() -> Iterator[Ask]:
        yield from some(5)
        raise UsageError("the plan is gone")

    with pytest.raises(UsageError, match="the plan is gone"):
        make_sweep(asked()).run(0.5)


def test_images_are_kept_before_the_row_is_landed(
    landed: LandedRows, make_sweep: Callable[..., Sweep], tmp_path: Path
) -> None:
    """A row that stands in landing never refers to an image that is still to be stored."""
    kept: list[str] = []

    def keep_images(answer: Answer, dt: date) -> tuple[SessionResult, bool]:
        assert answer.result.session_id not in landed.count()
        kept.append(answer.result.session_id)
        return answer.result, len(kept) % 2 == 0

    counts = make_sweep(some(10), keep_images=keep_images).run(5.0)
    assert Counter(kept) == landed.count()
    assert [row["error_code"] for row in landed.rows].count("ImageNotStored") == counts.incomplete == 5


# Ids that are still to come


def test_ids_that_come_while_the_sweep_waits_are_asked(landed: LandedRows, make_sweep: Callable[..., Sweep]) -> None:
    """None is 'nothing at the moment', and the iterator's end is the end."""
    queue = AskQueue()
    sweep = make_sweep(queue)
    thread = start(sweep)
    for _ in range(2):
        asked = some(5)
        queue.add(iter(asked), 5)
        wait_until(lambda asked=asked: all(ask.session_id in landed.count() for ask in asked))
    assert thread.is_alive()
    queue.close()
    thread.join()
    assert sweep.counts.finished == 10


def test_a_stop_may_leave_less_time_to_calls_than_the_sweep_itself(
    rekognition: LocalRekognition, landed: LandedRows, make_sweep: Callable[..., Sweep]
) -> None:
    """What is in flight then is landed as failed, to be asked again by the next sweep."""
    rekognition.configure(latency_seconds=1.5)
    sweep = make_sweep(some(3))
    thread = start(sweep, drain_seconds=60.0)
    wait_until(lambda: sweep.counts.calls == 3)
    sweep.stop(0.1)
    thread.join()
    assert Counter(row["error_code"] for row in landed.rows) == {"TimeoutError": 3}
