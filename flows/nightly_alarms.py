"""Alarms of flow runs: what Prefect calls when one ends badly, and what a flow asks when it starts and before it ends.

Prefect calls `alarm` in the process of the run, where the job is known, or, when that process is gone, in the one
that started it: there the settings come from the flow run's parameters and the figures from the run's record.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nightly_figures import why_incomplete
from prefect import Flow, State, get_run_logger
from prefect.client.schemas.objects import FlowRun
from prefect.flows import FlowStateHook

from liveness_etl import alarms
from liveness_etl.alarms import Alarm
from liveness_etl.errors import LeaseHeld, LivenessError
from liveness_etl.job import Job
from liveness_etl.run_report import RunReport
from liveness_etl.settings import Settings, load_settings

Hook = FlowStateHook[..., Any]

_ended: dict[str, tuple[Job, BaseException | None]] = {}  # by the id of a flow run of this process


class IncompleteRun(LivenessError):
    """The run ended and was recorded, and it needs somebody's attention: ids have no final result yet (the report's
    exit code is 3), or it left the limits of `[alerts]`. `report` has its figures."""

    exit_code = 3

    def __init__(self, reasons: list[str], report: RunReport) -> None:
        super().__init__(". ".join(reasons))
        self.reasons, self.report = reasons, report


@contextmanager
def attended(job: Job) -> Iterator[None]:
    """Tells of runs that were killed and of days without a run, and knows with what this one ended, if it did badly.

    Prefect gives its hooks a state without the error.
    """
    alarms.notice(job)
    flow_run_id = job.flow_run_id or ""
    _ended[flow_run_id] = (job, None)
    try:
        yield
    except BaseException as error:
        _ended[flow_run_id] = (job, error)
        raise
    else:
        del _ended[flow_run_id]


def check_ended(job: Job, report: RunReport, stopped: bool) -> None:
    """Raises IncompleteRun, for a run of which all that could be saved is saved, with plain reasons."""
    limits = alarms.judge(job, report.row, [done.dt for done in report.published if done.changed])
    for reason in limits:
        get_run_logger().warning(f"alert: {reason}")
    if report.exit_code or limits:
        incomplete = [why_incomplete(report, stopped)] if report.exit_code else []
        raise IncompleteRun([*incomplete, *limits], report)


def alarm_with(settings_of: Callable[[Mapping[str, Any]], Settings]) -> list[Hook]:
    """The hooks for a flow's bad ends. `settings_of` makes the settings out of its parameters."""

    def alarm(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
        flow_run_id = str(flow_run.id)
        job, error = _ended.pop(flow_run_id, (None, None))
        if isinstance(error, LeaseHeld):
            return  # another run is at it
        try:
            settings = job.settings if job is not None else settings_of(flow_run.parameters or {})
        except LivenessError:
            return  # what is wrong with them is the flow run's own message
        if not alarms.tells_somebody(settings):
            return
        if isinstance(error, IncompleteRun):
            code = "Incomplete" if error.report.exit_code else "Threshold"
            told = Alarm(error.reasons, error.report.row, code)
        elif job is not None and error is not None:
            told = alarms.failure(job, error)
        else:
            name = state.name or "Failed"
            row = alarms.record_of_flow_run(settings, flow_run_id)
            told = Alarm([f"the flow run ended as {name}; Prefect says more"], row, name)
        alarms.send(settings, told)

    return [alarm]


def settings_of_nightly(parameters: Mapping[str, Any]) -> Settings:
    """Those of a flow run of `nightly`. Raises ConfigError."""
    config = parameters.get("config")
    endpoints = tuple(parameters.get("allow_endpoint") or ())
    return load_settings(
        Path(config) if config else None, {"output.uri": parameters.get("output")}, allow_endpoints=endpoints
    )
