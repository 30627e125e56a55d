"""What a person reads of a run in Prefect: its name, its figures, where it stands, why it is incomplete.

Counts, names and dates, and no Prefect here.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from liveness_etl.extract.rekognition import THROTTLED
from liveness_etl.load.publish import Published
from liveness_etl.masking import masked
from liveness_etl.run_report import Progress, RunReport, SweepReport
from liveness_etl.transform.normalize import FINISHED, NO_SUCH_SESSION, NOT_ASKED

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
_PENDING = "pending"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def manifest_name(uri: str | None, date: object = None) -> str:
    """A manifest as a flow run's name tells it: the last part of it, without a query string, an id or an account."""
    last = re.search(r"[^/]*/?$", (uri or "").replace("{date}", str(date) if date else "{date}"))
    name = last.group() if last else ""
    return masked(_UUID.sub("***", name.partition("?")[0] if "://" in (uri or "") else name))


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


def run_table(report: RunReport) -> list[dict[str, Any]]:
    """The run's figures as rows of one table: a row for each source and outcome of it."""
    return [
        {"source": source, "outcome": outcome, "ids": count}
        for source, by_outcome in _by_source(report).items()
        for outcome, count in sorted(by_outcome.items())
    ]


def standing(report: RunReport) -> str:
    """Where the manifest's ids stand after a run: `47,113 of 50,000 final, 12 denied, 9 waiting on the quota of eu`."""
    requested, not_asked = report.plan.requested, report.row["not_asked"]
    others: Counter[str] = Counter()
    for source, by_outcome in _by_source(report).items():
        for outcome, count in by_outcome.items():
            if (kind := _not_final(source, outcome)) is not None:
                others[kind] += count
    unstored = sum(sweep.counts.incomplete - _unanswered(sweep) for sweep in report.sweeps)
    others["without all of their images"] = max(0, unstored)
    others["not asked"] = not_asked
    final = "final or pending" if others.pop(_PENDING, 0) else "final"
    counted = [f"{count:,} {kind}" for kind, count in others.items() if count]
    return ", ".join([f"{requested - others.total():,} of {requested:,} {final}", *counted])


def progress_line(progress: Progress, per_second: float) -> str:
    """Where the sweep of a source stands: `eu: 47,113 of 50,000, 24/s, 12 throttled, waiting on the quota of eu`."""
    said = [
        f"{progress.source}: {progress.finished:,} of {progress.to_ask:,}",
        f"{per_second:.0f}/s",
        f"{progress.throttled:,} throttled",
    ]
    if progress.allowed_tps < 0.95 * progress.ceiling_tps and progress.throttled:
        said.append(f"waiting on the quota of {progress.source.partition(' ')[0]}")
    return ", ".join(said)


def why_incomplete(report: RunReport, stopped: bool) -> str:
    """Why a run with exit code 3 is incomplete, and what to do about it."""
    reasons = ["stopped before it was through"] if stopped else []
    reasons += [sweep.counts.stopped for sweep in report.sweeps if sweep.counts.stopped]
    rest = f"{standing(report)}; run it again to ask for the rest"
    return ". ".join([*reasons, rest])


def _by_source(report: RunReport) -> dict[str, Counter[str]]:
    """Landed ids by outcome, of each source."""
    found: dict[str, Counter[str]] = {}
    for sweep in report.sweeps:
        found.setdefault(sweep.source, Counter()).update(sweep.by_outcome)
    for by_outcome in found.values():
        del by_outcome[NOT_ASKED]
    return found


def _not_final(source: str, outcome: str) -> str | None:
    """What is said of ids with this outcome; None where it is a result."""
    if outcome in (*FINISHED, "EXPIRED", *NO_SUCH_SESSION):
        return None
    if outcome in ("CREATED", "IN_PROGRESS"):
        return _PENDING
    if outcome in THROTTLED:
        return f"waiting on the quota of {source}"
    return "denied" if outcome == "AccessDeniedException" else f"with {outcome}"


def _unanswered(sweep: SweepReport) -> int:
    return sum(
        count
        for outcome, count in sweep.by_outcome.items()
        if outcome != NOT_ASKED and _not_final("", outcome) not in (None, _PENDING)
    )
