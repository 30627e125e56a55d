"""Erases sessions for good: their rows in landing and the tables, their stored images, and old versions of all these.

The order makes every crash harmless. What AWS wrote goes first, since only the rows tell where it is. Then the
tombstone: from then on no rerun, no answer in flight and no fold brings an id back. Then each partition is written
again without the rows, under the tombstone's name, which is how a second call finds what a first one had begun.

`rejects` holds reasons and line numbers, `runs` counts: no ids, so they stay.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from liveness_etl.load import landing, rewrite
from liveness_etl.load.images import ImagePlace, erase_images
from liveness_etl.load.landing_writer import forget_rescued
from liveness_etl.load.lease import read_holders
from liveness_etl.load.tombstones import put_tombstones, read_tombstones
from liveness_etl.storage import Purged, Store
from liveness_etl.transform import tables

EraseSource = Callable[[str, str, str | None], bool]
"""Erases an S3Object (bucket, name, version); False where it does not know which version. Raises StoreError."""

_SESSION_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_RUN_ID: Final = re.compile(r"(\d{8}T\d{6})\d{6}Z-[0-9a-f]{8}")
_LONGEST_WITHOUT_LEASE: Final = timedelta(hours=1)  # from a run's start to its first lease, generously


@dataclass(frozen=True)
class Forgotten:
    """What a `forget` erased and what it had to leave. Counts, no ids.

    `known` of the ids were erased before. `source_images` are S3Objects that AWS wrote; those left are counted by
    bucket, with the reason. `plans_left` are of runs that may be under way.
    """

    ids: int
    known: int
    rows: int
    rescued_rows: int
    images: int
    versions: int
    partitions: tuple[date, ...]
    source_images: int
    sources_left: Mapping[tuple[str, str], int]
    plans_left: int


def session_id_of(text: str) -> str | None:
    """An id as landing spells it, or None if the text is none."""
    folded = text.strip().lower()
    return folded if _SESSION_ID.fullmatch(folded) else None


def forget(
    store: Store,
    images: Sequence[ImagePlace],
    session_ids: Collection[str],
    publish: Callable[[date], object],
    *,
    source_buckets: Collection[str] = (),
    erase_source: EraseSource | None = None,
    progressed: Callable[[int, int], None] = lambda done, of: None,
    now: datetime | None = None,
) -> Forgotten:
    """Erase these ids wherever the output has them; again after a crash or an error, it finishes.

    `publish` makes a partition's tables right. `erase_source` erases S3Objects of the rows, in `source_buckets` only;
    without it they are left. `progressed` is told how many partitions are done, of how many. Raises StoreError, and
    NewerContract before it erases anything.
    """
    now = now or datetime.now(UTC)
    for dt in landing.list_partitions(store):
        landing.check_partition(store, dt)
    sources = _Sources(session_ids, source_buckets, erase_source)
    if erase_source is not None:
        for dt in landing.list_partitions(store):
            for batch in landing.scan_partition(store, dt, ["session_id", "images"]):
                sources.take(batch)

    known = read_tombstones(store).among(session_ids)
    if new := set(session_ids) - known:
        put_tombstones(store, new, now)
    names = read_tombstones(store).names(session_ids)

    rows, erased, touched = 0, Purged(), []
    partitions = landing.list_partitions(store)
    for done, dt in enumerate(partitions):
        progressed(done, len(partitions))
        with store.lock(f"partition-{dt}"):
            taken = rewrite.erase_rows(store, dt, session_ids, names, sources.take)
        if taken.touched:
            publish(dt)
            for table in ("landing", *tables.TABLES):
                erased += store.purge(f"{table}/dt={dt}/")
            rows += taken.rows
            touched.append(dt)
    for place in images:
        erased += erase_images(*place, session_ids)
    rescued = forget_rescued(store, session_ids)
    plans_left, plans = _erase_plans(store, now)
    return Forgotten(
        ids=len(session_ids),
        known=len(known),
        rows=rows,
        rescued_rows=rescued,
        images=erased.objects,
        versions=erased.versions + plans.versions,
        partitions=tuple(touched),
        source_images=sources.erased,
        sources_left=sources.left,
        plans_left=plans_left,
    )


class _Sources:
    """The S3Objects that rows of some ids refer to: erased where that is allowed, and counted."""

    def __init__(
        self, session_ids: Collection[str], buckets: Collection[str], erase_source: EraseSource | None
    ) -> None:
        self._wanted = pa.array(sorted(session_ids), pa.string())
        self._buckets, self._erase = buckets, erase_source
        self._seen: set[tuple[str, str, str | None]] = set()
        self.erased = 0
        self.left: Counter[tuple[str, str]] = Counter()

    def take(self, batch: pa.RecordBatch) -> None:
        """Landing rows: session_id and images."""
        rows = batch.filter(pc.is_in(batch.column("session_id"), self._wanted))
        for image in (image for images in rows.column("images").to_pylist() for image in images or ()):
            bucket, name, version = image["s3_bucket"], image["s3_name"], image["s3_version"]
            if bucket is None or name is None or (bucket, name, version) in self._seen:
                continue
            self._seen.add((bucket, name, version))
            if self._erase is None:
                self.left[bucket, "without --with-source-images"] += 1
            elif bucket not in self._buckets:
                self.left[bucket, "the bucket is not one of images.source_buckets"] += 1
            elif not self._erase(bucket, name, version):
                self.left[bucket, "the answer named no version, and the bucket keeps versions"] += 1
            else:
                self.erased += 1


def _erase_plans(store: Store, now: datetime) -> tuple[int, Purged]:
    """Erase plan files, which hold ids, of runs that are over for certain; returns how many others there are."""
    holders = read_holders(store)
    left, erased = 0, Purged()
    for name in store.folders(".tmp/"):
        if not (run := _RUN_ID.fullmatch(name)):
            continue
        started = datetime.strptime(run[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        if holders.get(name, now - started < _LONGEST_WITHOUT_LEASE):
            left += 1
        else:
            erased += store.purge(f".tmp/{name}/", current=True)
    return left, erased


@dataclass(frozen=True)
class Expired:
    """What the end of its time erased: the dates, and how much."""

    partitions: tuple[date, ...]
    image_partitions: tuple[date, ...]
    objects: int
    versions: int


def expire(
    store: Store,
    images: Sequence[ImagePlace],
    *,
    keep_days: int | None,
    keep_images_days: int | None,
    today: date,
) -> Expired:
    """Erase partitions older than `keep_days` whole, and images older than the shorter of both. None keeps for good.
    One of the two is given.

    A partition is its landing, tables, rejects and images, with old versions. Its `runs` stay: they hold counts only.
    Images that go before their rows leave an image_uri that leads nowhere. Raises StoreError.
    """
    erased = Purged()
    gone: set[date] = set()
    images_gone: set[date] = set()
    image_days = min(days for days in (keep_days, keep_images_days) if days is not None)
    for table in ("landing", *reversed(tables.TABLES), "rejects"):  # without landing nobody makes the tables again
        for name in store.folders(f"{table}/"):
            if (dt := _older(name, keep_days, today)) is not None:
                with store.lock(f"partition-{dt}"):
                    erased += store.purge(f"{table}/{name}/", current=True)
                gone.add(dt)
    for image_store, prefix in images:
        for name in image_store.folders(prefix):
            if (dt := _older(name, image_days, today)) is not None:
                erased += image_store.purge(f"{prefix}{name}/", current=True)
                images_gone.add(dt)
    return Expired(tuple(sorted(gone)), tuple(sorted(images_gone)), erased.objects, erased.versions)


def _older(folder: str, days: int | None, today: date) -> date | None:
    """The date of a folder `dt=D`, if it is more than so many days ago."""
    try:
        dt = date.fromisoformat(folder.removeprefix("dt="))
    except ValueError:
        return None
    return dt if days is not None and folder == f"dt={dt}" and (today - dt).days > days else None
