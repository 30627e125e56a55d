"""What is told of a run while it works and when it has ended: progress, reports, and its row of `runs`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from liveness_etl.errors import LivenessError, NewerContract, SourceStopped, StoreError
from liveness_etl.extract.plan import Plan
from liveness_etl.extract.sweep import SweepCounts
from liveness_etl.job import Job, open_output
from liveness_etl.load import publish, records
from liveness_etl.transform.normalize import NOT_ASKED


@dataclass(frozen=True)
class Progress:
    """Where the sweep of one source stands. Rates in calls a second."""

    source: str
    to_ask: int
    finished: int
    calls: int
    throttled: int
    allowed_tps: float
    ceiling_tps: float


@dataclass(frozen=True)
class SweepReport:
    """What the sweep of one source (or a slice of one) came to."""

    source: str
    counts: SweepCounts
    by_outcome: Mapping[str, int]
    not_asked: int
    interrupted: bool


@dataclass(frozen=True)
class RunReport:
    """What a run came to: its `runs` row, the sweeps, the partitions published, and the exit code."""

    row: Mapping[str, Any]
    plan: Plan
    sweeps: tuple[SweepReport, ...]
    published: tuple[publish.Published, ...]
    exit_code: int


class Observer:
    """Is told how a run goes; the command line shows it. The default shows nothing."""

    def planned(self, plan: Plan) -> None:
        """The plan is made; sweeping begins."""

    def progressed(self, progress: Progress) -> None:
        """A source has moved on; called a few times a second."""

    def published(self, published: publish.Published) -> None:
        """A partition's tables are right."""

    def recorded(self, report: RunReport) -> None:
        """A round of a sweep that goes on is over and recorded."""


def finish_run(
    job: Job,
    plan: Plan,
    row: dict[str, Any],
    sweeps: tuple[SweepReport, ...],
    published: tuple[publish.Published, ...],
    *,
    completed: bool,
) -> RunReport:
    """Replace the run's record by the final one, drop the plan, and say with which code to exit."""
    store = open_output(job.settings)
    by_outcome: Counter[str] = Counter()
    unmodelled: Counter[str] = Counter()
    for sweep in sweeps:
        by_outcome.update(sweep.by_outcome)
        unmodelled.update(sweep.counts.unmodelled_members)
    landed = sum(by_outcome.values()) - by_outcome[NOT_ASKED]
    not_asked = plan.requested - plan.already_final - landed
    if completed and job.command == "run" and not_asked != by_outcome[NOT_ASKED]:
        raise RuntimeError(f"{not_asked - by_outcome[NOT_ASKED]} ids are unaccounted for: this is a bug")
    row = row | {
        "finished_at": max(datetime.now(UTC), job.started_at),  # a clock may be set back meanwhile
        "landed": landed,
        "not_asked": not_asked,
        "calls": sum(sweep.counts.calls for sweep in sweeps),
        "throttled_calls": sum(sweep.counts.throttled_calls for sweep in sweeps),
        "retried_calls": sum(sweep.counts.retried_calls for sweep in sweeps),
        "by_outcome": sorted(by_outcome.items()),
        "expired_before_fetch": sum(sweep.counts.expired_before_fetch for sweep in sweeps),
        "completed": completed,
        "unmodelled_members": sorted(unmodelled.items()),
    }
    records.write_run(store, row)
    drop_plan(job, plan)
    incomplete = not completed or not_asked or any(sweep.counts.incomplete for sweep in sweeps)
    return RunReport(row, plan, sweeps, published, 3 if incomplete else 0)


def first_of(errors: Sequence[BaseException]) -> BaseException:
    """One error for several: a bug if there is one, else all their sentences (each may say where answers are).

    None of them is NewerContract, which would say that nothing was asked.
    """
    bug = next((error for error in errors if not isinstance(error, LivenessError)), None)
    if bug is not None or (len(errors) == 1 and not isinstance(errors[0], NewerContract)):
        return bug or errors[0]
    kind = SourceStopped if all(isinstance(error, SourceStopped) for error in errors) else StoreError
    return kind("\n".join(dict.fromkeys(map(str, errors))))


def started_row(job: Job, plan: Plan, sha256: str | None) -> dict[str, Any]:
    """The record of a run that has just started."""
    return {
        "run_id": job.run_id,
        "flow_run_id": job.flow_run_id,
        "started_at": job.started_at,
        "finished_at": None,
        "command": job.command,
        "manifest_uri": job.manifest_uri.partition("?")[0],
        "manifest_sha256": sha256,
        "version": version("liveness-etl"),
        "lines": plan.lines,
        "requested": plan.requested,
        "duplicates": plan.duplicates,
        "rejected": plan.rejected,
        "forgotten": plan.forgotten,
        "already_final": plan.already_final,
        "landed": 0,
        "not_asked": plan.requested - plan.already_final,
        "calls": 0,
        "throttled_calls": 0,
        "retried_calls": 0,
        "by_outcome": [],
        "expired_before_fetch": 0,
        "completed": False,
        "unmodelled_members": [],
    }


def drop_plan(job: Job, plan: Plan) -> None:
    """Delete the run's plan files."""
    paths = [job.plan_path(source.source) for source in plan.sources]
    open_output(job.settings).delete([*paths, job.stop_path])
