"""What a labels file adds to a report: the error rates of ISO/IEC 30107-3, as figures."""

from typing import Any

from liveness_etl.analysis import charts
from liveness_etl.analysis.detection_curve import DetPoint
from liveness_etl.analysis.facts import Facts
from liveness_etl.analysis.figure import Column, Figure, Section, Table, drawn
from liveness_etl.analysis.labelled import Rate, Rates, measure_detection
from liveness_etl.analysis.labels import read_labels

_JOIN = """
SELECT labels.label, labels.pai_species, labels.subject_id, labels.weight,
    sessions.status, sessions.confidence, sessions.created_at
FROM labels JOIN sessions ON sessions.session_id = labels.session_id
WHERE sessions.dt BETWEEN $first AND $last
QUALIFY row_number() OVER (PARTITION BY sessions.session_id ORDER BY sessions.dt) = 1
"""  # an id that stands in two partitions counts once

_RATE = (
    Column("rate", "rate", "share"),
    Column("low", "95 % from", "share"),
    Column("high", "to", "share"),
    Column("n", "of n", "count"),
)


def detection(facts: Facts, labels_file: str, threshold: float, min_cell: int) -> Section:
    """Error rates of labelled sessions. Raises UsageError where the file is not one of labels."""
    labels = read_labels(labels_file)
    facts.connection.register("labels", labels)
    joined = facts.connection.execute(_JOIN, {"first": facts.first, "last": facts.last}).to_arrow_table()
    facts.connection.unregister("labels")
    title = "Attack detection (ISO/IEC 30107-3)"
    if joined.num_rows < min_cell:
        few = f"Fewer than {min_cell} labelled sessions are among those of this report, so nothing is told of them."
        return Section("detection", title, [few], [])
    found = measure_detection(joined, threshold)
    outside = labels.num_rows - joined.num_rows
    notes = [f"{joined.num_rows:,} labelled sessions are among those of this report."]
    if outside >= min_cell:
        notes.append(f"{outside:,} more labels name sessions that are not.")
    notes += found.notes
    notes.append(
        "Sessions without an answer are non-responses (APNRR, BPNRR) and in no error rate. Where no error was seen, "
        "“to” is the one-sided 95 % bound."
    )
    figures = [_rates("detection-rates", f"At the threshold {threshold:g}", found.rates, min_cell)]
    for point in found.operating_points:
        at = "no threshold reaches it" if point.rates is None else f"threshold {point.rates.threshold:.2f}"
        name = f"BPCER at {found.attack_error} ≤ {point.target:.0%}: {at}"
        if point.rates is not None:
            figures.append(_rates(f"detection-{point.target:.0%}".rstrip("%"), name, point.rates, min_cell))
        else:
            notes.append(f"{name}.")
    if found.split:
        cut = found.split
        notes.append(
            f"Thresholds for the targets were chosen on the sessions before {cut.cut} and their rates measured on "
            "the later ones; nobody that a label names is on both sides."
        )
        if cut.n_left_out >= min_cell:
            notes.append(
                f"{cut.n_left_out:,} labelled sessions are in neither part: without a time, or not on the side of the "
                "cut where most sessions of the same person are."
            )
    smallest = {
        "attack_error": min(
            [one.apcer.n for one in found.rates.species if one.apcer.n] or [found.rates.pooled_attack_acceptance.n]
        ),
        "bona_fide_error": found.rates.bpcer.n,
    }
    points = _told(found.det, smallest, min_cell)
    columns = [
        Column("threshold", "threshold", "score"),
        Column("attack_error", found.attack_error, "share"),
        Column("bona_fide_error", "BPCER", "share"),
    ]
    rows = [[round(point.threshold, 2), point.attack_error, point.bona_fide_error] for point in points]
    figures.append(
        Figure(
            "det",
            "Detection error trade-off",
            Table(columns, rows),
            drawn(charts.det(), Table(columns, [row for row in rows if row[1] > 0 and row[2] > 0]), "threshold"),
            "Line: the share of bona fide sessions that do not pass against the share of attacks that do, on log axes.",
            [f"Points that fewer than {min_cell} sessions lie between are left out, and those at 0 cannot be drawn."],
        )
    )
    return Section("detection", title, notes, figures)


def _rates(name: str, title: str, rates: Rates, min_cell: int) -> Figure:
    rows: list[list[Any]] = []
    for one in rates.species:
        worst = " (worst)" if one.species == rates.worst_species else ""
        rows.append([f"APCER{worst}", one.species[:60], *_row(one.apcer, min_cell)])
    pooled = "pooled attack acceptance" if rates.species else "pooled attack acceptance (no APCER)"
    rows.append([pooled, "all attacks", *_row(rates.pooled_attack_acceptance, min_cell)])
    rows.append(["BPCER", "bona fide", *_row(rates.bpcer, min_cell)])
    rows += [["APNRR", one.species[:60], *_row(one.apnrr, min_cell)] for one in rates.species]
    rows.append(["APNRR", "all attacks", *_row(rates.apnrr, min_cell)])
    rows.append(["BPNRR", "bona fide", *_row(rates.bpnrr, min_cell)])
    return Figure(name, title, Table([Column("measure", "measure"), Column("of", "of"), *_RATE], rows))


def _row(rate: Rate, min_cell: int) -> list[Any]:
    if 0 < rate.n < min_cell:
        return [None, None, None, f"<{min_cell}"]
    # A rate and its interval tell the count behind them.
    if 0 < rate.count < min_cell:
        return [f"<{min_cell / rate.n:.1%}", None, None, rate.n]
    if 0 < rate.n - rate.count < min_cell:
        return [f">{1 - min_cell / rate.n:.1%}", None, None, rate.n]
    return [rate.value, rate.interval.low, rate.interval.high, rate.n]


def _told(det: tuple[DetPoint, ...], n: dict[str, int], min_cell: int) -> list[DetPoint]:
    """Points that differ in each error by no session or by at least min_cell, and from none and all of them too."""

    def apart(one: float, other: float, sessions: int) -> bool:
        steps = abs(one - other) * sessions
        return steps < 1e-6 or steps >= min_cell - 1e-6

    told: list[DetPoint] = []
    for point in det:
        neighbours = [(0.0, 0.0), (1.0, 1.0)] + ([(told[-1].attack_error, told[-1].bona_fide_error)] if told else [])
        if all(
            apart(point.attack_error, attack, n["attack_error"])
            and apart(point.bona_fide_error, bona, n["bona_fide_error"])
            for attack, bona in neighbours
        ):
            told.append(point)
    return told
