"""What is done to an output beside runs: erase people and old partitions, audit the files."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import partial

from liveness_etl.analysis.verify import Verified, verify_output
from liveness_etl.analysis.verify_partition import VerifiedPartition
from liveness_etl.errors import UsageError
from liveness_etl.job import Job, erase_source_with, image_places, open_output, read_manifest
from liveness_etl.load import forget as erasure
from liveness_etl.load.tombstones import read_tombstones
from liveness_etl.pipeline import publish_partition
from liveness_etl.settings import Settings


def forget(
    settings: Settings,
    session_ids: Collection[str],
    *,
    with_source_images: bool = False,
    progressed: Callable[[int, int], None] = lambda done, of: None,
) -> erasure.Forgotten:
    """Erase sessions for good. `progressed` is told of partitions done, of how many. Raises LivenessError."""
    return erasure.forget(
        open_output(settings),
        image_places(settings),
        session_ids,
        partial(publish_partition, settings),
        source_buckets=settings.images.source_buckets,
        erase_source=erase_source_with(settings) if with_source_images else None,
        progressed=progressed,
    )


def expire(settings: Settings) -> erasure.Expired:
    """Erase what is older than `output.retention_days` and `images.retention_days`. Raises LivenessError."""
    days, images_days = settings.output.retention_days, settings.images.retention_days
    if days is None and images_days is None:
        raise UsageError("nothing expires: set output.retention_days or images.retention_days in the configuration")
    return erasure.expire(
        open_output(settings),
        image_places(settings),
        keep_days=days,
        keep_images_days=images_days,
        today=datetime.now(UTC).date(),
    )


def verify(
    settings: Settings,
    job: Job | None = None,
    *,
    hash_images: bool = True,
    on_partition: Callable[[VerifiedPartition], None] = lambda verified: None,
) -> Verified:
    """Audit the output, and against it the manifest of `job`, if there is one. Writes nothing. Raises LivenessError."""
    store = open_output(settings)
    return verify_output(
        store,
        image_places(settings),
        forgotten=read_tombstones(store).among,
        manifest_ids=None if job is None else (chunk.ids for chunk in read_manifest(job)),
        hash_images=hash_images,
        memory_limit=settings.publish.memory_limit,
        on_partition=on_partition,
    )
