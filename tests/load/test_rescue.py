"""What cannot be landed when the program ends: kept in the state folder, landed by the next run."""

import stat
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from liveness_etl.errors import StoreError
from liveness_etl.load import landing_writer, publish
from liveness_etl.load.landing_writer import LandingWriter, hurry_after, land_rescued
from liveness_etl.storage_folder import LocalStore
from tests.landing_rows import DT, NEXT_DAY, landed_ids, row, session_id, sessions
from tests.load.writing import Stalled, refusing, wait_until, writing


def test_what_cannot_be_landed_is_rescued_and_landed_by_the_next_run(
    folder_store: LocalStore, state_home: Path
) -> None:
    """Rescue parts are the user's own (0600), one a partition; the next run lands them and removes them."""
    with refusing(folder_store), writing(folder_store, checkpoint_seconds=0.01) as writer:
        writer.land(DT, row(0))
        wait_until(lambda: writer.failure is not None)
        writer.land(DT, row(1))
        writer.land(NEXT_DAY, row(2))
        rescued = writer.close(0.3)
    assert [part.parent.name for part in rescued] == ["dt=2026-01-01", "dt=2026-01-02"]
    assert all(part.is_relative_to(state_home / "liveness-etl" / "rescue") for part in rescued)
    assert [stat.S_IMODE(part.stat().st_mode) for part in rescued] == [0o600, 0o600]
    assert [pq.ParquetFile(part).metadata.num_rows for part in rescued] == [2, 1]
    assert not writer.by_outcome

    assert land_rescued(folder_store) == 2
    assert not any(part.exists() for part in rescued)
    assert land_rescued(folder_store) == 0
    publish.publish_partition(folder_store, DT)
    assert [found["session_id"] for found in sessions(folder_store)] == [session_id(0), session_id(1)]
    assert landed_ids(folder_store, NEXT_DAY) == [session_id(2)]


def test_rescued_parts_stay_while_the_store_still_fails(folder_store: LocalStore, state_home: Path) -> None:
    """The next run, too, says that the output cannot be written, and keeps what was rescued."""
    with refusing(folder_store):
        with writing(folder_store) as writer:
            writer.land(DT, row(0))
            (rescued,) = writer.close(0.1)
        with pytest.raises(StoreError):
            land_rescued(folder_store)
    assert rescued.exists()
    assert land_rescued(folder_store) == 1


def test_rescued_parts_of_one_output_are_not_landed_in_another(folder_store: LocalStore, state_home: Path) -> None:
    """Every output has a rescue folder of its own."""
    with refusing(folder_store), writing(folder_store) as writer:
        writer.land(DT, row(0))
        assert writer.close(0.1)
    assert land_rescued(LocalStore(folder_store.root.parent / "other")) == 0
    assert land_rescued(folder_store) == 1


def test_rescue_part_landed_twice_is_published_once(folder_store: LocalStore, state_home: Path) -> None:
    """A run that died between landing a rescue part and removing it leaves duplicates, which publish ignores."""
    with refusing(folder_store), writing(folder_store) as writer:
        writer.land(DT, row(0))
        (rescued,) = writer.close(0.1)
    content = rescued.read_bytes()
    land_rescued(folder_store)
    rescued.write_bytes(content)
    land_rescued(folder_store)
    assert landed_ids(folder_store) == [session_id(0)] * 2
    publish.publish_partition(folder_store, DT)
    assert len(sessions(folder_store)) == 1


def test_half_a_rescue_part_is_not_landed(
    folder_store: LocalStore, state_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rescue that breaks off, as on a full disk, is said, and leaves nothing that would spoil the partition."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    writer = LandingWriter(folder_store, "run-1", "default-0", checkpoint_seconds=60)
    with refusing(folder_store):
        writer.land(DT, row(0))
        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(StoreError, match=r"answers are lost: .*No space left on device"):
            writer.close(0.1)
        monkeypatch.undo()
    monkeypatch.setenv("XDG_STATE_HOME", str(state_home))
    assert list(state_home.rglob("*.parquet")) == []
    assert land_rescued(folder_store) == 0


def test_store_that_fails_too_long_is_given_up_and_later_rows_are_rescued(
    folder_store: LocalStore, state_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep learns that it should stop; what was in flight still comes into the rescue part."""
    monkeypatch.setattr(landing_writer, "_PATIENCE_SECONDS", 0.2)
    with refusing(folder_store), writing(folder_store, checkpoint_seconds=0.01) as writer:
        writer.land(DT, row(0))
        wait_until(lambda: writer.gave_up)
        assert not writer.wait_for_room(0.01)
        writer.land(DT, row(1))
        (rescued,) = writer.close()
    assert pq.ParquetFile(rescued).metadata.num_rows == 2


def test_write_that_hangs_until_after_the_rescue_doubles_nothing(folder_store: LocalStore, state_home: Path) -> None:
    """A write that ends after all, when its rows were rescued already, leaves each id one row in the table."""
    store = Stalled(folder_store.root)
    with writing(store, checkpoint_seconds=0.01) as writer:
        writer.land(DT, row(0))
        assert store.entered.wait(10)
        writer.land(DT, row(1))
        (rescued,) = writer.close(0.1)
        store.released.set()
    assert pq.ParquetFile(rescued).metadata.num_rows == 2
    land_rescued(store)
    publish.publish_partition(store, DT)
    assert [found["session_id"] for found in sessions(store)] == [session_id(0), session_id(1)]


@pytest.mark.parametrize("answers", [True, False])
def test_last_rows_get_some_seconds_after_a_stop(folder_store: LocalStore, state_home: Path, answers: bool) -> None:
    """An output that is slow at that moment still gets them; one that does not answer does not hold up the end."""
    store, stop = Stalled(folder_store.root), threading.Event()
    with writing(store) as writer:
        writer.land(DT, row(0))
        stop.set()
        hurry_until = hurry_after(stop)
        hurry_until()  # the stop is seen here, and the four seconds begin
        releasing = threading.Timer(1.5, store.released.set if answers else lambda: None)
        releasing.start()
        started = time.monotonic()
        rescued = writer.close(hurry_until=hurry_until)
        assert 1.4 < time.monotonic() - started < 30
        releasing.join()
        store.released.set()
    assert len(rescued) == (not answers)
    assert landed_ids(folder_store) == [session_id(0)]


def test_two_runs_may_land_the_rescued_at_the_same_time(folder_store: LocalStore, state_home: Path) -> None:
    """A rescue part that another run takes away in between is no error."""

    class Overtaken(LocalStore):
        def put(self, *args: Any, **options: Any) -> str:
            for part in state_home.rglob("*.parquet"):
                part.unlink()
            return super().put(*args, **options)

    with refusing(folder_store), writing(folder_store) as writer:
        for dt in (DT, NEXT_DAY):
            writer.land(dt, row(0))
        assert len(writer.close(0.1)) == 2
    land_rescued(Overtaken(folder_store.root))
    assert landed_ids(folder_store) == [session_id(0)]
