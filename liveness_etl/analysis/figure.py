"""What a report consists of: plain frozen values that turn into JSON as they stand, and into a page.

A chart is a Vega-Lite specification without data: its data are the rows of the table beneath it, each as an object
of the columns' fields, with None for what is withheld. So a page and its JSON can never differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

Kind = Literal["text", "count", "share", "score", "number"]

Chart = Mapping[str, Any]

LEGEND: Final = (
    "“<{min_cell}” stands for fewer than {min_cell}, and “hidden” for a count that would give such a one away by "
    "subtraction; 0 is shown."
)


@dataclass(frozen=True)
class Column:
    """A column: its field in the chart, its title, and how its values read (a share is a fraction of 1)."""

    field: str
    title: str
    kind: Kind = "text"


@dataclass(frozen=True)
class Table:
    """Columns and rows. A value that is withheld is text ("<10", "hidden"), one that does not exist is None."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Figure:
    """A table, and perhaps a chart of it; `alt` says in words what the chart shows."""

    id: str
    title: str
    table: Table
    chart: Chart | None = None
    alt: str = ""
    notes: Sequence[str] = ()


def drawn(chart: Chart, table: Table, *fields: str) -> Chart | None:
    """The chart, if some row has numbers in all these fields; a chart of nothing has no axes to draw."""
    places = [place for place, column in enumerate(table.columns) if column.field in fields]
    able = any(all(isinstance(row[place], int | float) for place in places) for row in table.rows)
    return chart if able else None


@dataclass(frozen=True)
class Section:
    """Figures on one question."""

    id: str
    title: str
    notes: Sequence[str]
    figures: Sequence[Figure]


@dataclass(frozen=True)
class Headline:
    """Whether the last day is complete, in one sentence; `state` is complete, incomplete or empty."""

    state: Literal["complete", "incomplete", "empty"]
    sentence: str


@dataclass(frozen=True)
class Report:
    """Everything on the page. `explorer` holds what the threshold slider needs; None without scores."""

    title: str
    generated_at: str
    first: str | None
    last: str | None
    settings: Mapping[str, Any]
    headline: Headline
    notes: Sequence[str]
    sections: Sequence[Section]
    explorer: Mapping[str, Any] | None

    def as_json(self) -> dict[str, Any]:
        """The report as values that json.dumps takes."""
        return asdict(self)
