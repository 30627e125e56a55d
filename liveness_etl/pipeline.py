"""The story of a run: plan, sweep, publish, record.

Each step is a function of a Job and small values, so that the command line runs them in a row and a Prefect
flow as tasks, on this machine or another. Between the steps stand files in the output, never ids in memory.
"""

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from liveness_etl.engine import open_engine
from liveness_etl.errors import (
    LeaseHeld,
    LivenessError,
    Stopped,
    StoreError,
)
from liveness_etl.extract import manifest, rekognition
from liveness_etl.extract.ask import Ask, Origin, not_asked_row
from liveness_etl.extract.ceiling import Ceiling
from liveness_etl.extract.governor import Governor
from liveness_etl.extract.growing import is_growing
from liveness_etl.extract.plan import Plan, PlanOptions, SourcePlan, plan_manifest
from liveness_etl.extract.planned import expired_by_their_turn, read_asks
from liveness_etl.extract.retry import RetryPolicy
from liveness_etl.extract.sweep import Sweep
from liveness_etl.job import (
    Job,
    ceiling_of,
    check_source,
    image_places,
    keep_images,
    open_output,
    read_manifest,
    source_client,
    source_region,
)
from liveness_etl.load import landing, publish, records, rewrite
from liveness_etl.load.append import EraseImages
from liveness_etl.load.images import erase_images
from liveness_etl.load.landing_writer import LandingWriter, hurry_after, land_rescued
from liveness_etl.load.lease import held_leases
from liveness_etl.load.tombstones import read_tombstones
from liveness_etl.run_report import (
    Observer,
    Progress,
    RunReport,
    SweepReport,
    drop_plan,
    finish_run,
    first_of,
    started_row,
)
from liveness_etl.settings import Settings
from liveness_etl.storage import Entry, Store

log = logging.getLogger(__name__)

MANY_PARTS = 200
"""Landing parts of a partition above which a sweep folds them."""

ONE_PROCESS_TPS = 250
"""Calls a second that one process keeps up on a modest core, measured; botocore's CPU time is the limit."""

ENOUGH_DRAIN_SECONDS = 2.0
"""Seconds that calls in flight get at the end of a round, while ids that may be alive wait for the next one."""

_TICK_SECONDS = 0.25


def run(job: Job, observer: Observer | None = None, stop: threading.Event | None = None) -> RunReport:
    """Plan, sweep, publish and record (`job.command` "sweep" publishes nothing).

    `stop`, once set, drains the sweeps; then nothing is published and the exit code is 3. An error does not keep the
    other sources from their ids: it is raised when they are through and the run is recorded.
    Raises LivenessError.
    """
    observer = observer or Observer()
    stop = stop or threading.Event()
    if capture_rounds(job):
        from liveness_etl import capture  # it is made of what stands here

        return capture.sweep_growing(job, observer, stop)
    plan, row = plan_run(job, stop)
    observer.planned(plan)
    with leased(job, plan, stop), ThreadPoolExecutor(len(job.sources), "source") as pool:
        sweeping = [
            pool.submit(sweep_source, job, plan, source.source, stop=stop, on_progress=observer.progressed)
            for source in plan.sources
            if source.to_ask
        ]
    errors = [error for future in sweeping if (error := future.exception()) is not None]
    sweeps = tuple(future.result() for future in sweeping if future.exception() is None)
    published: list[publish.Published] = []
    try:
        for dt in plan.partitions if job.command == "run" and not errors else ():
            if not stop.is_set():
                published.append(publish_partition(job.settings, dt))
                observer.published(published[-1])
    except LivenessError as error:
        errors.append(error)
    if stop.is_set() and any(isinstance(error, StoreError) for error in errors):
        raise first_of(errors)  # the record of its start stands, and there is no time to wait for such an output
    completed = not errors and not stop.is_set()
    try:
        report = finish_run(job, plan, row, sweeps, tuple(published), completed=completed)
    except LivenessError as error:
        errors.append(error)
    if errors:
        raise first_of(errors)
    return report


def capture_rounds(job: Job) -> bool:
    """Whether the job is a sweep of a manifest that grows, which is swept in rounds (see `capture`)."""
    return job.command == "sweep" and not job.ask_again and is_growing(job.manifest_uri)


def plan_run(job: Job, stop: threading.Event | None = None) -> tuple[Plan, dict[str, Any]]:
    """Read the manifest, subtract what is final, write the plan and the record of a started run.

    Returns the plan and the record. Nothing is written where the manifest, a source or the output is unusable, nor
    once `stop` is set. Raises LivenessError.
    """
    stop = stop or threading.Event()
    store = open_output(job.settings)
    reader = read_manifest(job)
    with store.scratch() as folder, records.rejects_file(folder, job.run_id) as rejects:
        land_rescued(store, image_eraser(job.settings))
        plan = _planned(job, store, folder, _until(stop, reader), rejects)
        for source in plan.sources:
            if source.to_ask:
                check_source(job, source.source)
        rejects.put(store, job.started_at)
        for source in plan.sources:
            store.put(job.plan_path(source.source), folder / source.source)
    row = started_row(job, plan, reader.sha256)
    records.write_run(store, row)
    return plan, row


def forecast(job: Job) -> tuple[Plan, dict[str, int]]:
    """The plan of a run that nobody makes, and per source how many ids will have expired by their turn.

    Writes nothing and makes no call of Rekognition. Raises LivenessError.
    """
    store = open_output(job.settings)
    reader = read_manifest(job)
    with store.scratch() as folder, records.rejects_file(folder, job.run_id) as rejects:
        plan = _planned(job, store, folder, reader, rejects)
        too_late = {
            source.source: expired_by_their_turn(
                pa.OSFile(str(folder / source.source)),
                tps=source.ceiling.tps,
                ttl_seconds=job.settings.sweep.session_ttl_seconds,
                now=job.started_at.timestamp(),
            )
            for source in plan.sources
        }
    return plan, too_late


def _until(stop: threading.Event, reader: Iterable[manifest.Chunk]) -> Iterator[manifest.Chunk]:
    for chunk in reader:
        if stop.is_set():
            raise Stopped("stopped while planning: nothing was asked")
        yield chunk


def _planned(
    job: Job, store: Store, folder: Path, reader: Iterable[manifest.Chunk], rejects: records.RejectsFile
) -> Plan:
    def chunks() -> Iterator[tuple[pa.RecordBatch, int, int]]:
        for chunk in reader:
            rejects.add(chunk.rejects)
            yield chunk.ids, chunk.lines, len(chunk.rejects)

    with open_engine(folder, job.settings.publish.memory_limit) as engine:
        return plan_manifest(
            engine,
            chunks(),
            lambda dt, columns: landing.scan_partition(store, dt, columns),
            folder,
            plan_options(job, lambda source: ceiling_of(job, source)),
            forgotten=read_tombstones(store).hex_digests(),
        )


def plan_options(job: Job, ceiling: Callable[[str], Ceiling]) -> PlanOptions:
    """How the job's manifest is planned. Raises UsageError for a source without a region."""
    return PlanOptions(
        regions={name: source_region(source) for name, source in job.sources.items()},
        ceiling_of=ceiling,
        now=job.started_at,
        ttl_seconds=job.settings.sweep.session_ttl_seconds,
        ask_again=job.ask_again,
        attributes=bool(job.settings.manifest.attributes),
    )


@contextmanager
def leased(job: Job, plan: Plan, stop: threading.Event) -> Iterator[None]:
    """Holds the leases of the sources that the plan asks; `stop` is set if one is lost.

    Raises LeaseHeld, and takes back what `plan_run` wrote: nothing has been asked.
    """
    store = open_output(job.settings)
    sources = [source.source for source in plan.sources if source.to_ask]
    try:
        with held_leases(store, sources, job.run_id, job.share, stop.set, stop.is_set):
            yield
    except LeaseHeld:
        drop_plan(job, plan)
        store.delete(records.record_path(table, job.started_at, job.run_id) for table in ("runs", "rejects"))
        raise


def sweep_source(
    job: Job,
    plan: Plan,
    source: str,
    *,
    part: int = 0,
    parts: int = 1,
    stop: threading.Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> SweepReport:
    """Ask one source for its planned ids (of every `parts` the one at `part`, at that share of its ceiling).

    It drains once `stop` is set; without one, once `ask_to_stop` was called for the job, in whatever process.
    Raises StoreError where answers could not be landed; its message says where they were rescued to.
    """
    store = open_output(job.settings)
    planned = next(planned for planned in plan.sources if planned.source == source)
    ttl_seconds = job.settings.sweep.session_ttl_seconds
    return sweep_asks(
        job,
        source,
        read_asks(_local_plan(store, job.plan_path(source)), part=part, parts=parts, ttl_seconds=ttl_seconds),
        Governor(planned.ceiling.tps / parts),
        part_name=f"{source}-{part}",
        shown_as=source if parts == 1 else f"{source} {part + 1}/{parts}",
        to_ask=lambda: (planned.to_ask + parts - 1 - part) // parts,
        stop=stop or _StopAsked(store, job),
        on_progress=on_progress,
    )


def sweep_asks(
    job: Job,
    source: str,
    asks: Iterator[Ask | None],
    governor: Governor,
    *,
    part_name: str,
    shown_as: str,
    to_ask: Callable[[], int],
    stop: threading.Event,
    enough: threading.Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> SweepReport:
    """Ask one source for the ids of an iterator, at the governor's pace, and land the answers in parts of that name.

    It drains once `stop` is set. `enough` ends it as well, but for calls that take longer than the next sweep can wait.
    Raises StoreError where answers could not be landed; its message says where they were rescued to.
    """
    store, settings, config = open_output(job.settings), job.settings.sweep, job.sources[source]
    client = source_client(job, source)
    origin = Origin(source, client.meta.region_name, job.run_id)
    writer = LandingWriter(
        store,
        job.run_id,
        part_name,
        checkpoint_seconds=settings.checkpoint_seconds,
        erase_images=image_eraser(job.settings),
    )
    sweep = Sweep(
        origin,
        asks,
        rekognition.fetch_with(client),
        keep_images(job.settings),
        writer,
        governor,
        retry=RetryPolicy(settings.retry_attempts, settings.retry_seconds),
        ttl_seconds=settings.session_ttl_seconds,
        max_in_flight=config.max_in_flight or settings.max_in_flight,
    )

    hurry_until = hurry_after(stop)

    def tick() -> None:
        if hurry_until() is not None:
            sweep.stop()
        elif enough is not None and enough.is_set():
            sweep.stop(ENOUGH_DRAIN_SECONDS)
        if on_progress is not None:
            counts = sweep.counts
            on_progress(
                Progress(
                    shown_as,
                    to_ask(),
                    counts.finished,
                    counts.calls,
                    counts.throttled_calls,
                    sweep.rate(),
                    governor.ceiling,
                )
            )

    not_asked = 0
    try:
        tick()  # a stop that was asked for already must not come after the first calls
        with _ticking(tick):
            counts = sweep.run(settings.drain_seconds)
        for ask in sweep.asks if job.command == "run" else ():
            if ask is None:
                break
            while not (writer.gave_up or stop.is_set() or writer.wait_for_room(1.0)):
                pass
            if writer.gave_up or stop.is_set():
                break
            writer.land(ask.dt, not_asked_row(origin, ask))
            not_asked += 1
    finally:
        rescued = writer.close(hurry_until=hurry_until)
        client.close()
    if rescued:
        error = StoreError(
            f"{writer.failure or 'the output did not take the last answers in time'}; they are safe in "
            f"{rescued[0].parent.parent}, and the next run with this output lands them"
        )
        if stop.is_set():
            # Now: with an output that stalls, the process may not come to its own end.
            log.error("%s", error, extra={"source": source})
        raise error
    if job.command == "sweep" and job.settings.publish.fold and not stop.is_set():
        for dt in writer.partitions:
            with store.lock(f"partition-{dt}"):
                rewrite.fold(store, dt, at_least=MANY_PARTS)
    return SweepReport(source, counts, dict(writer.by_outcome), not_asked, stop.is_set())


def image_eraser(settings: Settings) -> EraseImages:
    return partial(erase_images, *image_places(settings)[-1])


def _local_plan(store: Store, path: str) -> pa.NativeFile:
    """A source's plan, here: an output that stalls must not hold up the workers on their way to the next id."""
    with store.scratch() as folder:
        (copy,) = store.local_copies([Entry(path, 0, "")], folder)
        return pa.OSFile(str(copy), "rb")  # open, it outlives the folder


def slices_of(job: Job, source: SourcePlan) -> int:
    """Into how many slices a source is cut, for processes that share nothing: none has to be faster than one can."""
    if job.settings.scale.runner == "threads":
        return 1
    return max(job.settings.scale.slices, math.ceil(source.ceiling.tps / ONE_PROCESS_TPS))


def ask_to_stop(job: Job) -> None:
    """Drain the job's sweeps in other processes. Raises StoreError."""
    open_output(job.settings).put(job.stop_path, b"")


class _StopAsked(threading.Event):
    """Set once `ask_to_stop` was called for the job: looks into the output, about once a second."""

    def __init__(self, store: Store, job: Job) -> None:
        super().__init__()
        self._store, self._path, self._looked_at = store, job.stop_path, 0.0

    def is_set(self) -> bool:
        now = time.monotonic()
        if not super().is_set() and now - self._looked_at >= 1.0:
            self._looked_at = now
            with contextlib.suppress(StoreError):  # an output that fails stops the sweep in its own way
                if self._store.head(self._path) is not None:
                    self.set()
        return super().is_set()


def publish_partition(settings: Settings, dt: date, *, rebuild: bool = False) -> publish.Published:
    """Make one partition's tables right. Raises StoreError."""
    options = settings.publish
    return publish.publish_partition(
        open_output(settings),
        dt,
        rebuild=rebuild,
        fold=options.fold,
        row_group_rows=options.row_group_rows,
        memory_limit=options.memory_limit,
    )


def landed_partitions(settings: Settings, first: date | None, last: date | None) -> list[date]:
    """The partitions with landed rows between two dates (both included). Raises StoreError."""
    return [
        dt
        for dt in landing.list_partitions(open_output(settings))
        if (first is None or dt >= first) and (last is None or dt <= last)
    ]


@contextmanager
def _ticking(tick: Callable[[], None]) -> Iterator[None]:
    """Calls `tick` a few times a second from a thread of its own, and once more at the end."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(_TICK_SECONDS):
            tick()

    thread = threading.Thread(target=work, name="tick", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        tick()
