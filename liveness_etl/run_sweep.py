"""How a source is swept: asked for planned ids at its pace, in this process or as a slice of it in another."""

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import pyarrow as pa

from liveness_etl.errors import StoreError
from liveness_etl.extract import rekognition
from liveness_etl.extract.ask import Ask, Origin, not_asked_row
from liveness_etl.extract.governor import Governor
from liveness_etl.extract.plan import Plan, SourcePlan
from liveness_etl.extract.planned import read_asks
from liveness_etl.extract.retry import RetryPolicy
from liveness_etl.extract.sweep import Sweep
from liveness_etl.job import Job, image_eraser, keep_images, open_output, source_client
from liveness_etl.load import rewrite
from liveness_etl.load.landing_writer import LandingWriter, hurry_after
from liveness_etl.run_report import Progress, SweepReport
from liveness_etl.storage import Entry, Store

log = logging.getLogger(__name__)

ONE_PROCESS_TPS: Final = 250
"""Calls a second that one process keeps up on a modest core, measured; botocore's CPU time is the limit."""

ENOUGH_DRAIN_SECONDS: Final = 2.0
"""Seconds that calls in flight get at the end of a round, while ids that may be alive wait for the next one."""

_TICK_SECONDS: Final = 0.25


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
        rewrite.fold_crowded(store, writer.partitions)
    return SweepReport(source, counts, dict(writer.by_outcome), not_asked, stop.is_set())


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
