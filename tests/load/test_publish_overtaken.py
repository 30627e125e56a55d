"""Publish while others write, and after it died: always the same tables in the end."""

import threading
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from liveness_etl.errors import StoreError
from liveness_etl.load import landing, publish, rewrite
from liveness_etl.load.publish import publish_partition, table_path
from liveness_etl.storage import Store
from liveness_etl.storage_folder import LocalStore
from liveness_etl.transform import tables
from tests.landing_rows import DT, image, land, row, session_id, sessions, table
from tests.stored import paths, read

PUTS_AND_DELETES = 4 + 1 + 3  # of a publish of three parts: the tables, the fold, the parts that it took


class Died(BaseException):
    """The process is gone; nothing catches it."""


class Interposed:
    """A store that lets something happen before, or instead of, what it is asked to do."""

    def __init__(self, store: Store, before: Callable[[str, str], None]) -> None:
        self._store, self._before = store, before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def open(self, path: str) -> pa.NativeFile:
        self._before("open", path)
        return self._store.open(path)

    def put(self, path: str, *args: Any, **options: Any) -> str:
        self._before("put", path)
        return self._store.put(path, *args, **options)

    def delete(self, paths: Any) -> None:
        for path in paths:
            self._before("delete", path)
            self._store.delete([path])


def once(verb: str, path: str, act: Callable[[], Any]) -> Callable[[str, str], None]:
    """Does something when this is done to a path for the first time."""
    left = [act]

    def before(happening: str, to: str) -> None:
        if left and happening == verb and to.startswith(path):
            left.pop()()

    return before


def without_lock(store: Store) -> Store:
    """On a folder the publisher holds the partition's lock, which a writer on another host would not heed."""

    class Unlocked(LocalStore):
        def lock(self, name: str) -> Any:
            return super().lock(name if name == "put" else f"another-host-{name}")

    return Unlocked(store.root) if isinstance(store, LocalStore) else store


def some_rows(start: int) -> list[dict[str, Any]]:
    return [row(number, images=[image(0)], feedback=[{"code": "A"}]) for number in range(start, start + 2)]


def assert_current(store: Store, count: int) -> None:
    """All four files hold these sessions and say so."""
    assert [found["session_id"] for found in sessions(store)] == [session_id(number) for number in range(count)]
    assert len(table(store, "bounding_boxes")) == len(table(store, "feedback")) == count
    assert publish.is_current(store, DT, landing.read_landed(store, DT).fingerprint)


@pytest.mark.parametrize("name", ["challenges", "sessions"])
@pytest.mark.parametrize("first", [True, False], ids=["new tables", "tables to replace"])
def test_publish_overtaken_by_another_starts_again(store: Store, name: str, first: bool) -> None:
    """Another publish with more landed rows comes before one of the four writes: nothing newer is covered."""
    land(store, some_rows(0))
    if not first:
        publish_partition(store, DT)
        land(store, some_rows(2))

    def other() -> None:
        land(store, some_rows(4))
        assert publish_partition(without_lock(store), DT).changed

    before = once("put", table_path(name, DT), other)
    publish_partition(Interposed(store, before), DT)
    if first:
        land(store, some_rows(2))
        publish_partition(store, DT)
    assert_current(store, 6)


def test_publish_whose_parts_were_folded_away_starts_again(store: Store) -> None:
    """A fold on another host takes the listed parts before they are read."""
    for start in (0, 2, 4):
        land(store, some_rows(start))
    other = once("open", "landing/", lambda: rewrite.fold(without_lock(store), DT))
    assert publish_partition(Interposed(store, other), DT).sessions == 6
    assert_current(store, 6)


def test_publish_that_is_always_overtaken_says_so(folder_store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty tries, then one sentence."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    number = 0

    def other(verb: str, path: str) -> None:
        nonlocal number
        if verb == "put" and path == table_path("sessions", DT):
            number += 1
            folder_store.put(path, b"%d" % number)

    land(folder_store, some_rows(0))
    with pytest.raises(StoreError, match=r"^publishing 2026-01-01 was overtaken 20 times by other writers: try again"):
        publish_partition(Interposed(folder_store, other), DT)
    assert number == 20


@pytest.mark.parametrize("effect", ["before", "after"])
@pytest.mark.parametrize("step", range(PUTS_AND_DELETES))
def test_publish_after_a_crash_anywhere_gives_the_same(folder_store: LocalStore, step: int, effect: str) -> None:
    """Died before or after any write or delete: the next publish gives the rows that it would have given."""
    steps = 0

    def dying(verb: str, path: str) -> None:
        nonlocal steps
        if verb != "open":
            if steps == step:
                if effect == "after" and verb == "delete":
                    folder_store.delete([path])
                raise Died
            steps += 1

    for start in (0, 2, 4):
        land(folder_store, some_rows(start))
    with pytest.raises(Died):
        publish_partition(Interposed(folder_store, dying), DT)
    publish_partition(folder_store, DT)
    assert_current(folder_store, 6)
    publish_partition(folder_store, DT)
    assert len(paths(folder_store, "landing/")) == 1
    assert not list((folder_store.root / ".tmp").glob("*"))


def test_sessions_are_replaced_last(store: Store) -> None:
    """Whoever finds a session finds its children too."""
    order: list[str] = []
    land(store, some_rows(0))
    publish_partition(Interposed(store, lambda verb, path: order.append(path) if verb == "put" else None), DT)
    assert order == [table_path(name, DT) for name in tables.TABLES]
    assert order[-1].startswith("sessions/")


@pytest.mark.slow
def test_many_publish_and_fold_and_land_at_the_same_time(store: Store) -> None:
    """Four writers without a common lock, each landing and publishing: in the end every row is in the tables."""

    def work(worker: int) -> None:
        mine = without_lock(store)
        try:
            for turn in range(3):
                land(mine, some_rows(worker * 6 + turn * 2))
                publish_partition(mine, DT)
        except BaseException as error:
            failures.append(error)

    failures: list[BaseException] = []
    workers = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures
    publish_partition(store, DT)
    assert_current(store, 24)
    first = [read(store, table_path(name, DT)) for name in tables.TABLES]
    publish_partition(store, DT, rebuild=True)
    assert [read(store, table_path(name, DT)) for name in tables.TABLES] == first
