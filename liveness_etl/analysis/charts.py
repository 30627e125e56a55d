"""Vega-Lite specifications of the report's charts. Colours and fonts are the page's, which follow light and dark.

Nothing is told by colour alone: lines also differ by their dashes and points by their shapes.
"""

from collections.abc import Sequence
from typing import Any, Final

Spec = dict[str, Any]

SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v6.json"
"""A name only: nothing is fetched from it."""


def _base(height: int = 260) -> Spec:
    autosize = {"type": "fit-x", "contains": "padding"}
    return {"$schema": SCHEMA, "width": "container", "height": height, "autosize": autosize}


def _by(field: str | None, title: str) -> Spec:
    if field is None:
        return {}
    return {
        "color": {"field": field, "type": "nominal", "title": title, "sort": None},
        "strokeDash": {"field": field, "type": "nominal", "title": title, "sort": None},
    }


def _tips(**fields: tuple[str, str]) -> list[Spec]:
    return [
        {"field": field, "title": title, "type": "quantitative", "format": form}
        if form
        else {"field": field, "title": title, "type": "nominal"}
        for field, (title, form) in fields.items()
    ]


def day_axis(title: str) -> Spec:
    """The x axis of days: partitions are UTC dates, so nothing is moved into the reader's time zone."""
    return {
        "field": "period",
        "type": "temporal",
        "timeUnit": "utcyearmonthdate",
        "scale": {"type": "utc"},
        "title": title,
        "axis": {"format": "%d %b", "labelOverlap": True},
    }


def shares_by_day(outcomes: dict[str, str], title: str) -> Spec:
    """Of each day's requested sessions, the share of each outcome (fields of the table) on a line of its own."""
    # Legends of colour and shape become one only where both name the same domain.
    scale = {"domain": list(outcomes.values())}
    outcome = {"field": "outcome", "type": "nominal", "title": "outcome", "scale": scale}
    return _base() | {
        "transform": [
            {"fold": list(outcomes), "as": ["field", "sessions"]},
            {"filter": "isNumber(datum.sessions) && isNumber(datum.requested) && datum.requested > 0"},
            {"calculate": "datum.sessions / datum.requested", "as": "share"},
            {
                "lookup": "field",
                "from": {
                    "data": {"values": [{"field": field, "outcome": name} for field, name in outcomes.items()]},
                    "key": "field",
                    "fields": ["outcome"],
                },
            },
        ],
        "encoding": {
            "x": day_axis(title),
            "y": {"field": "share", "type": "quantitative", "title": "share of requested", "axis": {"format": "~%"}},
            "color": outcome,
        },
        "layer": [
            {"mark": {"type": "line"}, "encoding": {"strokeDash": outcome}},
            {
                "mark": {"type": "point", "filled": True, "size": 45, "opacity": 1},
                "encoding": {
                    "shape": outcome,
                    "tooltip": _tips(outcome=("outcome", ""), sessions=("sessions", ","), share=("share", ".2%")),
                },
            },
        ],
    }


def histogram() -> Spec:
    """Sessions between two scores: bars of the bins' own widths, on a log scale since nearly all stand at the end."""
    return _base() | {
        "mark": {"type": "bar", "binSpacing": 1},
        "encoding": {
            "x": {"field": "low", "type": "quantitative", "title": "confidence", "scale": {"domain": [0, 100]}},
            "x2": {"field": "high"},
            "y": {
                "field": "per_point",
                "type": "quantitative",
                "title": "sessions per point of confidence",
                "scale": {"type": "symlog", "constant": 1},
                "axis": {"values": [0, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000], "format": ",d"},
            },
            "y2": {"datum": 0},
            "tooltip": _tips(low=("from", ""), high=("below", ""), sessions=("sessions", ","), share=("share", ".2%")),
        },
    }


def distance_histogram() -> Spec:
    """The same sessions by their distance from 100, on a log axis."""
    return _base() | {
        "transform": [
            {"calculate": "max(0.001, 100 - datum.low)", "as": "far"},
            {"calculate": "max(0.0005, 100 - datum.high)", "as": "near"},
        ],
        "mark": {"type": "bar", "binSpacing": 1},
        "encoding": {
            "x": {
                "field": "far",
                "type": "quantitative",
                "title": "100 − confidence (log scale)",
                "scale": {"type": "log", "reverse": True, "domain": [0.0005, 100], "nice": False},
                "axis": {"values": [100, 10, 1, 0.1, 0.01, 0.001], "format": "~g"},
            },
            "x2": {"field": "near"},
            "y": {"field": "share", "type": "quantitative", "title": "share of scored", "axis": {"format": "%"}},
            "y2": {"datum": 0},
            "tooltip": _tips(low=("from", ""), high=("below", ""), sessions=("sessions", ","), share=("share", ".2%")),
        },
    }


def ecdf(by: str | None = None, title: str = "", *, distance: bool = False) -> Spec:
    """The share of scored sessions below each score; one line for each value of `by`."""
    x: Spec = {"field": "score", "type": "quantitative", "title": "confidence", "scale": {"domain": [0, 100]}}
    transform = []
    if distance:
        transform = [{"calculate": "100 - datum.score", "as": "distance"}, {"filter": "datum.distance > 0"}]
        x = {
            "field": "distance",
            "type": "quantitative",
            "title": "100 − confidence (log scale)",
            "scale": {"type": "log", "reverse": True, "nice": False},
            "axis": {"values": [100, 10, 1, 0.1, 0.01, 0.001], "format": "~g"},
        }
    tips = _tips(score=("confidence", ""), below=("share below", ".2%"))
    return _base() | {
        "transform": transform,
        "mark": {"type": "line", "interpolate": "linear", "strokeWidth": 2},
        "encoding": {
            "x": x,
            "y": {"field": "below", "type": "quantitative", "title": "share below", "axis": {"format": "%"}},
            **_by(by, title),
            "tooltip": [*(_tips(**{by: (title, "")}) if by else []), *tips],
        },
    }


def quantile_bands(title: str) -> Spec:
    """Quantiles of each day: two bands and the median."""
    x = day_axis(title)

    def y(field: str) -> Spec:
        return {
            "field": field,
            "type": "quantitative",
            "title": "100 − confidence (log scale)",
            "scale": {"type": "log", "reverse": True, "nice": False},
            "axis": {"values": [100, 10, 1, 0.1, 0.01, 0.001], "format": "~g"},
        }

    fields = ("p05", "p25", "p50", "p75", "p95")
    return _base() | {
        "transform": [
            {"calculate": f"isNumber(datum.{name}) ? max(0.001, 100 - datum.{name}) : null", "as": f"d{name}"}
            for name in fields
        ],
        "layer": [
            {
                "transform": [{"filter": "isNumber(datum.dp05) && isNumber(datum.dp95)"}],
                "mark": {"type": "area", "opacity": 0.2},
                "encoding": {"x": x, "y": y("dp05"), "y2": {"field": "dp95"}},
            },
            {
                "transform": [{"filter": "isNumber(datum.dp25) && isNumber(datum.dp75)"}],
                "mark": {"type": "area", "opacity": 0.35},
                "encoding": {"x": x, "y": y("dp25"), "y2": {"field": "dp75"}},
            },
            {
                "transform": [{"filter": "isNumber(datum.dp50)"}],
                "mark": {"type": "line", "point": {"filled": True}},
                "encoding": {
                    "x": x,
                    "y": y("dp50"),
                    "tooltip": _tips(**{name: (name.replace("p", "quantile 0."), ".3f") for name in fields}),
                },
            },
        ],
    }


def threshold_curves() -> Spec:
    """Pass rates over the thresholds, the band between worst and best case, and a rule where the slider stands."""
    x = {"field": "threshold", "type": "quantitative", "title": "threshold", "scale": {"domain": [0, 100]}}
    y = {"type": "quantitative", "title": "pass rate", "axis": {"format": "%"}, "scale": {"domain": [0, 1]}}
    return _base(300) | {
        "params": [{"name": "at", "value": 80}],
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.18},
                "encoding": {"x": x, "y": {"field": "of_requested", **y}, "y2": {"field": "best_case"}},
            },
            {
                "transform": [
                    {"fold": ["of_scored", "of_requested", "best_case"], "as": ["which", "rate"]},
                    {"filter": "isNumber(datum.rate)"},
                    {
                        "calculate": "{of_scored: 'among scored', of_requested: 'among requested (worst case)', "
                        "best_case: 'best case for the unscored'}[datum.which]",
                        "as": "rate of",
                    },
                ],
                "mark": {"type": "line", "interpolate": "linear"},
                "encoding": {
                    "x": x,
                    "y": {"field": "rate", **y},
                    **_by("rate of", ""),
                    "tooltip": _tips(threshold=("threshold", ""), rate=("rate", ".2%")),
                },
            },
            {
                "data": {"values": [{}]},
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {"x": {"datum": {"expr": "at"}, "type": "quantitative"}},
            },
        ],
    }


def drift(title: str) -> Spec:
    """The stability index of each day, with its own bound; drift is a filled triangle above both."""
    x = day_axis(title)
    shape = {
        "field": "state",
        "type": "nominal",
        "title": "state",
        "scale": {"domain": ["steady", "drift"], "range": ["circle", "triangle-up"]},
    }
    colour = {"field": "state", "type": "nominal", "title": "state", "scale": {"domain": ["steady", "drift"]}}
    return _base() | {
        "transform": [{"filter": "isNumber(datum.psi)"}],
        "layer": [
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                "encoding": {
                    "x": x,
                    "y": {"field": "psi", "type": "quantitative", "title": "PSI"},
                    "shape": shape,
                    "color": colour,
                    "tooltip": _tips(
                        stratum=("of", ""), psi=("PSI", ".3f"), bound=("flagged above", ".3f"), state=("state", "")
                    ),
                },
            },
            {
                "data": {"values": [{"y": 0.1}]},
                "mark": {"type": "rule", "strokeDash": [4, 4]},
                "encoding": {"y": {"field": "y", "type": "quantitative"}},
            },
        ],
    }


def det() -> Spec:
    """Attack error against bona fide error, both on log axes."""
    axis = {"format": "~%"}

    def error(field: str, title: str) -> Spec:
        return {"field": field, "type": "quantitative", "title": title, "scale": {"type": "log"}, "axis": axis}

    return _base(300) | {
        "transform": [{"filter": "datum.attack_error > 0 && datum.bona_fide_error > 0"}],
        "mark": {"type": "line", "point": {"filled": True, "size": 20}},
        "encoding": {
            "x": error("attack_error", "attacks that pass"),
            "y": error("bona_fide_error", "bona fide that do not pass"),
            "order": {"field": "threshold", "type": "quantitative"},
            "tooltip": _tips(
                threshold=("threshold", ".2f"),
                attack_error=("attacks that pass", ".2%"),
                bona_fide_error=("bona fide that do not", ".2%"),
            ),
        },
    }


def density(x: str, y: str, size: float, rows: Sequence[Sequence[Any]], *, down: bool) -> Spec:
    """Images by two ratios, in squares; the y axis runs down as in an image where `down`."""

    def domain(values: list[float]) -> Spec:
        """The whole frame, and what lies beyond it."""
        return {"domain": [min([0, *values]), max([1, *(value + size for value in values)])], "nice": False}

    def ratio(field: str, title: str, scale: Spec) -> Spec:
        axis = {"format": "~g", "grid": False, "tickCount": 8}
        return {"field": field, "type": "quantitative", "axis": axis, "title": title, "scale": scale}

    return _base(300) | {
        "transform": [
            {"filter": "isNumber(datum.images)"},
            {"calculate": f"datum.x + {size}", "as": "x_end"},
            {"calculate": f"datum.y + {size}", "as": "y_end"},
        ],
        "mark": {"type": "rect"},
        "encoding": {
            "x": ratio("x", x, domain([row[0] for row in rows])),
            "x2": {"field": "x_end"},
            "y": ratio("y", y, domain([row[1] for row in rows]) | {"reverse": down}),
            "y2": {"field": "y_end"},
            "opacity": {
                "field": "images",
                "type": "quantitative",
                "title": "images",
                "scale": {"type": "sqrt", "range": [0.08, 1]},
            },
            "tooltip": _tips(x=(x, ".2f"), y=(y, ".2f"), images=("images", ",")),
        },
    }


def shares_by_group(group: str, title: str, groups: int) -> Spec:
    """Bars of a share for each group, longest names to the left."""
    return _base(26 * groups + 10) | {
        "transform": [{"filter": "isNumber(datum.share)"}],
        "mark": {"type": "bar"},
        "encoding": {
            "y": {"field": group, "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 220}},
            "x": {"field": "share", "type": "quantitative", "title": title, "axis": {"format": "~%", "tickCount": 5}},
            "tooltip": _tips(**{group: ("", "")}, share=(title, ".2%")),
        },
    }


def shares_in_bands(group: str, title: str, groups: int, bands: list[str]) -> Spec:
    """Stacked bars: how each group is spread over bands of confidence, in the order of the table."""
    return _base(26 * groups + 10) | {
        "transform": [{"window": [{"op": "row_number", "as": "place"}]}],
        "mark": {"type": "bar", "stroke": "var(--paper)"},
        "encoding": {
            "y": {"field": group, "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 220}},
            "x": {"field": "share", "type": "quantitative", "title": title, "axis": {"format": "%", "tickCount": 5}},
            "opacity": {
                "field": "band",
                "type": "ordinal",
                "title": "confidence",
                "scale": {"domain": bands, "range": [0.2, 1]},
            },
            "order": {"field": "place", "type": "quantitative"},
            "tooltip": _tips(
                **{group: ("", "")}, band=("confidence", ""), sessions=("sessions", ","), share=("share", ".2%")
            ),
        },
    }
