"""Tombstones: what they hold, and what it costs to heed them."""

from datetime import UTC, datetime
from hashlib import sha256

import pytest

from liveness_etl.errors import StoreError
from liveness_etl.load.tombstones import FOLDER, last_read, put_tombstones, read_tombstones
from liveness_etl.storage import Store
from tests.landing_rows import session_id
from tests.stored import paths, read

NOW = datetime(2026, 5, 1, tzinfo=UTC)
ONE, TWO, THREE = map(session_id, (1, 2, 3))


def test_tombstone_is_the_sha256_of_the_id_and_nothing_else(store: Store) -> None:
    """Whoever knows an id can look for it, with any tool; nobody can read one."""
    put_tombstones(store, [ONE, TWO], NOW)
    (path,) = paths(store, FOLDER)
    assert read(store, path) == b"".join(sorted(sha256(one.encode()).digest() for one in (ONE, TWO)))


def test_erased_ids_are_told_from_others(store: Store) -> None:
    """Of several objects together; each id knows the names of its own."""
    put_tombstones(store, [ONE], NOW)
    put_tombstones(store, [TWO], NOW)
    found = read_tombstones(store)
    assert found.among([ONE, TWO, THREE]) == {ONE, TWO}
    assert len(found.names([ONE, TWO])) == 2
    assert len(found.names([ONE])) == 1
    assert found.names([THREE]) == set()


def test_tombstones_are_read_once_and_listed_every_time(store: Store) -> None:
    """Nothing new: the same object, so that a writer can tell. Something new: only that is read."""
    assert read_tombstones(store) is last_read(store)
    put_tombstones(store, [ONE], NOW)
    first = read_tombstones(store)
    assert first is read_tombstones(store)
    (path,) = paths(store, FOLDER)
    store.delete([path])
    store.put(path, b"damaged, but read already")
    put_tombstones(store, [TWO], NOW.replace(year=2027))
    assert read_tombstones(store).among([ONE, TWO]) == {ONE, TWO}


def test_damaged_tombstones_stop_everything(store: Store) -> None:
    """Going on would bring ids back."""
    store.put(f"{FOLDER}forgotten-x", b"half")
    with pytest.raises(StoreError, match=r"forgotten-x is damaged: restore it from a backup"):
        read_tombstones(store)
