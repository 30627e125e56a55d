"""What the commands have in common that ask or land: signals, progress, alerts, and the record as a file."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from liveness_etl import logs, signals
from liveness_etl.errors import LivenessError

if TYPE_CHECKING:
    from liveness_etl.job import Job
    from liveness_etl.run_report import RunReport

_DRAIN_SECONDS: Final = 9.7
"""From the first signal to the end of the process, at most: within the contract's ten."""


def drained() -> AbstractContextManager[threading.Event]:
    """An event that says stop: see `signals.draining`."""
    return signals.draining(_DRAIN_SECONDS)


def run_shown(job: "Job", quiet: bool) -> "RunReport":
    """Do a run with its progress and its report on standard error, and with its alerts. Raises LivenessError."""
    from liveness_etl import alarms, display, pipeline

    logs.about(run_id=job.run_id)
    with drained() as stop:
        alarms.notice(job)
        with alarmed(job, stop), display.observer(quiet, job) as observer:
            report = pipeline.run(job, observer, stop)
    display.show_report(job, report)
    alarms.ended(job, report.row, [published.dt for published in report.published if published.changed])
    return report


@contextmanager
def alarmed(job: "Job", stop: threading.Event) -> Iterator[None]:
    """An error is told to those whom alerts go to, unless somebody sits here and stops the run."""
    from liveness_etl import alarms

    try:
        yield
    except Exception as error:
        if not stop.is_set():
            alarms.failed(job, error)
        raise


def follow_shown(job: "Job", quiet: bool, summary: Path | None) -> int:
    """Sweep a growing manifest until a signal comes; the exit code. Raises LivenessError."""
    from liveness_etl import alarms, capture, display

    with drained() as stop:
        alarms.notice(job)
        with display.observer(quiet, job) as observer:
            code, report = capture.follow_growing(job, observer, stop)
    if report is not None:
        write_summary(summary, report.row)
    return code


def write_summary(path: Path | None, row: Mapping[str, Any]) -> None:
    """Write a run's record as JSON, where it was asked for. Raises LivenessError."""
    if path is None:
        return
    from liveness_etl.display import record_json

    try:
        path.write_text(record_json(row) + "\n")
    except OSError as error:
        raise LivenessError(f"the run is done, but {path} cannot be written: {error.strerror}") from None
