"""What is older than its retention goes whole; rows may outlive their images."""

from datetime import date

import pytest

from liveness_etl.load import publish
from liveness_etl.load.forget import expire
from liveness_etl.storage import Store
from liveness_etl.storage_s3 import S3Store
from tests.landing_rows import image, land, row, session_id, sessions
from tests.load.erasing import kept, moto_store, versioned
from tests.stored import paths

__all__ = ["moto_store", "versioned"]

TODAY = date(2026, 1, 31)
OLD, LAST, NEW = date(2025, 12, 31), date(2026, 1, 1), date(2026, 1, 30)  # 31, 30 and 1 days ago


@pytest.fixture(params=["folder_store", "moto_store", "versioned"])
def filled(request: pytest.FixtureRequest) -> Store:
    """Three partitions with images, published, and a run with rejects on each day."""
    store: Store = request.getfixturevalue(request.param)
    for dt in (OLD, LAST, NEW):
        store.put(f"images/dt={dt}/{session_id(1)}/reference.jpg", b"1")
        land(store, [row(1, images=[image(0, image_uri=f"images/dt={dt}/{session_id(1)}/reference.jpg")])], dt)
        publish.publish_partition(store, dt)
        publish.publish_partition(store, dt, rebuild=True)
        for table in ("runs", "rejects"):
            store.put(f"{table}/dt={dt}/run.parquet", b"")
    store.put("images/dt=none/x", b"")
    return store


def days(store: Store, prefix: str) -> list[str]:
    """The partitions of which anything is left, old versions too."""
    names = {name for name, _ in kept(store) if f"{prefix}/dt=2" in name}
    return sorted({name.partition("dt=")[2][:10] for name in names})


def test_partition_past_its_days_is_erased_whole(filled: Store) -> None:
    """Landing, tables, rejects and images, also old versions; records of runs stay."""
    expired = expire(filled, [(filled, "images/")], keep_days=30, keep_images_days=None, today=TODAY)
    assert (expired.partitions, expired.image_partitions) == ((OLD,), (OLD,))
    for prefix in ("landing", "sessions", "challenges", "bounding_boxes", "feedback", "rejects", "images"):
        assert days(filled, prefix) == [str(LAST), str(NEW)], prefix
    assert len(days(filled, "runs")) == 3
    assert filled.head("images/dt=none/x")
    assert not publish.publish_partition(filled, OLD).changed
    again = expire(filled, [(filled, "images/")], keep_days=30, keep_images_days=None, today=TODAY)
    assert (again.partitions, again.objects, again.versions) == ((), 0, 0)


def test_images_may_go_before_their_rows(filled: Store) -> None:
    """The rows stay, and publish does not mind."""
    expired = expire(filled, [(filled, "images/")], keep_days=None, keep_images_days=29, today=TODAY)
    assert (expired.partitions, expired.image_partitions) == ((), (OLD, LAST))
    assert days(filled, "images") == [str(NEW)]
    publish.publish_partition(filled, OLD, rebuild=True)
    assert len(sessions(filled, OLD)) == 1
    assert len(paths(filled, "landing/")) == 3


def test_images_never_outlive_their_partition(filled: Store) -> None:
    """The shorter of the two counts for them."""
    expire(filled, [(filled, "images/")], keep_days=30, keep_images_days=90, today=TODAY)
    assert days(filled, "images") == [str(LAST), str(NEW)]


def test_partition_that_was_deleted_by_hand_loses_its_old_versions(versioned: S3Store) -> None:
    """A listing of objects does not show it any more."""
    versioned.put(f"sessions/dt={OLD}/part-00000.parquet", b"1")
    versioned.delete([f"sessions/dt={OLD}/part-00000.parquet"])
    expire(versioned, [(versioned, "images/")], keep_days=30, keep_images_days=None, today=TODAY)
    assert list(kept(versioned)) == []
