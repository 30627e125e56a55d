"""What the commands have in common that ask or land: signals, progress, alerts, and the record as a file."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from liveness_etl import logs
from liveness_etl.errors import LivenessError

if TYPE_CHECKING:
    from liveness_etl.job import Job
    from liveness_etl.run_report import RunReport

signalled: Final = threading.Event()
"""Set by the first SIGINT or SIGTERM that a command drains for."""


def run_shown(job: "Job", quiet: bool) -> "RunReport":
    """Do a run with its progress and its report on standard error, and with its alerts. Raises LivenessError."""
    from liveness_etl import alarms, display, pipeline

    logs.about(run_id=job.run_id)
    with draining() as stop:
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

    with draining() as stop:
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


@contextmanager
def draining() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set the event; a second one ends the process at once."""
    stop = threading.Event()

    def on_signal(number: int, frame: object) -> None:
        if stop.is_set():
            os._exit(3)
        stop.set()
        signalled.set()
        threading.Thread(target=_exit_late, daemon=True).start()
        logs.say_in_a_signal("stopping: finishing what is in flight, then landing it (again to stop at once)")

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_late() -> None:
    """End the process within the contract's 10 s, whatever still holds it up: nothing that landed can be lost."""
    time.sleep(9.7)
    os._exit(3)
