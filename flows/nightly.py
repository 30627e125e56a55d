"""The nightly run as a Prefect flow: a plan task, sweep tasks (a source or a slice each), publish tasks, a record task.

As a script, `python flows/nightly.py MANIFEST --output URI` runs the flow with a temporary server of Prefect's own (or
with the one that PREFECT_API_URL names) and exits as `liveness-etl run` does: 0 complete, 1 a bug or a broken store, 2
wrong usage, 3 incomplete. The flows for schedules stand in deployed.py, and run the same tasks.

How a run ends in Prefect. Completed: every id is final or pending. Failed, with a plain sentence as the state's
message: all else. That includes a run that is incomplete or outside the limits of `[alerts]`, after all that could be
saved was saved: nobody looks at a green run, and Prefect's notifications go by the state's name, so it is not a Failed
under another name either. What a user
can cause ends a task or the flow by returning that state, not by raising, so that no log holds a stack trace for it.

What Prefect keeps of a run: the flow's parameters (references and plain values, never an id or a secret), states, log
lines and artifacts, which hold counts and no session ids. Of a task's parameters it keeps only which task they came
from, and no result is persisted: the output is the truth, and the next run plans from it.
"""

import datetime
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

if __name__ == "__main__":
    import nightly_script  # sets Prefect's environment, and imports this file again under its own name

    nightly_script.run()

import nightly_dask
from nightly_alarms import alarm_with, attended, check_ended, settings_of_nightly
from nightly_artifacts import progress_shown, save_figures
from nightly_figures import manifest_name, standing, what_was_published
from nightly_log import start_log
from nightly_quiet import leave_out_expected
from nightly_signals import draining
from prefect import State, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import wait
from prefect.runtime import flow_run, task_run
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field, PositiveFloat

from liveness_etl import display, pipeline, run_plan, run_report, run_sweep
from liveness_etl.errors import LivenessError, UsageError
from liveness_etl.extract.plan import Plan
from liveness_etl.job import Job
from liveness_etl.load.publish import Published
from liveness_etl.run_report import RunReport, SweepReport
from liveness_etl.settings import Settings, load_settings

leave_out_expected()

PUBLISH_TASKS = 100
"""At most so many publish tasks a run: Prefect's database bears about 200 task runs in a flow run."""


# The flow and its tasks


_ALARMS = alarm_with(settings_of_nightly)


def _run_name() -> str:
    date = _run_date(flow_run.parameters.get("date") or "today")
    return f"liveness-nightly {date} {manifest_name(flow_run.parameters.get('manifest'), date)}".rstrip()


@flow(
    name="liveness-nightly",
    flow_run_name=_run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=64),  # type: ignore[arg-type]  # as Prefect's own examples do
    persist_result=False,
    on_failure=_ALARMS,
    on_crashed=_ALARMS,
    on_cancellation=_ALARMS,
)
def nightly(
    manifest: str | None = None,
    output: str | None = None,
    date: datetime.date | Literal["today", "yesterday"] | None = None,
    config: Path | None = None,
    region: str | None = None,
    endpoint_url: str | None = None,
    allow_endpoint: Sequence[str] = (),
    max_tps: PositiveFloat | None = None,
    share: Annotated[float, Field(gt=0, le=1)] = 1.0,
    ask_again: Sequence[str] = (),
) -> State[RunReport]:
    """Read the manifest, ask for what is not final yet, publish the tables, record the run.

    The parameters are the flags of `liveness-etl run`. `date` may also be "today" or "yesterday", in UTC and counted
    from when the run was scheduled: a late run and a retry mean the same day.

    SIGINT and SIGTERM drain it: what is in flight is landed, nothing is published, the state is Failed.
    """
    try:
        settings = load_settings(config, {"output.uri": output}, allow_endpoints=tuple(allow_endpoint))
        if not (manifest := manifest or settings.manifest.uri):
            raise UsageError("no manifest: name a file, a glob or an s3:// address, or set manifest.uri")
        job = Job(
            command="run",
            manifest_uri=manifest,
            settings=settings,
            sources=settings.sources_or_default(region, endpoint_url, max_tps, tuple(allow_endpoint)),
            run_date=_run_date(date),
            share=share,
            ask_again=tuple(ask_again),
            flow_run_id=flow_run.id,
        )
        return carried_out(job, run_tasks)
    except LivenessError as error:
        return failed(error)


def carried_out(job: Job, run: Callable[[Job, threading.Event], RunReport]) -> State[RunReport]:
    """Let `run` do the job in this flow run, drained by signals: the state that the flow run ends in.

    Raises LivenessError, an IncompleteRun too.
    """
    start_log(job)
    with attended(job):
        if job.settings.scale.runner == "dask":
            nightly_dask.check_dask(job.settings.scale.address)
        with draining() as stop:
            report = run(job, stop)
        check_ended(job, report, stop.is_set())
    return Completed(message=standing(report), data=report)


def run_tasks(job: Job, stop: threading.Event) -> RunReport:
    """The story of `pipeline.run`, as tasks.

    An error in one sweep does not keep the other sources from their ids. It is raised when they are through and the
    run is recorded (as not completed), and nothing is published: the next run does that, with the missing ids.
    """
    plan, row = plan_manifest.submit(job, stop).result()
    logger = get_run_logger()
    for line in display.source_lines(plan):
        logger.info(line)

    with run_plan.leased(job, plan, stop):
        ended = _swept(job, plan, stop)
        errors = [end for end in ended if isinstance(end, BaseException)]
        for error in errors if stop.is_set() else ():
            logger.error(str(error))  # now: with an output that stalls, the run may not come to its own end
    published: list[Published] = []
    try:
        for some in partition_shares(plan.partitions):
            if errors or stop.is_set():
                break
            published += publish.submit(job.settings, some, stop).result()  # one at a time: each has its memory_limit
    except Exception as error:
        errors.append(error)

    sweeps = tuple(end for end in ended if isinstance(end, SweepReport))
    completed = not errors and not stop.is_set()
    recorded = record.submit(job, plan, row, sweeps, tuple(published), completed)
    if errors:
        recorded.wait()
        raise run_report.first_of(errors)
    report: RunReport = recorded.result()
    return report


def _swept(job: Job, plan: Plan, stop: threading.Event) -> list[Any]:
    """What the sweep of each slice came to: a report or an error."""
    slices: list[dict[str, Any]] = [
        {"job": job, "plan": plan, "source": source.source, "part": part, "parts": parts}
        for source in plan.sources
        if source.to_ask
        for parts in [run_sweep.slices_of(job, source)]
        for part in range(parts)
    ]
    if job.settings.scale.runner == "threads":
        sweeping = [sweep.submit(**given, stop=stop) for given in slices]
        wait(sweeping)
        return [future.result(raise_on_failure=False) for future in sweeping]
    with nightly_dask.dask_runner(job, len(slices), stop) as runner:
        futures = [runner.submit(sweep, given | {"stop": None}) for given in slices]
        return [nightly_dask.ended(future, given["source"]) for future, given in zip(futures, slices, strict=True)]


@task(task_run_name="plan", cache_policy=NO_CACHE, persist_result=False)
def plan_manifest(job: Job, stop: threading.Event) -> Any:
    """`run_plan.plan_run`. Not retried: what a user got wrong stays wrong, and nothing is lost yet."""
    return _or_failed(lambda: run_plan.plan_run(job, stop))


def _sweep_name() -> str:
    given = task_run.parameters
    return f"sweep {given['source']}" + (f" {given['part'] + 1}/{given['parts']}" if given["parts"] > 1 else "")


@task(task_run_name=_sweep_name, cache_policy=NO_CACHE, persist_result=False)
def sweep(job: Job, plan: Plan, source: str, part: int, parts: int, stop: threading.Event | None) -> Any:
    """`run_sweep.sweep_source`, on a thread here or on a Dask worker (where `stop` is None: it looks into the output).

    Not retried: the calls have retries of their own, and a second sweep by the same plan would ask again for what the
    first one landed. The next run plans anew, and asks for what is missing alone.
    """
    with progress_shown(get_run_logger()) as show:
        return _or_failed(
            lambda: run_sweep.sweep_source(job, plan, source, part=part, parts=parts, stop=stop, on_progress=show)
        )


@task(
    task_run_name="publish {partitions[0]}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=[1, 5],
)
def publish(settings: Settings, partitions: Sequence[datetime.date], stop: threading.Event) -> Any:
    """`pipeline.publish_partition` for each. Retried, for a store that fails for a moment: it is a pure function of
    landing, and what a first try finished is current."""
    logger = get_run_logger()

    def publish_all() -> list[Published]:
        published = []
        for dt in partitions:
            if not stop.is_set():
                published.append(pipeline.publish_partition(settings, dt))
                logger.info(f"published {dt}: {what_was_published(published[-1])}")
        return published

    return _or_failed(publish_all)


@task(task_run_name="record", cache_policy=NO_CACHE, persist_result=False)
def record(
    job: Job,
    plan: Plan,
    row: dict[str, Any],
    sweeps: tuple[SweepReport, ...],
    published: tuple[Published, ...],
    completed: bool,
) -> Any:
    """`run_report.finish_run`, and its figures on standard error and as artifacts."""

    def finish() -> RunReport:
        report = run_report.finish_run(job, plan, row, sweeps, published, completed=completed)
        display.show_report(job, report)
        save_figures(report)
        return report

    return _or_failed(finish)


def _or_failed(work: Callable[[], Any]) -> Any:
    """What `work` returns; for an error with a sentence for the user, the state Failed with that sentence."""
    try:
        return work()
    except LivenessError as error:
        return failed(error)


def failed(error: LivenessError) -> State[Any]:
    """The state Failed with the error's sentence; `result()` raises it."""
    return Failed(message=str(error), data=error)


def _run_date(date: datetime.date | str | None) -> datetime.date | None:
    if isinstance(date, str):
        scheduled: datetime.date = flow_run.scheduled_start_time.date()
        return scheduled - datetime.timedelta(days=date == "yesterday")
    return date


def partition_shares(partitions: Sequence[datetime.date]) -> Iterator[Sequence[datetime.date]]:
    """The partitions in at most PUBLISH_TASKS shares, most often of one."""
    size = -(-len(partitions) // PUBLISH_TASKS)
    return (partitions[start : start + size] for start in range(0, len(partitions), size or 1))
