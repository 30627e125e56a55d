"""The README's curves of `pace --plot`: calls a second against a changing limit, drawn as SVG by hand."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.benchmarks.judge import Seen

WIDTH, PANEL_WIDTH, PANEL_HEIGHT = 880, 372, 150
LEFT, TOP, GAP_X, GAP_Y = 48, 88, 436, 234
TOP_OF_SCALE = 1.6  # of the highest limit: what lies above is cut off

_STYLE = """
text { font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif; font-size: 12px; fill: #59636e }
.paper { fill: #ffffff } .title { font-size: 15px; font-weight: 600; fill: #1f2328 } .bad { fill: #bc4c00 }
.grid { stroke: #d1d9e0; stroke-width: 1 } .end { text-anchor: end } .middle { text-anchor: middle }
.accepted { fill: #2f81f7 } .rejected { fill: #f0883e } .limit { fill: none; stroke: #1f2328; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1 } .paper { fill: #0d1117 } .title { fill: #f0f6fc } .bad { fill: #f0883e }
  .grid { stroke: #30363d } .accepted { fill: #1f6feb } .limit { stroke: #f0f6fc }
}
"""


class Curve(NamedTuple):
    """One client: what the judge saw of it, and how many of its ids it brought an answer for."""

    who: str
    seen: Seen
    ids: int
    answered: int


def draw(curves: Sequence[Curve]) -> str:
    """A panel per client, two in a row, all to one scale. The limit is drawn for as long as the client lasted."""
    seconds = max(len(curve.seen.accepted) for curve in curves)
    highest = max(max(curve.seen.limits) for curve in curves)
    height = TOP + (len(curves) + 1) // 2 * GAP_Y - 30
    panels = "\n".join(
        f'<g transform="translate({LEFT + number % 2 * GAP_X},{TOP + number // 2 * GAP_Y})">\n'
        + "\n".join(_panel(curve, seconds, highest))
        + "\n</g>"
        for number, curve in enumerate(curves)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="Calls a second of four clients against a limit that is halved for a while">\n'
        f"<style>{_STYLE}</style>\n"
        f'<rect class="paper" width="{WIDTH}" height="{height}"/>\n'
        f"{_legend(highest * TOP_OF_SCALE)}\n{panels}\n</svg>\n"
    )


def _legend(top: float) -> str:
    return (
        f'<g transform="translate({LEFT},14)">'
        '<rect class="accepted" width="12" height="12"/><text x="18" y="10">accepted calls a second</text>'
        '<rect class="rejected" x="180" width="12" height="12"/>'
        f'<text x="198" y="10">rejected ones, on top (cut off at {top:g})</text>'
        '<path class="limit" d="M436 6h20"/><text x="464" y="10">the limit that the service enforces</text></g>'
    )


def _panel(curve: Curve, seconds: int, highest: float) -> Iterator[str]:
    seen, top = curve.seen, highest * TOP_OF_SCALE

    def x(second: float) -> str:
        return f"{second / seconds * PANEL_WIDTH:.1f}"

    def y(calls: float) -> str:
        return f"{(1 - min(calls, top) / top) * PANEL_HEIGHT:.1f}"

    def steps(values: Sequence[float]) -> str:
        return "".join(f"V{y(value)}H{x(second + 1)}" for second, value in enumerate(values))

    who = "liveness-etl" if curve.who == "ours" else curve.who
    lost = curve.ids - curve.answered
    yield f'<text class="title" y="-26">{who}</text>'
    yield (
        f'<text y="-9"{_bad(lost)}>{curve.answered:,} of {curve.ids:,} ids answered</text>'
        f'<text class="end{" bad" if seen.rejected_share > 0.05 else ""}" x="{PANEL_WIDTH}" y="-9">'
        f"{seen.throttled:,} of {seen.requests:,} calls rejected</text>"
    )
    for tick in (0, highest / 2, highest):
        yield f'<path class="grid" d="M0 {y(tick)}H{PANEL_WIDTH}"/>'
        yield f'<text class="end" x="-8" y="{float(y(tick)) + 4:.1f}">{tick:g}</text>'
    total = [accepted + rejected for accepted, rejected in zip(seen.accepted, seen.rejected, strict=True)]
    end = x(len(total))
    yield f'<path class="rejected" d="M0 {y(0)}{steps(total)}V{y(0)}Z"/>'
    yield f'<path class="accepted" d="M0 {y(0)}{steps(seen.accepted)}V{y(0)}Z"/>'
    yield f'<path class="limit" d="M0 {y(seen.limits[0])}{steps(seen.limits)}"/>'
    if seconds - len(total) > seconds / 5:
        word = "over" if lost else "done"
        yield f'<text x="{float(end) + 8:.1f}" y="{y(highest / 4)}">{word} after {len(total)} s</text>'
    for tick in range(0, seconds + 1, 30 if seconds >= 90 else 10):
        yield f'<text class="middle" x="{x(tick)}" y="{PANEL_HEIGHT + 18}">{tick} s</text>'


def _bad(lost: int) -> str:
    return ' class="bad"' if lost else ""
