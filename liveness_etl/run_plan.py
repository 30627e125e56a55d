"""How a run is planned: the manifest less what is final, written into the output. No question is asked here."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from liveness_etl.engine import open_engine
from liveness_etl.errors import LeaseHeld, Stopped
from liveness_etl.extract import manifest
from liveness_etl.extract.ceiling import Ceiling
from liveness_etl.extract.plan import Plan, PlanOptions, plan_manifest
from liveness_etl.extract.planned import expired_by_their_turn
from liveness_etl.job import Job, ceiling_of, check_source, image_eraser, open_output, read_manifest, source_region
from liveness_etl.load import landing, records
from liveness_etl.load.landing_writer import land_rescued
from liveness_etl.load.lease import held_leases
from liveness_etl.load.tombstones import read_tombstones
from liveness_etl.run_report import drop_plan, started_row
from liveness_etl.storage import Store


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
