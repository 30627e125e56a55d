"""The story of a run: plan, sweep, publish, record.

Each step is a function of a Job and small values, so that the command line runs them in a row and a Prefect
flow as tasks, on this machine or another. Between the steps stand files in the output, never ids in memory.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date

from liveness_etl import capture, run_plan, run_sweep
from liveness_etl.errors import LivenessError, StoreError
from liveness_etl.job import Job, open_output
from liveness_etl.load import landing, publish
from liveness_etl.run_report import Observer, RunReport, finish_run, first_of
from liveness_etl.settings import Settings


def run(job: Job, observer: Observer | None = None, stop: threading.Event | None = None) -> RunReport:
    """Plan, sweep, publish and record (`job.command` "sweep" publishes nothing).

    `stop`, once set, drains the sweeps; then nothing is published and the exit code is 3. An error does not keep the
    other sources from their ids: it is raised when they are through and the run is recorded.
    Raises LivenessError.
    """
    observer = observer or Observer()
    stop = stop or threading.Event()
    if capture.in_rounds(job):
        return capture.sweep_growing(job, observer, stop)
    plan, row = run_plan.plan_run(job, stop)
    observer.planned(plan)
    with run_plan.leased(job, plan, stop), ThreadPoolExecutor(len(job.sources), "source") as pool:
        sweeping = [
            pool.submit(run_sweep.sweep_source, job, plan, source.source, stop=stop, on_progress=observer.progressed)
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
