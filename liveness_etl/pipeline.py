"""The story of a run: plan, sweep, publish, record.

Each step is a function of a Job and small values, so that the command line runs them in a row and a Prefect
flow as tasks, on this machine or another. Between the steps stand files in the output, never ids in memory.
"""

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from importlib.metadata import version
from typing import Any

from liveness_etl.engine import open_engine
from liveness_etl.errors import StoreError, UsageError
from liveness_etl.extract import manifest, rekognition
from liveness_etl.extract.ask import Origin, not_asked_row
from liveness_etl.extract.ceiling import Ceiling, source_ceiling
from liveness_etl.extract.governor import Governor
from liveness_etl.extract.plan import Plan, PlanOptions, plan_manifest, read_asks
from liveness_etl.extract.retry import RetryPolicy
from liveness_etl.extract.sweep import KeepImages, Sweep, SweepCounts
from liveness_etl.load import images, landing, publish, records
from liveness_etl.load.landing_writer import LandingWriter, land_rescued
from liveness_etl.settings import Settings, Source
from liveness_etl.storage import Store, open_store
from liveness_etl.transform.normalize import NOT_ASKED

_TICK_SECONDS = 0.25


@dataclass(frozen=True)
class Job:
    """What a run was asked to do: references and settings, so that it travels between processes."""

    command: str
    manifest_uri: str
    settings: Settings
    sources: Mapping[str, Source]
    run_date: date | None = None
    ask_again: tuple[str, ...] = ()
    flow_run_id: str | None = None
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    run_id: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z-{uuid.uuid4().hex[:8]}")


@dataclass(frozen=True)
class Progress:
    """Where the sweep of one source stands. Rates in calls a second."""

    source: str
    to_ask: int
    finished: int
    calls: int
    throttled: int
    allowed_tps: float
    ceiling_tps: float


@dataclass(frozen=True)
class SweepReport:
    """What the sweep of one source (or a slice of one) came to."""

    source: str
    ceiling: Ceiling
    counts: SweepCounts
    by_outcome: Mapping[str, int]
    not_asked: int
    interrupted: bool


@dataclass(frozen=True)
class RunReport:
    """What a run came to: its `runs` row, the sweeps, the partitions published, and the exit code."""

    row: Mapping[str, Any]
    plan: Plan
    sweeps: tuple[SweepReport, ...]
    published: tuple[publish.Published, ...]
    exit_code: int


class Observer:
    """Is told how a run goes; the command line shows it. The default shows nothing."""

    def planned(self, plan: Plan, ceilings: Mapping[str, Ceiling]) -> None:
        """The plan is made; sweeping begins."""

    def progressed(self, progress: Progress) -> None:
        """A source has moved on; called a few times a second."""

    def published(self, published: publish.Published) -> None:
        """A partition's tables are right."""


def run(job: Job, observer: Observer | None = None, stop: threading.Event | None = None) -> RunReport:
    """Plan, sweep, publish and record (`job.command` "sweep" publishes nothing).

    `stop`, once set, drains the sweeps; then nothing is published and the exit code is 3. Raises LivenessError.
    """
    observer = observer or Observer()
    stop = stop or threading.Event()
    plan, row = plan_run(job)
    observer.planned(plan, ceilings(job))
    to_sweep = [source.source for source in plan.sources if source.to_ask]
    with ThreadPoolExecutor(max(1, len(to_sweep)), "source") as pool:
        sweeping = [
            pool.submit(sweep_source, job, plan, name, stop=stop, on_progress=observer.progressed) for name in to_sweep
        ]
        try:
            sweeps = tuple(future.result() for future in sweeping)
        except BaseException:
            stop.set()
            raise
    published = []
    if job.command == "run" and not stop.is_set():
        for dt in plan.partitions:
            published.append(publish_partition(job.settings, dt))
            observer.published(published[-1])
    return finish_run(job, plan, row, sweeps, tuple(published), completed=not stop.is_set())


def plan_run(job: Job) -> tuple[Plan, dict[str, Any]]:
    """Read the manifest, subtract what is final, write the plan and the record of a started run.

    Returns the plan and the record. Nothing is written where the manifest, a source or the output is unusable.
    Raises LivenessError.
    """
    store = open_output(job.settings)
    regions = {name: _region(source) for name, source in job.sources.items()}
    reader = read_manifest(job)
    with store.scratch() as folder:
        land_rescued(store)
        with (
            open_engine(folder, job.settings.publish.memory_limit) as engine,
            records.rejects_file(folder, job.run_id) as rejects,
        ):
            plan = plan_manifest(
                engine,
                _chunks(reader, rejects),
                lambda dt, columns: landing.scan(store, landing.read_landed(store, dt).parts, columns),
                folder,
                PlanOptions(regions, job.started_at, job.settings.sweep.session_ttl_seconds, job.ask_again),
            )
            for source in plan.sources:
                if source.to_ask:
                    _client(job, source.source)  # credentials, region, endpoint: found out before any call
            rejects.put(store, job.started_at)
        for source in plan.sources:
            store.put(_plan_path(job, source.source), folder / source.source)
    row = _started_row(job, plan, reader.sha256)
    records.write_run(store, row)
    return plan, row


def read_manifest(job: Job) -> manifest.ManifestReader:
    """The job's manifest, found but not yet read. Raises ManifestError."""
    settings = job.settings.manifest
    inputs = None
    if job.manifest_uri.startswith("s3://"):
        from liveness_etl.storage_s3 import S3Inputs, s3_client

        output = job.settings.output
        inputs = S3Inputs(s3_client(output.endpoint_url, output.region, output.profile))
    return manifest.read_manifest(
        manifest.find_manifest(job.manifest_uri, job.run_date, inputs),
        manifest.ManifestOptions(
            session_id_column=settings.session_id_column,
            created_at_column=settings.created_at_column,
            source_column=settings.source_column,
            attributes=settings.attributes,
            max_bytes=settings.max_bytes,
            max_line_bytes=settings.max_line_bytes,
        ),
        run_date=job.run_date,
        sources=tuple(job.sources),
        default_source=next(iter(job.sources)) if len(job.sources) == 1 else None,
        now=job.started_at,
        inputs=inputs,
    )


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

    Raises StoreError where answers could not be landed; its message says where they were rescued to.
    """
    store, settings, config = open_output(job.settings), job.settings.sweep, job.sources[source]
    ceiling = ceilings(job)[source]
    to_ask = next(planned.to_ask for planned in plan.sources if planned.source == source)
    writer = LandingWriter(store, job.run_id, f"{source}-{part}", checkpoint_seconds=settings.checkpoint_seconds)
    client = _client(job, source)
    origin = Origin(source, client.meta.region_name, job.run_id)
    sweep = Sweep(
        origin,
        read_asks(store.open(_plan_path(job, source)), part=part, parts=parts),
        rekognition.fetch_with(client),
        _keep_images(job.settings, store),
        writer,
        Governor(ceiling.tps / parts),
        retry=RetryPolicy(settings.retry_attempts, settings.retry_seconds),
        ttl_seconds=settings.session_ttl_seconds,
        max_in_flight=config.max_in_flight or settings.max_in_flight,
    )
    stop = stop or threading.Event()

    def tick() -> None:
        if stop.is_set():
            sweep.stop()
        if on_progress is not None:
            counts = sweep.counts
            on_progress(
                Progress(
                    source,
                    to_ask,
                    counts.finished,
                    counts.calls,
                    counts.throttled_calls,
                    sweep.rate(),
                    ceiling.tps,
                )
            )

    try:
        with _ticking(tick):
            counts = sweep.run(settings.drain_seconds)
        not_asked = 0
        if job.command == "run" and not stop.is_set():
            for ask in sweep.asks:
                while not writer.wait_for_room(1.0) and not writer.gave_up:
                    pass
                writer.land(ask.dt, not_asked_row(origin, ask))
                not_asked += 1
    finally:
        rescued = writer.close(1.0 if stop.is_set() else 60.0)
    if rescued:
        raise StoreError(
            f"{writer.failure or 'the output did not take the last answers in time'}; they are safe in "
            f"{rescued[0].parent.parent}, and the next run with this output lands them"
        )
    if job.command == "sweep":
        for dt in writer.partitions:
            with store.lock(f"partition-{dt}"):
                landing.fold(store, dt, at_least=200)
    return SweepReport(source, ceiling, counts, dict(writer.by_outcome), not_asked, stop.is_set())


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


def finish_run(
    job: Job,
    plan: Plan,
    row: dict[str, Any],
    sweeps: tuple[SweepReport, ...],
    published: tuple[publish.Published, ...],
    *,
    completed: bool,
) -> RunReport:
    """Replace the run's record by the final one, drop the plan, and say with which code to exit."""
    store = open_output(job.settings)
    by_outcome: Counter[str] = Counter()
    for sweep in sweeps:
        by_outcome.update(sweep.by_outcome)
    landed = sum(by_outcome.values()) - by_outcome[NOT_ASKED]
    not_asked = plan.requested - plan.already_final - landed
    if completed and job.command == "run" and not_asked != by_outcome[NOT_ASKED]:
        raise RuntimeError(f"{not_asked - by_outcome[NOT_ASKED]} ids are unaccounted for: this is a bug")
    row = row | {
        "finished_at": datetime.now(UTC),
        "landed": landed,
        "not_asked": not_asked,
        "calls": sum(sweep.counts.calls for sweep in sweeps),
        "throttled_calls": sum(sweep.counts.throttled_calls for sweep in sweeps),
        "retried_calls": sum(sweep.counts.retried_calls for sweep in sweeps),
        "by_outcome": sorted(by_outcome.items()),
        "expired_before_fetch": sum(sweep.counts.expired_before_fetch for sweep in sweeps),
        "completed": completed,
    }
    records.write_run(store, row)
    store.delete(_plan_path(job, source.source) for source in plan.sources)
    incomplete = not completed or not_asked or any(sweep.counts.incomplete for sweep in sweeps)
    return RunReport(row, plan, sweeps, published, 3 if incomplete else 0)


def open_output(settings: Settings) -> Store:
    """The store of the output. Raises UsageError where none is configured."""
    output = settings.output
    if output.uri is None:
        raise UsageError("no output: give --output with a folder or an s3:// address")
    return open_store(
        output.uri,
        endpoint_url=output.endpoint_url,
        region=output.region,
        profile=output.profile,
        kms_key_id=output.kms_key_id,
        expected_bucket_owner=output.expected_bucket_owner,
    )


def ceilings(job: Job) -> dict[str, Ceiling]:
    """The ceiling of each source, and why."""
    return {
        name: source_ceiling(_region(source), max_tps=source.max_tps, quota_share=source.quota_share)
        for name, source in job.sources.items()
    }


def _region(source: Source) -> str:
    return rekognition.region_of(source.region, source.profile)


def _client(job: Job, source: str) -> Any:
    config = job.sources[source]
    return rekognition.rekognition_client(
        region=_region(config),
        profile=config.profile,
        endpoint_url=config.endpoint_url,
        connections=config.max_in_flight or job.settings.sweep.max_in_flight or 512,
        timeout_seconds=job.settings.sweep.call_timeout_seconds,
    )


def _keep_images(settings: Settings, store: Store) -> KeepImages:
    if settings.images.mode == "discard":
        return images.discard_images
    if settings.images.uri is None:
        return images.store_images(store, "images/")
    output = settings.output
    return images.store_images(
        open_store(
            settings.images.uri,
            endpoint_url=output.endpoint_url,
            region=output.region,
            profile=output.profile,
            kms_key_id=settings.images.kms_key_id or output.kms_key_id,
            expected_bucket_owner=output.expected_bucket_owner,
        ),
        "",
    )


def _chunks(reader: manifest.ManifestReader, rejects: records.RejectsFile) -> Iterator[tuple[Any, int, int]]:
    for chunk in reader:
        rejects.add(chunk.rejects)
        yield chunk.ids, chunk.lines, len(chunk.rejects)


def _started_row(job: Job, plan: Plan, sha256: str) -> dict[str, Any]:
    return {
        "run_id": job.run_id,
        "flow_run_id": job.flow_run_id,
        "started_at": job.started_at,
        "finished_at": None,
        "command": job.command,
        "manifest_uri": job.manifest_uri.partition("?")[0],
        "manifest_sha256": sha256,
        "version": version("liveness-etl"),
        "lines": plan.lines,
        "requested": plan.requested,
        "duplicates": plan.duplicates,
        "rejected": plan.rejected,
        "forgotten": plan.forgotten,
        "already_final": plan.already_final,
        "landed": 0,
        "not_asked": plan.requested - plan.already_final,
        "calls": 0,
        "throttled_calls": 0,
        "retried_calls": 0,
        "by_outcome": [],
        "expired_before_fetch": 0,
        "completed": False,
    }


def _plan_path(job: Job, source: str) -> str:
    return f".tmp/{job.run_id}/{source}"


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
