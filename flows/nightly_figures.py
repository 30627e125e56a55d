"""What a person reads of a run in Prefect: its figures as Markdown, and why it is incomplete. No Prefect here."""

import logging
import time
from collections.abc import Callable, Sequence

from liveness_etl.load.publish import Published
from liveness_etl.pipeline import Progress, RunReport

PROGRESS_SECONDS = 10.0
RUN_COLUMNS = (
    "requested",
    "already_final",
    "landed",
    "not_asked",
    "duplicates",
    "rejected",
    "forgotten",
    "calls",
    "throttled_calls",
    "retried_calls",
    "expired_before_fetch",
)
Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]


def figures(report: RunReport) -> str:
    """The run's figures as Markdown tables. Counts, names and dates; no session ids."""
    row = report.row
    seconds = (row["finished_at"] - row["started_at"]).total_seconds()
    run = [(name.replace("_", " "), f"{row[name]:,}") for name in RUN_COLUMNS]
    run += [("seconds", f"{seconds:.1f}"), ("completed", "yes" if row["completed"] else "no")]
    sources = []
    for planned in report.plan.sources:
        counts = [sweep.counts for sweep in report.sweeps if sweep.source == planned.source]
        numbers = (
            planned.requested,
            planned.to_ask,
            sum(count.calls for count in counts),
            sum(count.throttled_calls for count in counts),
        )
        at_most = f"{planned.ceiling.tps:g}/s"
        sources.append((planned.source, *(f"{number:,}" for number in numbers), at_most, planned.ceiling.why))
    tables: list[tuple[Sequence[str], Sequence[Sequence[str]]]] = [
        (("Run", row["run_id"]), run),
        (("Outcome", "Landed"), [(name, f"{count:,}") for name, count in row["by_outcome"]]),
        (("Unmodelled member", "Answers"), [(name, f"{count:,}") for name, count in row["unmodelled_members"]]),
        (("Source", "Ids", "To ask", "Calls", "Throttled", "At most", "Because"), sources),
        (("Partition", "Published"), [(str(done.dt), what_was_published(done)) for done in report.published]),
    ]
    return "\n\n".join(
        "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines))
        for head, lines in tables
        if lines
    )


def what_was_published(published: Published) -> str:
    """What became of a partition."""
    return f"{published.sessions:,} sessions" if published.changed else "already current"


def why_incomplete(report: RunReport, stopped: bool) -> str:
    """Why a run with exit code 3 is incomplete, and what to do about it."""
    missing = report.row["not_asked"] + sum(sweep.counts.incomplete for sweep in report.sweeps)
    reasons = ["stopped before it was through"] if stopped else []
    reasons += [sweep.counts.stopped for sweep in report.sweeps if sweep.counts.stopped]
    rest = f"{missing:,} of {report.plan.requested:,} ids have no final result yet; run it again to ask for those"
    return ". ".join([*reasons, rest])


def progress_log(logger: Logger) -> Callable[[Progress], None]:
    """Logs where a sweep stands: a line every ten seconds, and one at the end."""
    started = time.monotonic()
    logged_at, over = started, False

    def log(progress: Progress) -> None:
        nonlocal logged_at, over
        now, was_over = time.monotonic(), over
        over = progress.finished == progress.to_ask
        if (over and not was_over) or (not over and now - logged_at >= PROGRESS_SECONDS):
            logged_at = now
            logger.info(
                f"{progress.source}: {progress.finished:,} of {progress.to_ask:,}, "
                f"{progress.finished / (now - started):.0f}/s, {progress.throttled:,} throttled"
            )

    return log
