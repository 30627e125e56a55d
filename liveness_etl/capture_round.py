"""One round of a sweep of a growing manifest: a run, with a plan that grows while it is swept.

What can still be alive goes first, whenever it comes: objects that were written of late are planned at once, alone;
those whose sessions have expired are planned in the background, some at a time, whenever the sweeps have little left.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from liveness_etl.capture_known import Known
from liveness_etl.capture_plan import Batch, BatchPlanner, merged
from liveness_etl.errors import LivenessError, ManifestError, Stopped, StoreError
from liveness_etl.extract.ask_queue import AskQueue
from liveness_etl.extract.ceiling import Ceiling
from liveness_etl.extract.governor import Governor
from liveness_etl.extract.growing import GrowingFile, Version, first_chunk
from liveness_etl.extract.plan import Plan
from liveness_etl.extract.planned import read_asks
from liveness_etl.job import Job, ceiling_of, check_source, image_eraser, open_output
from liveness_etl.load import records
from liveness_etl.load.landing_writer import land_rescued
from liveness_etl.load.lease import held_leases
from liveness_etl.run_report import Observer, Progress, RunReport, SweepReport, finish_run, first_of, started_row
from liveness_etl.run_sweep import sweep_asks

log = logging.getLogger(__name__)

LONGEST_SECONDS: Final = 3600.0
"""After this a round ends whatever is left: its record is written, and what it landed is folded."""

_ROUND_SHARE: Final = 1 / 3  # of a session's life: so often ids are asked again that were not finished yet
_CHUNK_BYTES: Final = 8 << 20  # of objects whose sessions have expired: about 100,000 lines,
_CHUNK_FILES: Final = 1_000  # planned at a time,
_LOW_SECONDS: Final = 4.0  # when the sweeps have this much left
_LOOK_SECONDS: Final = 0.1


class Round:
    """`run` does it; a round is used once. `limited`: it ended before everything was asked. `lost`: by losing a lease.
    `relist` lists the manifest into `known`."""

    def __init__(
        self,
        job: Job,
        known: Known,
        relist: Callable[[], None],
        observer: Observer,
        stop: threading.Event,
        *,
        list_seconds: float,
        first: bool,
        follow: bool,
        always_recorded: bool,
    ) -> None:
        self.limited = self.lost = False
        self._job, self._known, self._relist = job, known, relist
        self._observer, self._stop = observer, stop
        self._list_seconds, self._first, self._follow = list_seconds, first, follow
        self._always_recorded = always_recorded
        self._store = open_output(job.settings)
        self._ttl_seconds = job.settings.sweep.session_ttl_seconds
        self._plan = Plan(0, 0, 0, 0, 0, (), ())
        self._row: dict[str, Any] | None = None
        self._ids: list[pa.ChunkedArray] = []
        self._planned: set[Version] = set()
        self._fresh: tuple[GrowingFile, ...] = ()
        self._expired: tuple[GrowingFile, ...] = ()
        self._done: set[Version] = set()
        self._met: set[Version] = set()
        self._queues: dict[str, AskQueue] = {}
        self._finished: dict[str, int] = {}
        self._sweeping: dict[str, Future[SweepReport]] = {}
        self._errors: list[BaseException] = []
        self._enough = threading.Event()
        self._ends_at = time.monotonic() + LONGEST_SECONDS
        self._ceiling_of = cache(lambda source: ceiling_of(job, source))

    def run(self) -> RunReport | None:
        """Plan, sweep and record; None if there was nothing to ask, and no record of it is wanted.

        An error does not keep the other sources from their ids: it is raised when they are through and the round is
        recorded. Raises LivenessError.
        """
        known = self._known
        land_rescued(self._store, image_eraser(self._job.settings))
        with self._store.scratch() as folder, records.rejects_file(folder, self._job.run_id) as rejects:
            planner = BatchPlanner(
                self._job, self._store, known.inputs, rejects, self._ceiling_of, known.memory.met, self._stop
            )
            with (
                ExitStack() as leases,
                ThreadPoolExecutor(len(self._job.sources), "source") as sources,
                ThreadPoolExecutor(1, "plan") as background,
            ):
                try:
                    self._feed(planner, folder, background, sources, leases)
                except Stopped:
                    pass
                except LivenessError as error:
                    if self._row is None:
                        raise
                    self._enough.set()
                    self._errors.append(error)
                finally:
                    planner.cancel()
                    for queue in self._queues.values():
                        queue.close()
            return self._recorded(rejects)

    # Feeding the sweeps

    def _feed(
        self,
        planner: BatchPlanner,
        folder: Path,
        background: ThreadPoolExecutor,
        sources: ThreadPoolExecutor,
        leases: ExitStack,
    ) -> None:
        planning: Future[Batch] | None = None
        expired_versions: set[Version] = set()
        number = 0
        self._sort()
        while not self._stop.is_set():
            if fresh := self._fresh:
                number += 1
                self._fresh = ()
                self._planned |= {each.version for each in fresh}
                if self._take(planner.plan(fresh, folder / f"{number}", self._ids), sources, leases):
                    self._ends_at = min(self._ends_at, time.monotonic() + self._ttl_seconds * _ROUND_SHARE)
            if planning is not None and planning.done():
                batch, planning = planning.result(), None
                if self._take(batch, sources, leases) == sum(source.to_ask for source in batch.plan.sources):
                    expired_versions |= {each.version for each in batch.files}
            if planning is None and self._expired and self._have_little_left():
                number += 1
                chunk = first_chunk(self._expired, most_bytes=_CHUNK_BYTES, most_files=_CHUNK_FILES)
                self._expired = self._expired[len(chunk) :]
                self._planned |= {each.version for each in chunk}
                planning = background.submit(planner.plan, chunk, folder / f"{number}", list(self._ids))
            if planning is None and not self._expired and self._all_through():
                self._known.handed |= expired_versions
                return
            if self._enough.is_set() or time.monotonic() >= self._ends_at:
                self.limited = True
                self._enough.set()
                return
            self._look_again()

    def _sort(self) -> None:
        files = self._known.sorted(self._ttl_seconds)
        self._fresh = tuple(each for each in files.fresh if each.version not in self._planned)
        self._expired = tuple(each for each in files.expired if each.version not in self._planned)

    def _look_again(self) -> None:
        self._stop.wait(_LOOK_SECONDS)
        if time.monotonic() >= self._known.listed_at + self._list_seconds:
            try:
                self._relist()
            except (StoreError, ManifestError) as error:
                log.warning("the manifest cannot be listed: %s", error)
            else:
                self._sort()

    def _take(self, batch: Batch, sources: ThreadPoolExecutor, leases: ExitStack) -> int:
        """Hand a batch to the sweeps of its sources, started where they are not yet; returns how many ids."""
        self._plan = merged(self._plan, batch.plan)
        self._ids.append(batch.ids)
        self._done |= batch.done
        self._met |= batch.met
        for version, problem in batch.broken.items():
            log.error("%s", problem)
            self._known.broken[version] = problem
        asked = [source for source in batch.plan.sources if source.to_ask and self._is_ready(source.source, leases)]
        if asked and self._row is None:
            self._start_record()
        for source in asked:
            name = source.source
            file = pa.OSFile(str(batch.folder / name), "rb")
            self._queue(name).add(read_asks(file, ttl_seconds=self._ttl_seconds), source.to_ask)
            if name not in self._sweeping:
                self._sweeping[name] = sources.submit(self._sweep, name, source.ceiling)
        return sum(source.to_ask for source in asked)

    def _is_ready(self, source: str, leases: ExitStack) -> bool:
        """Whether a source may be asked: it answers, and its lease is held. Raises UsageError in a first round that has
        not asked anything yet; else the source is left alone for a while."""
        if source in self._sweeping:
            return True
        if self._known.is_resting(source):
            return False
        try:
            check_source(self._job, source)
            leases.enter_context(
                held_leases(self._store, [source], self._job.run_id, self._job.share, self._on_lost, self._stop.is_set)
            )
        except LivenessError as error:
            if self._first and not self._sweeping:
                raise
            if not self._follow:
                self._errors.append(error)
            self._rest(source, str(error))
            return False
        return True

    def _rest(self, source: str, reason: str) -> None:
        seconds = self._known.rest(source, for_ever=not self._follow)
        if self._follow:
            log.error("%s; source %s is tried again in %g s", reason, source, seconds)

    def _on_lost(self) -> None:
        self.lost = True
        self._enough.set()

    def _queue(self, source: str) -> AskQueue:
        return self._queues.setdefault(source, AskQueue(self._ttl_seconds))

    def _sweep(self, source: str, ceiling: Ceiling) -> SweepReport:
        queue = self._queue(source)

        def progressed(progress: Progress) -> None:
            self._finished[source] = progress.finished
            self._observer.progressed(progress)

        return sweep_asks(
            self._job,
            source,
            queue,
            self._known.governors.setdefault((source, ceiling.tps), Governor(ceiling.tps)),
            part_name=f"{source}-0",
            shown_as=source,
            to_ask=lambda: queue.planned,
            stop=self._stop,
            enough=self._enough,
            on_progress=progressed,
        )

    def _have_little_left(self) -> bool:
        return all(
            sweeping.done() or self._queues[source].left < _LOW_SECONDS * self._ceiling_of(source).tps
            for source, sweeping in self._sweeping.items()
        )

    def _all_through(self) -> bool:
        """Whether every sweep has landed what it was given, or has ended for a reason of its own."""
        return all(
            sweeping.done() or self._finished.get(source, 0) == self._queues[source].planned
            for source, sweeping in self._sweeping.items()
        )

    # The record

    def _start_record(self) -> None:
        self._row = started_row(self._job, self._plan, None)
        records.write_run(self._store, self._row)
        self._observer.planned(self._plan)

    def _recorded(self, rejects: records.RejectsFile) -> RunReport | None:
        for sweeping in self._sweeping.values():
            if (error := sweeping.exception()) is not None:
                self._errors.append(error)
        reports = tuple(future.result() for future in self._sweeping.values() if future.exception() is None)
        for report in reports:
            if report.counts.stopped is not None:
                self._rest(report.source, report.counts.stopped)
            else:
                self._known.rests.pop(report.source, None)
        if self._stop.is_set() and any(isinstance(error, StoreError) for error in self._errors):
            raise first_of(self._errors)  # there is no time to wait for such an output
        if self._row is None and (rejects.rows or (self._always_recorded and not self._stop.is_set())):
            self._start_record()
        recorded = None
        try:
            rejects.put(self._store, self._job.started_at)
            listed = [each.version for each in self._known.files]
            self._known.memory.remember(self._job.run_id, self._done, self._met, listed)
            if self._row is not None:
                completed = not self._errors and not self._stop.is_set() and not self.lost
                recorded = finish_run(
                    self._job, self._plan, started_row(self._job, self._plan, None), reports, (), completed=completed
                )
        except LivenessError as error:
            self._errors.append(error)
        if self._errors:
            raise first_of(self._errors)
        return recorded
