"""Capture in time: `sweep` of a manifest that grows, in rounds, until nothing is left to ask or for ever.

    listing ─► objects that are not done ─► round: plan, sweep, record ─► objects that are done now ─► listing …

A round is a run of its own, with its record. It ends when all is asked; while ids that may be alive are among them,
after a third of their life at the latest, so that those which were not finished yet are asked again in the next one.
An object is done when a plan finds nothing to ask in it. So it is a later look that says so, never the sweep that
asked: whatever a killed sweep leaves behind is found by the next.
"""

import logging
import threading
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Final

from liveness_etl import alarms
from liveness_etl.capture_known import Known
from liveness_etl.capture_round import Round
from liveness_etl.errors import LivenessError, ManifestError, Stopped, UsageError
from liveness_etl.extract.growing import considered_dates, is_growing, list_growing
from liveness_etl.extract.manifest_files import without_query
from liveness_etl.job import Job, inputs_for, open_output
from liveness_etl.load.manifest_memory import ManifestMemory
from liveness_etl.run_report import Observer, RunReport

log = logging.getLogger(__name__)

LIST_SECONDS: Final = 15.0
"""How often the manifest is listed while a sweep works, and by `--follow` always."""

_LOOK_AGAIN_SECONDS: Final = 60.0  # how often objects are looked at that have unfinished, expired ids
_LONGEST_PAUSE_SECONDS: Final = 60.0


def in_rounds(job: Job) -> bool:
    """Whether the job is a sweep of a manifest that grows."""
    return job.command == "sweep" and not job.ask_again and is_growing(job.manifest_uri)


def sweep_growing(
    job: Job, observer: Observer, stop: threading.Event, *, list_seconds: float = LIST_SECONDS
) -> RunReport:
    """Sweep the objects of `job.manifest_uri`, and those that come meanwhile, until nothing is left to ask.

    The report is the last round's; `observer` is told of those before it. `stop` drains it. Raises LivenessError.
    """
    report = Capture(job, observer, stop, follow=False, list_seconds=list_seconds).run()
    if report is None:
        raise Stopped("stopped while planning: nothing was asked")
    return report


def follow_growing(
    job: Job, observer: Observer, stop: threading.Event, *, list_seconds: float = LIST_SECONDS
) -> tuple[int, RunReport | None]:
    """The same until `stop` is set: gives the exit code and the last round's report, if anything was ever asked.

    What goes wrong is logged and tried again, but for wrong usage before the first round. `observer` is told of every
    round in which there was something to ask. Raises UsageError.
    """
    if not in_rounds(job):
        raise UsageError(
            "--follow needs a manifest that grows: an s3:// prefix that ends in /, or a glob of local files in quotes"
        )
    capture = Capture(job, observer, stop, follow=True, list_seconds=list_seconds)
    report = capture.run()
    return capture.exit_code, report


class Capture:
    """`run` does it; `exit_code` says how it ended, where `follow` has no report of a last round."""

    def __init__(
        self, job: Job, observer: Observer, stop: threading.Event, *, follow: bool, list_seconds: float
    ) -> None:
        self.exit_code = 0
        self._job, self._observer, self._stop = job, observer, stop
        self._follow, self._list_seconds = follow, list_seconds
        self._known: Known | None = None
        self._looked_at = time.monotonic()

    def run(self) -> RunReport | None:
        """The last round's report; None if there was nothing to ask, ever. Raises LivenessError."""
        job, last, pause, started = self._job, None, 0.0, False
        while not self._stop.is_set():
            try:
                found, goes_on = self._round(job, first=not started, recorded=last is None and not self._follow)
            except LivenessError as error:
                if not self._follow or (isinstance(error, UsageError) and not started):
                    raise
                if self._stop.is_set():
                    log.error("%s", error)
                    self.exit_code = error.exit_code
                    break
                if not pause:  # once, however often it is tried
                    alarms.failed(job, error)
                pause = min(max(1.0, pause * 2), _LONGEST_PAUSE_SECONDS)
                log.error("%s; trying again in %g s", error, pause)
                self._stop.wait(pause)
            else:
                started, pause = True, 0.0
                if found is not None:
                    if last is not None and not self._follow:
                        self._recorded(last)
                    incomplete = last is not None and any(sweep.counts.incomplete for sweep in last.sweeps)
                    last = replace(found, exit_code=3) if incomplete and not self._follow else found
                    if self._follow:
                        self._recorded(found)
                self.exit_code = found.exit_code if found is not None else 0
                if not goes_on:
                    break
            job = job.again()
        return last

    def _recorded(self, report: RunReport) -> None:
        self._observer.recorded(report)
        alarms.ended(self._job, report.row)

    def _round(self, job: Job, *, first: bool, recorded: bool) -> tuple[RunReport | None, bool]:
        """One round, and whether there is another one to come, after a pause if there is time for it."""
        known = self._known_by_now(must_exist=first)
        this = Round(
            job,
            known,
            lambda: self._list(known, must_exist=False),
            self._observer,
            self._stop,
            list_seconds=self._list_seconds,
            first=first,
            follow=self._follow,
            always_recorded=recorded,
        )
        found = this.run()
        if not self._follow:
            if known.broken and not this.limited and not self._stop.is_set():
                if found is not None:
                    self._recorded(found)
                raise ManifestError(_unreadable(known))
            return found, this.limited and not this.lost
        if not this.limited:
            self._stop.wait(known.listed_at + self._list_seconds - time.monotonic())
            if time.monotonic() - self._looked_at >= _LOOK_AGAIN_SECONDS:
                self._looked_at = time.monotonic()
                known.handed.clear()
        return found, True

    def _known_by_now(self, *, must_exist: bool) -> Known:
        if self._known is None:
            memory = ManifestMemory(open_output(self._job.settings), without_query(self._job.manifest_uri))
            known = Known(memory, inputs_for([self._job.manifest_uri], self._job.settings))
            self._list(known, must_exist=must_exist)
            left = known.sorted(self._job.settings.sweep.session_ttl_seconds).left_alone
            if left:
                log.info(
                    "%d objects of the manifest with unfinished ids have not changed since %s and are left alone "
                    "(manifest.lookback_days); the command run asks for all ids of a manifest",
                    *(left, known.first_day),
                )
            self._known = known
        elif time.monotonic() >= self._known.listed_at + self._list_seconds:
            self._list(self._known, must_exist=must_exist)
        return self._known

    def _list(self, known: Known, *, must_exist: bool) -> None:
        job = self._job
        days = job.settings.manifest.lookback_days
        run_date = job.run_date or datetime.now(UTC).date()
        dates: list[date | None] = [job.run_date]
        if "{date}" in job.manifest_uri:
            if job.run_date is None and not self._follow:
                raise ManifestError(
                    f"The manifest {without_query(job.manifest_uri)} has {{date}} in it: give the run a --date."
                )
            dates = [*considered_dates(run_date, days)]
        known.listed_at = time.monotonic()
        listing = list_growing(job.manifest_uri, dates, known.inputs, must_exist=must_exist)
        known.take(listing, run_date - timedelta(days=days))


def _unreadable(known: Known) -> str:
    problems = [*known.broken.values()]
    more = f" (and {len(problems) - 1:,} objects more; all others were swept)" if len(problems) > 1 else ""
    return f"{problems[0]}{more}"
