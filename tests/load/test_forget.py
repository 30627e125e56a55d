"""Erased sessions are gone everywhere and stay gone, whatever goes on meanwhile or dies in between."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any

import pyarrow.parquet as pq
import pytest

from liveness_etl.load import landing, publish, rewrite
from liveness_etl.load.append import append_rows
from liveness_etl.load.forget import Forgotten, forget
from liveness_etl.load.images import erase_images
from liveness_etl.load.landing_writer import land_rescued
from liveness_etl.load.tombstones import FOLDER, put_tombstones, read_tombstones
from liveness_etl.storage import Store, rescue_folder
from liveness_etl.storage_folder import LocalStore
from liveness_etl.storage_s3 import S3Store
from tests.landing_rows import DT, MORNING, NEXT_DAY, image, land, landed_ids, row, session_id, sessions, table
from tests.load.erasing import Died, Dying, holders, moto_store, versioned, write_private
from tests.load.test_publish_overtaken import Interposed, once, without_lock
from tests.stored import paths

__all__ = ["moto_store", "versioned"]

NOW = datetime(2026, 5, 1, tzinfo=UTC)
ONE, TWO = session_id(1), session_id(2)


def some_rows(numbers: Iterable[int] = (1, 2)) -> list[dict[str, Any]]:
    return [
        row(number, images=[image(0, image_uri=f"x/{session_id(number)}")], feedback=[{"code": "A"}])
        for number in numbers
    ]


def put_image(store: Store, number: int, dt: date = DT) -> None:
    store.put(f"images/dt={dt}/{session_id(number)}/reference.jpg", b"\xff\xd8\xff")


def erase(store: Store, *session_ids: str, **options: Any) -> Forgotten:
    return forget(
        store, [(store, "images/")], session_ids, lambda dt: publish.publish_partition(store, dt), now=NOW, **options
    )


def assert_erased(store: Store) -> None:
    """Nothing of the first session is left, all of the second is, and the tables say so."""
    assert holders(store, ONE) == []
    assert [found["session_id"] for found in sessions(store)] == [TWO]
    assert len(table(store, "bounding_boxes")) == len(table(store, "feedback")) == 1
    assert publish.is_current(store, DT, landing.read_landed(store, DT).fingerprint)


@pytest.fixture(params=["folder_store", "moto_store", "versioned"])
def every_store(request: pytest.FixtureRequest) -> Store:
    """A folder, a bucket, and a bucket that keeps versions."""
    found: Store = request.getfixturevalue(request.param)
    return found


# What is erased


def test_erased_session_is_gone_from_everything_that_is_kept(every_store: Store) -> None:
    """Landing, tables, images, in two partitions, also old versions of them; all others stay."""
    store = every_store
    for dt in (DT, NEXT_DAY):
        for number in (1, 2):
            put_image(store, number, dt)
            put_image(store, number, dt)
        land(store, some_rows([1]), dt)
        publish.publish_partition(store, dt)
        land(store, some_rows([1, 2]), dt)
        publish.publish_partition(store, dt)
    land(store, some_rows([3]), date(2026, 1, 3))
    assert holders(store, ONE)
    forgotten = erase(store, ONE)
    assert (forgotten.ids, forgotten.known, forgotten.rows, forgotten.images) == (1, 0, 4, 2)
    assert forgotten.partitions == (DT, NEXT_DAY)
    assert_erased(store)
    assert [found["session_id"] for found in sessions(store, NEXT_DAY)] == [TWO]
    assert len([path for path in paths(store, "images/") if TWO in path]) == 2


def test_session_alone_in_its_partition_leaves_empty_tables(store: Store) -> None:
    """Four files with no row, which are current."""
    land(store, some_rows([1]))
    publish.publish_partition(store, DT)
    erase(store, ONE)
    assert holders(store, ONE) == []
    assert sessions(store) == []
    assert not publish.publish_partition(store, DT).changed


def test_folds_and_the_parts_that_one_left_behind_are_erased(store: Store) -> None:
    """A fold, a fold of it, and parts that a fold died before deleting."""
    land(store, some_rows([1]), name="part-a")
    land(store, some_rows([2]), name="part-b")
    content = landing.part_bytes(some_rows([1]))
    rewrite.fold(store, DT)
    land(store, some_rows([2]))
    rewrite.fold(store, DT)
    landing.append_part(store, DT, "part-a", content)
    assert landing.read_landed(store, DT).covered
    erase(store, ONE)
    assert_erased(store)


def test_image_without_a_row_is_erased(every_store: Store) -> None:
    """A run that was killed before it landed the answer has stored its image."""
    put_image(every_store, 1)
    put_image(every_store, 2)
    assert erase(every_store, ONE).images == 1
    assert holders(every_store, ONE) == []
    assert len(paths(every_store, "images/")) == 1


def test_images_in_a_store_of_their_own_are_erased(tmp_path: Any, folder_store: LocalStore) -> None:
    """`images.uri` has the partitions at its root; what was stored before it was set is below the output."""
    images = LocalStore(tmp_path / "faces")
    images.put(f"dt={DT}/{ONE}/reference.jpg", b"1")
    images.put(f"dt={DT}/{TWO}/reference.jpg", b"2")
    put_image(folder_store, 1)
    forget(folder_store, [(folder_store, "images/"), (images, "")], [ONE], lambda dt: None)
    assert holders(images, ONE) == holders(folder_store, ONE) == []
    assert len(paths(images)) == 1


def test_partitions_without_the_session_are_left_alone(versioned: S3Store) -> None:
    """Neither their parts nor their tables nor their old versions change."""
    for number in (2, 3):
        land(versioned, some_rows([number]))
        publish.publish_partition(versioned, DT)
    land(versioned, some_rows([1]), NEXT_DAY)
    before = versioned._client.list_object_versions(Bucket=versioned.bucket, Prefix=f"output/landing/dt={DT}")
    forgotten = erase(versioned, ONE)
    after = versioned._client.list_object_versions(Bucket=versioned.bucket, Prefix=f"output/landing/dt={DT}")
    assert forgotten.partitions == (NEXT_DAY,)
    assert after["Versions"] == before["Versions"]
    assert after["DeleteMarkers"] == before["DeleteMarkers"]


def test_unknown_and_erased_ids_are_no_errors(store: Store) -> None:
    """The second time nothing is written; an id that nobody knows gets a tombstone all the same."""
    land(store, some_rows())
    erase(store, ONE)
    tombstones, parts = paths(store, FOLDER), paths(store, "landing/")
    again = erase(store, ONE)
    assert (again.known, again.rows, paths(store, FOLDER), paths(store, "landing/")) == (1, 0, tombstones, parts)
    assert erase(store, session_id(9)).known == 0
    assert read_tombstones(store).among([session_id(9)])


def test_many_ids_are_one_tombstone_and_one_new_part_a_partition(store: Store) -> None:
    """However many parts held them."""
    for number in range(20):
        land(store, some_rows([number, 100 + number]), name=f"part-{number:02}")
    erase(store, *map(session_id, range(20)))
    assert len(paths(store, FOLDER)) == 1
    assert len(paths(store, "landing/")) == 1
    assert landed_ids(store) == [session_id(100 + number) for number in range(20)]


# What does not come back


def test_answer_in_flight_is_not_landed_and_its_images_go(every_store: Store) -> None:
    """It was asked before, and its part is put after the tombstone."""
    land(every_store, some_rows([2]))
    erase(every_store, ONE)
    put_image(every_store, 1)
    append_rows(
        every_store, DT, "late", some_rows([1, 3]), lambda ids, dt: erase_images(every_store, "images/", ids, dt)
    )
    assert landed_ids(every_store) == [TWO, session_id(3)]
    assert holders(every_store, ONE) == []


def test_answer_landed_while_it_is_erased_is_erased_by_its_writer(every_store: Store) -> None:
    """The tombstone comes between the writer's last look and its put: it looks again, and erases."""
    store = every_store
    land(store, some_rows([2]))
    tombstone = once("put", "landing/", lambda: erase(store, ONE))
    append_rows(Interposed(store, tombstone), DT, "late", some_rows([1, 3]))  # type: ignore[arg-type]
    assert landed_ids(store) == [TWO, session_id(3)]
    assert holders(store, ONE) == []


def test_writer_that_could_not_look_erases_at_its_next_try(store: Store) -> None:
    """The part is durable and the store fails then: the rows are landed once more, and both are found."""
    from liveness_etl.errors import StoreError

    class Failing(Interposed):
        def delete(self, paths: Any) -> None:
            raise StoreError("cannot delete")

    put_tombstones(store, [ONE], NOW)
    with pytest.raises(StoreError):
        append_rows(Failing(store, lambda verb, path: None), DT, "first", some_rows([1, 2]))  # type: ignore[arg-type]
    append_rows(store, DT, "second", some_rows([1, 2]))
    assert set(landed_ids(store)) == {TWO}
    assert holders(store, ONE) == []


@pytest.mark.parametrize("verb", ["open", "put", "delete"])
def test_fold_at_the_same_time_brings_nothing_back(every_store: Store, verb: str) -> None:
    """On S3 no lock keeps a fold from going on while its parts are written again."""
    store = every_store
    for number in (1, 2):
        land(store, some_rows([number]))
    publish.publish_partition(store, DT, fold=False)
    other = once(verb, "landing/", lambda: erase(without_lock(store), ONE))
    rewrite.fold(Interposed(store, other), DT)  # type: ignore[arg-type]
    publish.publish_partition(store, DT)
    assert_erased(store)


@pytest.mark.parametrize("name", ["challenges", "sessions"])
def test_publish_with_an_older_view_never_wins(every_store: Store, name: str) -> None:
    """It has read the rows, and is about to write a table when they are erased."""
    store = every_store
    land(store, some_rows())
    publish.publish_partition(store, DT)
    land(store, some_rows())
    other = once("put", publish.table_path(name, DT), lambda: erase(without_lock(store), ONE))
    publish.publish_partition(Interposed(store, other), DT)  # type: ignore[arg-type]
    assert_erased(store)


@pytest.mark.parametrize("use", [publish.publish_partition, rewrite.fold], ids=["publish", "fold"])
def test_row_of_a_writer_that_died_before_it_looked_is_erased_when_it_is_met(
    every_store: Store, use: Callable[..., Any]
) -> None:
    """The first publish or fold that reads it."""
    land(every_store, some_rows([2]))
    erase(every_store, ONE)
    land(every_store, some_rows([1]))
    use(every_store, DT)
    publish.publish_partition(every_store, DT)
    assert_erased(every_store)


def test_rescued_answer_is_erased_and_does_not_land(folder_store: LocalStore, state_home: Any) -> None:
    """In this user's rescue folder at once, on another machine when it lands."""
    rescued = rescue_folder(folder_store.uri) / f"dt={DT}"
    for name, numbers in {"a": [1], "b": [1, 2], "c": [3]}.items():
        write_private(rescued / f"{name}.parquet", landing.part_bytes(some_rows(numbers)))
    assert erase(folder_store, ONE).rescued_rows == 2
    left = [pq.read_table(path, partitioning=None)["session_id"].to_pylist() for path in rescued.glob("*")]
    assert sorted(left) == [[TWO], [session_id(3)]]
    write_private(rescued / "d.parquet", landing.part_bytes(some_rows([1, 2])))
    land_rescued(folder_store)
    assert landed_ids(folder_store) == [TWO, TWO, session_id(3)]
    assert holders(folder_store, ONE) == []


# What a crash leaves


@pytest.mark.parametrize("step", range(18))
def test_forget_after_a_crash_anywhere_finishes(versioned: S3Store, step: int) -> None:
    """Died between any two writes, deletions or erasings: the same forget does the rest. A publish and a fold in
    between change nothing."""
    land(versioned, some_rows([1]))
    land(versioned, some_rows([2]))
    publish.publish_partition(versioned, DT, fold=False)
    put_image(versioned, 1)
    with suppress(Died):
        erase(Dying(versioned, step), ONE)  # type: ignore[arg-type]
    if step % 2:
        publish.publish_partition(versioned, DT)
    erase(versioned, ONE)
    assert_erased(versioned)


def test_crash_test_dies_at_every_step(versioned: S3Store) -> None:
    """There are as many steps as the test above takes, at least."""
    land(versioned, some_rows([1]))
    land(versioned, some_rows([2]))
    publish.publish_partition(versioned, DT, fold=False)
    put_image(versioned, 1)
    steps = Dying(versioned, 1_000)
    erase(steps, ONE)  # type: ignore[arg-type]
    assert 10 < 1_000 - steps._left <= 18


def test_part_written_again_takes_the_place_of_a_fold_at_once(folder_store: LocalStore) -> None:
    """Died before the fold was deleted: from the moment that the new part stands, nobody reads the fold."""
    for number in (1, 2):
        land(folder_store, some_rows([number]))
    rewrite.fold(folder_store, DT)
    with suppress(Died):
        erase(Dying(folder_store, 2), ONE)  # type: ignore[arg-type]  # after the tombstone and the part
    landed = landing.read_landed(folder_store, DT)
    assert (len(landed.parts), len(landed.covered)) == (1, 1)
    assert landed_ids(folder_store) == [TWO]


def test_tombstone_alone_keeps_the_id_out_of_what_is_made_from_now_on(store: Store) -> None:
    """Killed right after it: the tables that are made next have no row of it, nor has a fold."""
    land(store, some_rows())
    put_tombstones(store, [ONE], NOW)
    publish.publish_partition(store, DT)
    assert [found["session_id"] for found in sessions(store)] == [TWO]
    assert landed_ids(store) == [TWO]


# Plans


def plan_left(store: Store, run_id: str) -> str:
    path = f".tmp/{run_id}/default"
    store.put(path, landing.part_bytes([row(1, fetched_at=MORNING)]))
    return path


@pytest.mark.parametrize(
    ("started", "left"), [("20260430T230001", True), ("20260430T225959", False)], ids=["within the hour", "before"]
)
def test_plan_of_a_killed_run_is_erased(every_store: Store, started: str, left: bool) -> None:
    """A run without a lease is over, unless it may not have one yet: that is said."""
    plan_left(every_store, f"{started}000000Z-0123abcd")
    if isinstance(every_store, LocalStore):
        (every_store.root / ".tmp" / "scratch-other").mkdir()
    assert erase(every_store, ONE).plans_left == left
    assert bool(holders(every_store, ONE)) == left


def test_old_version_of_a_plan_is_erased(versioned: S3Store) -> None:
    """A run deletes its plan when it is over, and the bucket keeps it."""
    versioned.delete([plan_left(versioned, "20260101T000000000000Z-0123abcd")])
    assert holders(versioned, ONE)
    erase(versioned, ONE)
    assert holders(versioned, ONE) == []


def test_plan_of_a_run_that_sweeps_is_left_and_counted(store: Store) -> None:
    """It needs it, and deletes it in the end."""
    from liveness_etl.load.lease import held_leases

    run_id = "20260101T000000000000Z-0123abcd"
    path = plan_left(store, run_id)
    with held_leases(store, ["default"], run_id, 1, lambda: None):
        assert erase(store, ONE).plans_left == 1
        assert store.head(path)
    assert erase(store, ONE).plans_left == 0
    assert store.head(path) is None
