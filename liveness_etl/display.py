"""What a person sees of a run: a live bar on a terminal, plain lines elsewhere, and figures at the end."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from liveness_etl.analysis.query import print_rows
from liveness_etl.analysis.verify import Verified
from liveness_etl.analysis.verify_partition import VerifiedPartition
from liveness_etl.extract.plan import Plan
from liveness_etl.job import Job
from liveness_etl.load.publish import Published
from liveness_etl.logs import is_json, say
from liveness_etl.run_report import Observer, RunReport
from liveness_etl.run_report import Progress as SweepProgress

_LINE_SECONDS = 5.0
_stderr = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)  # "[x]" in a name is no markup

PASS_RATE_SQL = """\
SELECT challenges.type AS challenge, count(*) AS sessions,
       round(100.0 * avg((status = 'SUCCEEDED' AND coalesce(confidence >= 80, false))::int), 1) AS pass_rate_percent
FROM sessions JOIN challenges USING (dt, session_id)
GROUP BY ALL ORDER BY challenge"""


@contextmanager
def observer(quiet: bool, job: Job) -> Iterator[Observer]:
    """The observer of a job for this terminal, or for a log file, or for nobody."""
    if quiet:
        yield Observer()
    elif _stderr.is_terminal and not is_json():
        with _Bars(job) as bars:
            yield bars
    else:
        yield _Lines(job)


def show_published(published: Published) -> None:
    """One line on standard error for a partition."""
    what = f"{published.sessions:,} sessions" if published.changed else "already current"
    say(f"published {published.dt}: {what}")


def verified_observer(quiet: bool) -> Callable[[VerifiedPartition], None]:
    """Prints a line on standard error for each partition that was audited."""

    def show(verified: VerifiedPartition) -> None:
        defects = sum(not found.is_note for found in verified.findings)
        result = f"findings: {defects}" if defects else "sound"
        say(f"verified {verified.dt}: {verified.sessions:,} sessions, {verified.images:,} images; {result}")

    return (lambda verified: None) if quiet else show


def show_verified(verified: Verified, form: str) -> None:
    """The findings on standard output, and what was looked at on standard error.

    Session ids stand in CSV and JSON only: somebody asked for them, while the table may go to a log.
    """
    columns = ["finding", "is_note", "where", "count", "advice", "session_ids"]
    rows: list[list[Any]] = [
        [found.check, found.is_note, found.where, found.count, found.advice, list(found.session_ids)]
        for found in verified.findings
    ]
    if form == "table":
        columns = ["finding", "where", "count", "what it is, and what to do"]
        rows = [
            [f"{check} (note)" if is_note else check, where, f"{count:,}", advice]
            for check, is_note, where, count, advice, _ in rows
        ]
    if rows or form != "table":
        print_rows(columns, rows, form)
    defects = sum(not found.is_note for found in verified.findings)
    looked_at = (
        f"partitions: {verified.partitions:,}, sessions: {verified.sessions:,}, images: {verified.images:,}, "
        f"findings: {defects:,}"
    )
    say(looked_at if verified.partitions else f"nothing has landed there yet; {looked_at}")
    if defects and form == "table":
        say("`--format json` names the first session ids of each finding")


def show_report(job: Job, report: RunReport) -> None:
    """The run's figures on standard error, and what a user has to know of it in plain sentences."""
    row = report.row
    seconds = (row["finished_at"] - row["started_at"]).total_seconds()
    say(
        f"{job.command} {row['run_id']}: {row['requested']:,} ids, {row['already_final']:,} already final, "
        f"{row['landed']:,} landed, {row['not_asked']:,} not asked; {row['calls']:,} calls, "
        f"{row['throttled_calls']:,} throttled, {row['retried_calls']:,} retried; {seconds:.1f} s"
    )
    if row["by_outcome"]:
        say("outcomes: " + ", ".join(f"{name} {count:,}" for name, count in row["by_outcome"]))
    if row["duplicates"] or row["rejected"]:
        say(f"manifest: {row['duplicates']:,} repeated and {row['rejected']:,} malformed lines (see the table rejects)")
    if row["forgotten"]:
        say(f"forgotten: {row['forgotten']:,} lines name sessions that were erased, and were not asked")
    if row["expired_before_fetch"]:
        ttl_seconds = job.settings.sweep.session_ttl_seconds
        share = 100 * row["expired_before_fetch"] / row["requested"]
        say(
            f"warning: {row['expired_before_fetch']:,} sessions ({share:.1f} %) were older than "
            f"{ttl_seconds:g} s when they were first asked, so their results may be lost: "
            f"run the command sweep every {ttl_seconds / 3:g} s to prevent it",
            logging.WARNING,
        )
    if row["unmodelled_members"]:
        say(f"warning: {unmodelled_warning(row)}", logging.WARNING)
    for sweep in report.sweeps:
        if sweep.counts.stopped:
            say(f"error: {sweep.counts.stopped}", logging.ERROR, source=sweep.source)
    if report.exit_code == 3:
        say("incomplete: some ids have no result yet; run it again, what is final is not asked again", logging.WARNING)


def unmodelled_warning(row: Mapping[str, Any]) -> str:
    """What to do about members of the answers that botocore dropped."""
    names = ", ".join(name for name, _ in row["unmodelled_members"])
    return (
        f"the service returned members that the installed botocore {version('botocore')} does not know, so they were "
        f"not kept: {names}; upgrade boto3 and liveness-etl before the next run"
    )


def show_demo(report: RunReport, output: Path) -> None:
    """The figures of the demo, one query's result, and what to try next."""
    from liveness_etl.analysis.query import fetch

    console = Console(highlight=False, markup=False)
    columns, rows = fetch(str(output), PASS_RATE_SQL)
    table = Table(*columns, title="Pass rate by challenge type at 80 % confidence")
    for row in rows:
        table.add_row(*(str(value) for value in row))
    console.print(table)
    console.print(
        f"""\
The tables are in {output}/. Next, try:
  liveness-etl query --output {output} "SELECT outcome, count(*) FROM sessions GROUP BY ALL"
  liveness-etl query --output {output} "SELECT * FROM runs" --format json
  liveness-etl demo --output {output}        # again: what is final is not asked twice
  liveness-etl run MANIFEST --output DIR --region us-east-1""",
        soft_wrap=True,
    )


def record_json(row: Mapping[str, Any]) -> str:
    """A `runs` row as JSON; times are ISO 8601."""
    plain = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
    for name in ("by_outcome", "unmodelled_members"):
        plain[name] = dict(row[name])
    return json.dumps(plain, indent=2)


def source_lines(plan: Plan) -> Iterator[str]:
    """Per source: how many ids are to be asked, at most how fast, and why."""
    for source in plan.sources:
        yield (
            f"{source.source}: {source.to_ask:,} of {source.requested:,} ids to ask, "
            f"at most {source.ceiling.tps:g}/s ({source.ceiling.why})"
        )


def show_forecast(plan: Plan, too_late: Mapping[str, int], ttl_seconds: float) -> None:
    """A line per source on standard output: what a run would ask, how long it takes, what comes too late."""
    table = Table(
        "source", "ids", "already final", "to ask", "ceiling", "takes", f"older than {ttl_seconds:g} s by then"
    )
    for source in plan.sources:
        table.add_row(
            source.source,
            f"{source.requested:,}",
            f"{source.requested - source.to_ask:,}",
            f"{source.to_ask:,}",
            f"{source.ceiling.tps:g}/s",
            str(timedelta(seconds=round(source.to_ask / source.ceiling.tps))),
            f"{too_late[source.source]:,}",
        )
    console = Console(highlight=False, markup=False)
    console.print(table)
    for source in plan.sources:
        console.print(f"{source.source}: {source.ceiling.tps:g}/s is {source.ceiling.why}", soft_wrap=True)
    if any("documented" in source.ceiling.why for source in plan.sources):
        console.print("a run asks Service Quotas for the account's own quota; plan makes no call", soft_wrap=True)
    if plan.duplicates or plan.rejected:
        console.print(f"{plan.duplicates:,} lines repeat an id, {plan.rejected:,} are malformed")
    if plan.forgotten:
        console.print(f"{plan.forgotten:,} lines name sessions that were erased")


class _Lines(Observer):
    """Plain lines every few seconds."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._last = {"": (0.0, 0)}

    def planned(self, plan: Plan) -> None:
        for source, line in zip(plan.sources, source_lines(plan), strict=True):
            say(line, source=source.source)

    def progressed(self, progress: SweepProgress) -> None:
        now = time.monotonic()
        at, finished = self._last.setdefault(progress.source, (now, 0))
        over = progress.finished == progress.to_ask != finished  # a plan that grows may be through several times
        if over or (now - at >= _LINE_SECONDS and progress.finished < progress.to_ask):
            self._last[progress.source] = now, progress.finished
            say(
                f"{progress.source}: {progress.finished:,} of {progress.to_ask:,}, {progress.calls:,} calls, "
                f"{progress.throttled:,} throttled, pace {progress.allowed_tps:.1f}/s of {progress.ceiling_tps:g}/s",
                source=progress.source,
            )

    def published(self, published: Published) -> None:
        show_published(published)

    def recorded(self, report: RunReport) -> None:
        show_report(self._job, report)


class _Bars(Observer):
    """One live bar a source."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            _Rate(),
            TextColumn("{task.fields[throttled]:,} throttled"),
            TimeRemainingColumn(compact=True),
            console=_stderr,
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> "_Bars":
        self._progress.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._progress.stop()

    def planned(self, plan: Plan) -> None:
        for line in source_lines(plan):
            self._progress.console.print(line)
        for source in plan.sources:
            if source.to_ask:
                self._start(source.source, source.to_ask, source.ceiling.tps)

    def progressed(self, progress: SweepProgress) -> None:
        if progress.source not in self._tasks:  # its first ids came while others were swept
            self._start(progress.source, progress.to_ask, progress.ceiling_tps)
        self._progress.update(
            self._tasks[progress.source],
            total=progress.to_ask,
            completed=progress.finished,
            throttled=progress.throttled,
        )

    def recorded(self, report: RunReport) -> None:
        for task in self._tasks.values():
            self._progress.remove_task(task)
        self._tasks = {}
        show_report(self._job, report)

    def _start(self, source: str, to_ask: int, ceiling: float) -> None:
        self._tasks[source] = self._progress.add_task(source, total=to_ask, throttled=0, ceiling=ceiling)

    def published(self, published: Published) -> None:
        what = f"{published.sessions:,} sessions" if published.changed else "already current"
        self._progress.console.print(f"published {published.dt}: {what}")


class _Rate(ProgressColumn):
    """Answers a second against the ceiling."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed or 0.0
        return Text(f"{speed:.0f}/s of {task.fields['ceiling']:g}/s")
