"""Plans some objects of a growing manifest, and says which of them are done with."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from liveness_etl.engine import open_engine
from liveness_etl.errors import ManifestError, Missing, Stopped
from liveness_etl.extract import manifest
from liveness_etl.extract.ceiling import Ceiling
from liveness_etl.extract.growing import GrowingFile, Version
from liveness_etl.extract.manifest_files import Inputs
from liveness_etl.extract.plan import Plan, SourcePlan, plan_manifest, planned_ids, unfinished_files
from liveness_etl.job import Job, manifest_options
from liveness_etl.load import landing, records
from liveness_etl.load.tombstones import read_tombstones
from liveness_etl.run_plan import plan_options
from liveness_etl.storage import Store

_OPEN_AHEAD = 8


@dataclass(frozen=True)
class Batch:
    """The plan of some objects, whose files are in `folder`, and its ids.

    Nothing is left to ask in the objects that are `done`. `met` have malformed lines, which are in the run's rejects by
    now. `broken` could not be read to their end, each with a sentence why.
    """

    plan: Plan
    folder: Path
    ids: pa.ChunkedArray
    files: Sequence[GrowingFile]
    done: frozenset[Version]
    met: frozenset[Version]
    broken: dict[Version, str]


class BatchPlanner:
    """Plans for one run, in whatever thread. `cancel`, or `stop`, ends the plans that are being made: Stopped."""

    def __init__(
        self,
        job: Job,
        store: Store,
        inputs: Inputs | None,
        rejects: records.RejectsFile,
        ceiling_of: Callable[[str], Ceiling],
        met: Collection[Version],
        stop: threading.Event,
    ) -> None:
        self._job, self._store, self._inputs, self._rejects = job, store, inputs, rejects
        self._met, self._stop = met, stop
        self._options = plan_options(job, ceiling_of)
        self._lock = threading.Lock()
        self._interrupts: set[Callable[[], None]] = set()
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """From another thread."""
        self._cancelled.set()
        with self._lock:
            for interrupt in self._interrupts:
                interrupt()

    def plan(self, files: Sequence[GrowingFile], folder: Path, planned: Sequence[pa.ChunkedArray]) -> Batch:
        """Plan these objects, without the ids that the run has `planned` before. An object that cannot be read to its
        end does not keep the others from their turn. Raises Stopped, ManifestError (too many days), StoreError."""
        folder.mkdir()
        ends: list[int] = []
        met: set[Version] = set()
        broken: dict[Version, str] = {}
        options = replace(self._options, now=datetime.now(UTC))
        with open_engine(folder, self._job.settings.publish.memory_limit) as engine:
            interrupt = engine.interrupt
            with self._lock:
                self._interrupts.add(interrupt)
            try:
                plan = plan_manifest(
                    engine,
                    self._chunks(files, ends, met, broken),
                    lambda dt, columns: landing.scan_partition(self._store, dt, columns),
                    folder,
                    options,
                    forgotten=read_tombstones(self._store).hex_digests(),
                    planned=planned,
                )
                unfinished = unfinished_files(engine, ends)
                ids = planned_ids(engine)
            finally:
                with self._lock:
                    self._interrupts.discard(interrupt)
        done = {each.version for number, each in enumerate(files) if number not in unfinished} - broken.keys()
        return Batch(plan, folder, ids, files, frozenset(done), frozenset(met), broken)

    def _chunks(
        self, files: Sequence[GrowingFile], ends: list[int], met: set[Version], broken: dict[Version, str]
    ) -> Iterator[tuple[pa.RecordBatch, int, int]]:
        lines = 0
        with ThreadPoolExecutor(_OPEN_AHEAD, "manifest") as pool:
            ahead = None if self._inputs is None else _OpenedAhead(self._inputs, files, pool)
            for each in files:
                try:
                    for chunk in self._reader(each, ahead):
                        if self._cancelled.is_set() or self._stop.is_set():
                            raise Stopped("stopped while planning")
                        if len(chunk.rejects):
                            met.add(each.version)
                            if each.version not in self._met:
                                with self._lock:
                                    self._rejects.add(chunk.rejects)
                        lines += chunk.lines
                        yield chunk.ids, chunk.lines, len(chunk.rejects)
                except ManifestError as problem:
                    broken[each.version] = str(problem)
                except Missing:
                    pass  # deleted since it was listed
                ends.append(lines)

    def _reader(self, each: GrowingFile, inputs: Inputs | None) -> manifest.ManifestReader:
        sources = self._job.sources
        return manifest.read_manifest(
            [each.file],
            manifest_options(self._job.settings),
            run_date=each.date,
            sources=tuple(sources),
            default_source=next(iter(sources)) if len(sources) == 1 else None,
            now=datetime.now(UTC),
            inputs=inputs,
        )


class _OpenedAhead:
    """Objects on S3 that are read one after the other: the next ones are fetched meanwhile."""

    def __init__(self, inputs: Inputs, files: Sequence[GrowingFile], pool: ThreadPoolExecutor) -> None:
        self._inputs, self._pool = inputs, pool
        self._next = (each.file.uri for each in files if each.file.size)
        self._opening: dict[str, Future[BinaryIO]] = {}

    def find(self, uri: str) -> Sequence[tuple[str, int, str, float]]:
        return self._inputs.find(uri)

    def open(self, uri: str) -> BinaryIO:
        while len(self._opening) < _OPEN_AHEAD and (following := next(self._next, None)) is not None:
            self._opening[following] = self._pool.submit(self._inputs.open, following)
        opening = self._opening.pop(uri, None)
        return self._inputs.open(uri) if opening is None else opening.result()


def merged(one: Plan, other: Plan) -> Plan:
    """Two plans as one. A source's ceiling is that of the later plan."""
    sources = {source.source: source for source in one.sources}
    for source in other.sources:
        before = sources.get(source.source, SourcePlan(source.source, 0, 0, source.ceiling))
        sources[source.source] = SourcePlan(
            source.source, before.requested + source.requested, before.to_ask + source.to_ask, source.ceiling
        )
    return Plan(
        lines=one.lines + other.lines,
        requested=one.requested + other.requested,
        duplicates=one.duplicates + other.duplicates,
        rejected=one.rejected + other.rejected,
        forgotten=one.forgotten + other.forgotten,
        sources=tuple(sources[name] for name in sorted(sources)),
        partitions=tuple(sorted({*one.partitions, *other.partitions})),
    )
