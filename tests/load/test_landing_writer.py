"""Rows become durable within seconds, and none is lost or doubled whatever the store does."""

import threading

import pytest

from liveness_etl.load.landing_writer import MOST_UNLANDED, LandingWriter
from liveness_etl.storage import Store
from liveness_etl.storage_folder import LocalStore
from tests.landing_rows import DT, NEXT_DAY, land, landed_ids, row, session_id
from tests.load.writing import Stalled, refusing, wait_until, writing
from tests.stored import paths, read


def test_rows_are_durable_within_the_checkpoint(store: Store) -> None:
    """Rows that come one by one are one part a checkpoint, not one each."""
    with writing(store, checkpoint_seconds=1.0) as writer:
        for number in range(10):
            writer.land(DT, row(number))
        wait_until(lambda: paths(store, "landing/"), 20)  # a new S3's first object takes its time
        assert len(paths(store, "landing/")) == 1
        assert landed_ids(store) == [session_id(number) for number in range(10)]


def test_five_thousand_rows_do_not_wait_for_the_checkpoint(folder_store: LocalStore) -> None:
    """The row that fills the buffer lands it at once; one row less does not."""
    with writing(folder_store) as writer:
        for number in range(MOST_UNLANDED - 1):
            writer.land(DT, row(number))
        assert not writer._thread.join(0.1)  # time for a write that must not come
        assert paths(folder_store) == []
        writer.land(DT, row(MOST_UNLANDED))
        wait_until(lambda: len(landed_ids(folder_store)) == MOST_UNLANDED)
        assert writer.wait_for_room(1.0)


def test_there_is_no_room_while_five_thousand_rows_are_unlanded(folder_store: LocalStore) -> None:
    """A store that lags stops new calls, and lets them go on as soon as it has caught up."""
    store = Stalled(folder_store.root)
    with writing(store) as writer:
        for number in range(MOST_UNLANDED - 1):
            writer.land(DT, row(number))
        assert writer.wait_for_room(0.0)
        writer.land(DT, row(MOST_UNLANDED))
        assert store.entered.wait(10)
        assert not writer.wait_for_room(0.05)
        store.released.set()
        assert writer.wait_for_room(10)


def test_there_is_no_room_while_a_write_outlasts_the_checkpoint(folder_store: LocalStore) -> None:
    """A store that neither answers nor fails does not collect answers for longer than a crash may cost."""
    store = Stalled(folder_store.root)
    with writing(store, checkpoint_seconds=0.4) as writer:
        writer.land(DT, row(0))
        assert store.entered.wait(10)
        wait_until(lambda: not writer.wait_for_room(0.0))
        writer.land(DT, row(1))  # of a call that was under way
        store.released.set()
        assert writer.wait_for_room(10)
        assert writer.close() == []
    assert landed_ids(folder_store) == [session_id(0), session_id(1)]


def test_each_partition_gets_a_part_of_its_own(store: Store) -> None:
    """Rows of two days in one buffer land in two partitions, and are counted by outcome once durable."""
    with writing(store) as writer:
        writer.land(DT, row(0))
        writer.land(NEXT_DAY, row(1, "EXPIRED"))
        writer.land(DT, row(2, None, error_code="TimeoutError"))
        assert writer.partitions == set()
        assert writer.close() == []
        assert writer.partitions == {DT, NEXT_DAY}
        assert writer.by_outcome == {"SUCCEEDED": 1, "EXPIRED": 1, "TimeoutError": 1}
    assert (len(landed_ids(store)), len(landed_ids(store, NEXT_DAY))) == (2, 1)
    assert all("/run-1-default-0-" in path for path in paths(store, "landing/"))


def test_rows_of_many_threads_land_once_each(folder_store: LocalStore) -> None:
    """What eight workers hand over while parts are being written is neither lost nor doubled."""

    def work(worker: int) -> None:
        for number in range(200):
            writer.land(DT, row(worker * 1000 + number))

    with writing(folder_store, checkpoint_seconds=0.02) as writer:
        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert writer.close() == []
    assert landed_ids(folder_store) == [session_id(w * 1000 + number) for w in range(8) for number in range(200)]
    assert sum(writer.by_outcome.values()) == 1600


def test_store_that_fails_for_a_while_stops_new_calls_and_loses_nothing(folder_store: LocalStore) -> None:
    """While the store fails there is no room and the reason is known; afterwards everything is landed."""
    with writing(folder_store, checkpoint_seconds=0.01) as writer:
        with refusing(folder_store):
            writer.land(DT, row(0))
            wait_until(lambda: writer.failure is not None)
            writer.land(DT, row(1))
            assert not writer.wait_for_room(0.05)
            assert "cannot write" in str(writer.failure)
            assert not writer.by_outcome
        assert writer.wait_for_room(10)
        assert writer.failure is None
        assert writer.close() == []
    assert landed_ids(folder_store) == [session_id(0), session_id(1)]
    assert writer.by_outcome == {"SUCCEEDED": 2}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_row_that_is_none_stops_the_sweep_instead_of_hanging_it(folder_store: LocalStore) -> None:
    """A bug shows: the writer gives up, so that nobody waits for room for ever, and close raises it."""
    writer = LandingWriter(folder_store, "run-1", "default-0", checkpoint_seconds=0.01)
    writer.land(DT, row(0, confidence="much"))
    wait_until(lambda: writer.gave_up)
    with pytest.raises(Exception, match="much"):
        writer.close(0.1)


def test_names_of_parts_are_always_new(folder_store: LocalStore) -> None:
    """Two writers of the same run and source never meet."""
    land(folder_store, [row(0)])
    before = read(folder_store, paths(folder_store)[0])
    for number in (1, 2):
        with writing(folder_store) as writer:
            writer.land(DT, row(number))
            writer.close()
    assert landed_ids(folder_store) == [session_id(number) for number in range(3)]
    assert before in [read(folder_store, path) for path in paths(folder_store)]
