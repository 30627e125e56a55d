"""What runs by schedule: the flows of config/prefect.yaml, `nightly`, `sweep` and `publish`.

Their parameters are what a person may choose in Prefect's form, and no more: a date, a configuration by its name, a
manifest beside the configured one. A date that is not given follows from when the run was scheduled, so that a run that
comes late, is retried or repeated does the same day. How a run ends in Prefect is told in nightly.py.
"""

import datetime
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

from deployed_job import CONFIG_NAME, DATE, MANIFEST, allowed_manifest, configured_job, named_settings, run_when_free
from deployed_report import write_nightly_report
from nightly import carried_out, failed, partition_shares, run_tasks
from nightly import publish as publish_task
from nightly_alarms import alarm_with
from nightly_artifacts import Logger, progress_shown, save_figures, save_report_link
from nightly_figures import manifest_name, what_was_published
from nightly_signals import draining
from prefect import State, flow, get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from liveness_etl import display, pipeline, run_report
from liveness_etl.errors import LeaseHeld, LivenessError, NoManifest, Stopped
from liveness_etl.extract.plan import Plan
from liveness_etl.job import Job
from liveness_etl.load.publish import Published
from liveness_etl.run_report import Observer, Progress, RunReport
from liveness_etl.settings import Settings

DEFAULT_CONFIG = "liveness"

ConfigName = Annotated[str, Field(pattern=CONFIG_NAME)]
# With a look-ahead, which pydantic's patterns lack: for Prefect's API and its form; allowed_manifest looks again.
Manifest = Annotated[str, Field(json_schema_extra={"pattern": MANIFEST})]

Date = Annotated[datetime.date, Field(json_schema_extra={"pattern": DATE})]


def _settings(parameters: Mapping[str, Any]) -> Settings:
    return named_settings(parameters.get("config") or DEFAULT_CONFIG)


_ALARMS = alarm_with(_settings)


def _day(command: str, given: Any) -> datetime.date:
    """The run's date: the given one, else the day of the scheduled start, for `nightly` the day before."""
    if given:
        return given if isinstance(given, datetime.date) else datetime.date.fromisoformat(str(given)[:10])
    scheduled: datetime.date = flow_run.scheduled_start_time.date()
    return scheduled - datetime.timedelta(days=command == "nightly")


def _run_name(command: str) -> str:
    given = flow_run.parameters
    if command == "publish":
        return f"publish {given.get('date') or 'all'}"
    day = _day(command, given.get("date"))
    try:
        manifest = allowed_manifest(given.get("manifest"), named_settings(given.get("config", DEFAULT_CONFIG)))
    except LivenessError:  # which ends the run, and says why
        manifest = None
    return f"{command} {day} {manifest_name(manifest, day)}".rstrip()


# The docstrings' `Args` are what Prefect's form says of each parameter.


@flow(
    name="liveness-nightly",
    flow_run_name=partial(_run_name, "nightly"),
    task_runner=ThreadPoolTaskRunner(max_workers=64),  # type: ignore[arg-type]  # as Prefect's own examples do
    persist_result=False,
    on_failure=_ALARMS,
    on_crashed=_ALARMS,
    on_cancellation=_ALARMS,
)
def nightly(
    config: ConfigName = DEFAULT_CONFIG,
    manifest: Manifest | None = None,
    date: Date | None = None,
) -> State[RunReport]:
    """Ask for what is not final of a day's manifest, publish the tables, record the run, write the report.

    It waits for a run that sweeps its sources: a night's manifest is done late rather than not at all.

    Args:
        config: Name of a configuration, which is NAME.toml in the workers' configuration folder.
        manifest: Another manifest than the configured one, in the same folder or below the same prefix.
        date: The manifest's day, which stands for {date}. Without it: the day before the run was scheduled, in UTC.
    """
    logger = get_run_logger()
    day = _day("nightly", date)

    def run(job: Job, stop: threading.Event) -> RunReport:
        report = run_when_free(run_tasks, job, stop, logger.info)
        if not stop.is_set() and (made := write_nightly_report(job.settings, config, day, logger)):
            save_report_link(*made)
        return report

    try:
        return carried_out(configured_job("run", config, manifest, day, flow_run.id), run)
    except LivenessError as error:
        return failed(error)


@flow(
    name="liveness-sweep",
    flow_run_name=partial(_run_name, "sweep"),
    persist_result=False,
    on_failure=_ALARMS,
    on_crashed=_ALARMS,
    on_cancellation=_ALARMS,
)
def sweep(
    config: ConfigName = DEFAULT_CONFIG,
    manifest: Manifest | None = None,
    date: Date | None = None,
) -> State[RunReport]:
    """Ask for what is not final of the manifest, and land the answers, while they can still be read. No tables.

    Where another run sweeps the source, or the day has no manifest yet, it ends at once, as Completed with the name
    Skipped: that run, or the next minute's, asks for the same ids.

    Args:
        config: Name of a configuration, which is NAME.toml in the workers' configuration folder.
        manifest: Another manifest than the configured one, in the same folder or below the same prefix.
        date: The manifest's day, which stands for {date}. Without it: the day for which the run was scheduled, in UTC.
    """
    logger = get_run_logger()

    def run(job: Job, stop: threading.Event) -> RunReport:
        with progress_shown(logger) as note:
            report = pipeline.run(job, _Watched(logger, note), stop)
        display.show_report(job, report)
        if report.sweeps:  # most minutes bring nothing
            save_figures(report)
        return report

    try:
        job = configured_job("sweep", config, manifest, _day("sweep", date), flow_run.id)
        try:
            return carried_out(job, run)
        except NoManifest as missing:
            if date is not None or "{date}" not in job.manifest_uri:
                raise
            return Completed(name="Skipped", message=str(missing))
    except LeaseHeld as held:
        return Completed(name="Skipped", message=str(held))
    except LivenessError as error:
        return failed(error)


class _Watched(Observer):
    """Tells Prefect how a sweep goes."""

    def __init__(self, logger: Logger, note: Callable[[Progress], None]) -> None:
        self._logger, self._note = logger, note

    def planned(self, plan: Plan) -> None:
        for line in display.source_lines(plan):
            self._logger.info(line)

    def progressed(self, progress: Progress) -> None:
        self._note(progress)


@flow(
    name="liveness-publish",
    flow_run_name=partial(_run_name, "publish"),
    task_runner=ThreadPoolTaskRunner(max_workers=1),  # type: ignore[arg-type]  # as Prefect's own examples do
    persist_result=False,
    on_failure=_ALARMS,
    on_crashed=_ALARMS,
    on_cancellation=_ALARMS,
)
def publish(config: ConfigName = DEFAULT_CONFIG, date: Date | None = None) -> State[list[Published]]:
    """Make the tables of every partition whose landing has changed since they were published. Asks for nothing.

    Args:
        config: Name of a configuration, which is NAME.toml in the workers' configuration folder.
        date: Only this day's partition. Without it: all.
    """
    published: list[Published] = []
    errors: list[BaseException] = []
    try:
        settings = named_settings(config)
        with draining() as stop:
            for some in partition_shares(pipeline.landed_partitions(settings, date, date)):
                try:
                    published += publish_task.submit(settings, some, stop).result()
                except LivenessError as error:  # it keeps no other partition from its tables
                    errors.append(error)
        if errors:
            raise run_report.first_of(errors)
        if stop.is_set():
            raise Stopped("stopped before it was through; the next run publishes the rest")
    except LivenessError as error:
        return failed(error)
    changed = [f"{done.dt}: {what_was_published(done)}" for done in published if done.changed]
    message = f"{len(changed):,} of {len(published):,} partitions published"
    return Completed(message="; ".join([message, *changed[:3], *["…"][: len(changed) > 3]]), data=published)
