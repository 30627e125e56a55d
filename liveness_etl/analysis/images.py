"""What the service said of a face beside its score: feedback, and where the face stood in the image."""

from itertools import pairwise
from typing import Any

import numpy as np

from liveness_etl.analysis import charts
from liveness_etl.analysis.confidence import grouped_bins, score_at, wanted_cuts
from liveness_etl.analysis.disclosure import Ledger, folded, shared_edges
from liveness_etl.analysis.facts import BINS, MISSING, OTHER, UNSTORED, Facts, binned
from liveness_etl.analysis.figure import Column, Figure, Section, Table, drawn
from liveness_etl.analysis.tally import SMALLEST_GROUP, Tally

MOST_CODES = 12
SQUARE = 0.05

_BETWEEN = "dt BETWEEN $first AND $last"


def feedback(facts: Facts, tally: Tally, cuts: list[int]) -> Section:
    """How confidence differs between sessions with each feedback code and sessions without any."""
    bounds = {"first": facts.first, "last": facts.last}
    codes = [
        code
        for (code,) in facts.rows(
            f"SELECT code FROM feedback WHERE {_BETWEEN} AND code IS NOT NULL GROUP BY 1 "
            f"ORDER BY count(*) DESC, 1 LIMIT {MOST_CODES}",
            **bounds,
        )
    ]
    found = binned(
        facts.rows(
            "WITH codes AS (SELECT DISTINCT dt, session_id, coalesce(list_position($codes, code), 0) AS number "
            f"FROM feedback WHERE {_BETWEEN}) "
            f"SELECT number, {facts.bin_sql}, count(*) FROM codes JOIN sessions USING (dt, session_id) "
            "WHERE status = 'SUCCEEDED' AND isfinite(confidence) GROUP BY ALL",
            codes=codes,
            **bounds,
        )
    )
    ((_, everyone),) = facts.bins("0", "bin > 0").items() or [(0, np.zeros(BINS, np.int64))]
    told = folded({code: int(bins.sum()) for code, bins in found.items()}, SMALLEST_GROUP, OTHER)
    bins = {
        code: counts
        for code, counts in grouped_bins(found, told).items()
        if counts.sum() >= (fewest := tally.ledger.min_cell) and not 0 < everyone.sum() - counts.sum() < fewest
    }
    # Whoever knows the sum knows those without a code, so they need the same cuts.
    rest = [everyone - counts for counts in bins.values()]
    rank = {cut: place for place, cut in enumerate(wanted_cuts((50, 80, 90, 95, 98, 99, 99.9)))}
    wanted = [cut for cut in sorted(cuts, key=lambda cut: rank.get(cut, -1)) if rank.get(cut, 99) < 9]
    shared = shared_edges([*bins.values(), *rest, everyone], wanted, tally.ledger.min_cell)
    rows: list[list[Any]] = []
    for code in [*sorted(set(bins), key=lambda code: (code == OTHER, code)), None]:
        counts = everyone if code is None else bins[code]
        name = "all that SUCCEEDED" if code is None else "other codes" if code == OTHER else codes[code - 1][:60]
        for low, high in pairwise(shared):
            count = int(counts[low:high].sum())
            if high == 1 or (low == BINS - 1 and not everyone[low]):
                continue
            band = f"{score_at(low):g} to {score_at(high):g}" if high < BINS else f"from {score_at(low):g}"
            of = int(counts.sum())  # none, where nobody in the span has a score
            rows.append([name, band, count, count / of if of else None])
    columns = [Column("code", "code"), Column("band", "confidence"), Column("sessions", "sessions", "count")]
    columns.append(Column("share", "share of the code's sessions", "share"))
    notes = [
        "Of sessions that SUCCEEDED with a score; one with several codes is counted under each. "
        f"Codes with fewer than {SMALLEST_GROUP} sessions are told together, if at all. A code goes with a score, it "
        "does not explain it.",
    ]
    figure = Figure(
        "feedback-codes",
        "Confidence by feedback code",
        Table(columns, rows),
        charts.shares_in_bands(
            "code", "share of the code's sessions", len(bins) + 1, list(dict.fromkeys(row[1] for row in rows))
        ),
        "Stacked bars: for each feedback code, how its sessions are spread over bands of confidence.",
    )
    return Section("feedback", "Feedback", notes, [figure] if bins else [])


def boxes(facts: Facts, tally: Tally) -> Section:
    """Where faces stand, how large they are, how many are cut off, and which sessions lack a reference image."""
    bounds = {"first": facts.first, "last": facts.last}
    figures = [
        _geometry(facts, tally.ledger.min_cell, bounds),
        _density(facts, tally.ledger.min_cell, bounds, "position", "Centre of the face", "x", "y", down=True),
        _density(facts, tally.ledger.min_cell, bounds, "size", "Size of the face", "width", "height", down=False),
        _references(facts, tally),
    ]
    note = "Ratios of the image's width and height, as returned. A face may reach beyond the frame."
    return Section("boxes", "Face boxes and images", [note], figures)


def _geometry(facts: Facts, min_cell: int, bounds: dict[str, Any]) -> Figure:
    found = facts.rows(
        "SELECT image_type, count(*), count(box_left + box_top + box_width + box_height), "
        "count(*) FILTER (box_left < 0 OR box_top < 0 OR box_left + box_width > 1 OR box_top + box_height > 1), "
        "avg(1 - greatest(0, least(1, box_left + box_width) - greatest(0, box_left)) "
        "* greatest(0, least(1, box_top + box_height) - greatest(0, box_top)) / (box_width * box_height)) "
        "FILTER (box_width > 0 AND box_height > 0) "
        f"FROM bounding_boxes WHERE {_BETWEEN} GROUP BY 1 ORDER BY 1",
        **bounds,
    )
    rows = []
    for kind, images, with_box, outside, clipped in found:
        ledger = Ledger(min_cell)
        for key, count in (("images", images), ("box", with_box), ("outside", outside)):
            ledger.add(key, count)
        ledger.part("box", of="images")
        ledger.part("outside", of="box")
        ledger.close()
        told = ledger["box"] == with_box
        share = ledger.share("outside", "box")
        rows.append([kind, *(ledger[key] for key in ("images", "box", "outside")), share, clipped if told else None])
    columns = [
        Column("image_type", "image"),
        Column("images", "images", "count"),
        Column("with_box", "with a box", "count"),
        Column("outside", "reaching outside the frame", "count"),
        Column("outside_share", "share", "share"),
        Column("clipped", "of the box's area outside, on average", "share"),
    ]
    return Figure("geometry", "Boxes and the frame", Table(columns, rows))


def _density(
    facts: Facts, min_cell: int, bounds: dict[str, Any], name: str, title: str, x: str, y: str, *, down: bool
) -> Figure:
    first, second = (
        ("box_left + box_width / 2", "box_top + box_height / 2") if name == "position" else ("box_width", "box_height")
    )
    # A box far outside is drawn at the rim, so that no number of strange boxes makes a large table.
    squares = [f"least(24, greatest(-5, floor(({side}) / {SQUARE})))::INTEGER" for side in (first, second)]
    found = facts.rows(
        f"SELECT {', '.join(squares)}, count(*) FROM bounding_boxes WHERE {_BETWEEN} "
        "AND isfinite(box_left + box_top + box_width + box_height) GROUP BY ALL ORDER BY ALL",
        **bounds,
    )
    ledger = Ledger(min_cell)
    for column, row, count in found:
        ledger.add((column, row), count)
    ledger.add("all", sum(count for _, _, count in found))
    ledger.sum([(column, row) for column, row, _ in found], "all")
    ledger.close()
    rows = [[round(column * SQUARE, 2), round(row * SQUARE, 2), ledger[(column, row)]] for column, row, _ in found]
    columns = [
        Column("x", f"{x} from", "score"),
        Column("y", f"{y} from", "score"),
        Column("images", "images", "count"),
    ]
    table = Table(columns, rows)
    return Figure(
        f"box-{name}",
        title,
        table,
        drawn(charts.density(x, y, SQUARE, rows, down=down), table, "images"),
        f"Squares of {SQUARE:g}, darker where more images have that {name}.",
    )


def _references(facts: Facts, tally: Tally) -> Figure:
    found = facts.rows(
        f"SELECT {tally.period_sql()} AS period, count(*), count(*) FILTER (reference = {MISSING}), "
        f"count(*) FILTER (reference = {UNSTORED}) FROM facts WHERE reference IS NOT NULL GROUP BY ALL ORDER BY 1"
    )
    ledger = Ledger(tally.ledger.min_cell)
    for period, *counts in found:
        for key, count in zip(("succeeded", "missing", "unstored"), counts, strict=True):
            ledger.add((key, period), count)
        ledger.part(("missing", period), of=("succeeded", period))
        ledger.part(("unstored", period), of=("succeeded", period))
    ledger.close()
    rows = [
        [
            period.isoformat(),
            *(ledger[(key, period)] for key in ("succeeded", "missing", "unstored")),
            ledger.share(("missing", period), ("succeeded", period)),
        ]
        for period, *_ in found
    ]
    columns = [
        Column("period", f"{tally.step} (UTC)"),
        Column("succeeded", "SUCCEEDED", "count"),
        Column("missing", "no reference image in the answer", "count"),
        Column("unstored", "reference image discarded or lost", "count"),
        Column("share", "share missing", "share"),
    ]
    return Figure("references", "Missing reference images", Table(columns, rows))
