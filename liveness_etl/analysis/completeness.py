"""Was the last night complete, and every day before it: for the operator."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from liveness_etl.analysis import charts
from liveness_etl.analysis.disclosure import Ledger, Shown
from liveness_etl.analysis.facts import Facts
from liveness_etl.analysis.figure import Column, Figure, Headline, Section, Table, drawn
from liveness_etl.analysis.tally import ALL, Tally

MOST_RUNS = 40

_RUN_COUNTS = ("requested", "already_final", "landed", "not_asked", "expired_before_fetch")


def headline(facts: Facts, tally: Tally, min_cell: int) -> Headline:
    """One plain sentence on the last day."""
    ledger, day = tally.ledger, facts.last
    unfinished = facts.rows(
        "SELECT count(*) FILTER (finished_at IS NULL), count(*) FILTER (finished_at IS NOT NULL) FROM runs "
        "WHERE dt BETWEEN $dt AND $dt::DATE + 1 AND NOT completed",
        dt=day,
    )
    killed, stopped = unfinished[0]
    requested, final = ledger["day"], ledger["final"]
    if not tally.open_outcomes:
        words = f"all {_words(requested, min_cell)} requested have a final answer"
    elif isinstance(final, int) and isinstance(requested, int):
        words = f"{final:,} of {requested:,} requested have a final answer"
    else:
        words = f"most of {_words(requested, min_cell)} requested have a final answer, not all"
    parts = [words]
    parts += [f"{_words(ledger[('open', o)], min_cell)} {facts.name('outcome', o)}" for o in tally.open_outcomes]
    if killed:
        parts.append(f"{_runs(killed)} killed or still at work")
    if stopped:
        parts.append(f"{_runs(stopped)} stopped before the end")
    complete = not tally.open_outcomes
    return Headline("complete" if complete else "incomplete", f"{day}: {'; '.join(parts)}.")


def completeness(facts: Facts, tally: Tally, zone: ZoneInfo, ttl_seconds: float) -> Section:
    """What was requested and what became of it, per day and source, and the runs that did it."""
    did = _who_did(facts, tally)
    return Section(
        "completeness",
        "Completeness",
        [
            "Days are the partitions dt: UTC dates of created_at, or of the run where that is missing"
            + ("." if tally.step == "day" else f"; a {tally.step} is named by its first day."),
            f"Expired before fetch: the answer that stands came later than {ttl_seconds:g} s after the session was "
            "created. Of unknown age: without created_at, so that nobody can tell.",
        ],
        [
            _by_period(facts, tally),
            _by_source(facts, tally, did),
            _runs_figure(facts, zone, tally.ledger.min_cell, {run for run, _ in did.values()}),
        ],
    )


def _by_period(facts: Facts, tally: Tally) -> Figure:
    ledger = tally.ledger
    fields = {f"outcome_{o}": facts.name("outcome", o) for o in tally.outcomes}
    rows: list[list[Any]] = [
        [p.isoformat(), ledger[("period", p)], *(ledger[("by period", p, o)] for o in tally.outcomes)]
        for p in tally.periods
    ]
    totals = ["all", ledger[ALL], *(ledger[("outcome", o)] for o in tally.outcomes)]
    columns = [Column("period", f"{tally.step} (UTC)"), Column("requested", "requested", "count")]
    columns += [Column(field, name, "count") for field, name in fields.items()]
    minor = {field: name for field, name in fields.items() if name != "SUCCEEDED"} or fields
    table = Table(columns, [*reversed(rows), totals])
    chart = charts.shares_by_day(minor, f"{tally.step} (UTC)")
    return Figure(
        "outcomes",
        f"Requested sessions by outcome and {tally.step}",
        table,
        chart if any(drawn(chart, Table(columns, rows), "requested", field) for field in minor) else None,
        "Lines: of each day's requested sessions, the share with each outcome other than SUCCEEDED.",
        ["The chart leaves out SUCCEEDED, so that the others can be seen."],
    )


_Did = dict[tuple[Any, Any], tuple[str, int]]
"""By period and source: the run with most of the rows, and the number of runs."""


def _who_did(facts: Facts, tally: Tally) -> _Did:
    found = facts.rows(
        f"SELECT period, source, arg_max(run_id, n), count(*) FROM (SELECT {tally.period_sql()} AS period, "
        "coalesce(list_position($sources, source), 0)::UTINYINT AS source, run_id, count(*) AS n FROM sessions "
        "WHERE dt BETWEEN $first AND $last GROUP BY ALL) GROUP BY ALL",
        sources=list(facts.names["source"]),
        first=facts.first,
        last=facts.last,
    )
    return {(period, source): (run, runs) for period, source, run, runs in found}


def _by_source(facts: Facts, tally: Tally, did: _Did) -> Figure:
    ledger = tally.ledger
    rows = [
        [
            p.isoformat(),
            facts.name("source", s),
            ledger[("row", p, s)],
            *(ledger[("cell", p, s, o)] for o in tally.outcomes),
            ledger[("late", p, s)],
            ledger[("ageless", p, s)],
            *did[p, s],
        ]
        for p in reversed(tally.periods)
        for s in tally.sources
        if (p, s) in did
    ]
    totals = ["all", "all", ledger[ALL], *(ledger[("outcome", o)] for o in tally.outcomes)]
    columns = [
        Column("period", f"{tally.step} (UTC)"),
        Column("source", "source"),
        Column("requested", "requested", "count"),
        *(Column(f"outcome_{o}", facts.name("outcome", o), "count") for o in tally.outcomes),
        Column("expired_before_fetch", "expired before fetch", "count"),
        Column("unknown_age", "of unknown age", "count"),
        Column("run_id", "run with most of them"),
        Column("runs", "runs", "number"),
    ]
    return Figure(
        "sources",
        f"By {tally.step} and source, and the run that did it",
        Table(columns, [*rows, [*totals, ledger["late"], ledger["ageless"], None, None]]),
    )


def _runs_figure(facts: Facts, zone: ZoneInfo, min_cell: int, named: set[str]) -> Figure:
    """Runs of the span and the day after, and those that are `named` however late they were."""
    # Once, and no further days than need be: these may be a file a minute. A run's id begins with its day.
    days = sorted({f"{run[:4]}-{run[4:6]}-{run[6:8]}" for run in named if run[:8].isdigit()})
    in_span = "dt BETWEEN $first AND $last::DATE + 1"
    found = facts.rows(
        f"SELECT count(*) OVER (), count(*) FILTER (NOT completed) OVER (), run_id, command, started_at, finished_at, "
        f"completed, {', '.join(_RUN_COUNTS)} FROM runs "
        f"WHERE ({in_span} OR dt::VARCHAR IN $days) AND ({in_span} OR run_id IN $named) "
        f"ORDER BY completed, started_at DESC LIMIT {MOST_RUNS}",
        first=facts.first,
        last=facts.last,
        days=days,
        named=sorted(named),
    )
    runs, unfinished = found[0][:2] if found else (0, 0)
    rows = []
    for _, _, run_id, command, started, finished, completed, *counts in sorted(
        found, key=lambda row: row[4], reverse=True
    ):
        state = "completed" if completed else "stopped" if finished else "killed, or still at work"
        shown = _run_counts(dict(zip(_RUN_COUNTS, counts, strict=True)), min_cell)
        rows.append([run_id, command, _local(started, zone), _local(finished, zone), state, *shown])
    columns = [Column("run_id", "run"), Column("command", "command"), Column("started_at", f"started ({zone.key})")]
    columns += [Column("finished_at", f"finished ({zone.key})"), Column("state", "state")]
    columns += [Column(name, name.replace("_", " "), "count") for name in _RUN_COUNTS]
    words = f"{_runs(runs)}, {unfinished:,} without a regular end"
    more = f"; shown are those without one first, {MOST_RUNS} in all" if runs > MOST_RUNS else ""
    return Figure("runs", "Runs", Table(columns, rows), notes=[f"{words}{more}."])


def _run_counts(counts: dict[str, int], min_cell: int) -> Sequence[Shown]:
    ledger = Ledger(min_cell)
    for name, count in counts.items():
        ledger.add(name, count)
    ledger.sum(["already_final", "landed", "not_asked"], "requested")
    ledger.part("expired_before_fetch", of="requested")
    ledger.close()
    return [ledger[name] for name in counts]


def _local(time: datetime | None, zone: ZoneInfo) -> str | None:
    return None if time is None else time.astimezone(UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def _words(count: Shown, min_cell: int) -> str:
    if isinstance(count, int):
        return f"{count:,}"
    return f"fewer than {min_cell}" if count.startswith("<") else "some"


def _runs(count: int) -> str:
    return f"{count:,} run{'' if count == 1 else 's'}"
