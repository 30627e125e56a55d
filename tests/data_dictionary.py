"""The data dictionary in README, out of the schemas: `python -m tests.data_dictionary` writes it again."""

from pathlib import Path

import pyarrow as pa

from liveness_etl.analysis.views import results_schema
from liveness_etl.load.athena import comment_of, hive_type
from liveness_etl.transform.tables import SCHEMAS, SESSIONS

README = Path(__file__).parents[1] / "README.md"
COMMAND = "python -m tests.data_dictionary"
BEGIN = f"<!-- data dictionary: written by `{COMMAND}` -->\n"
END = "<!-- end of the data dictionary -->\n"

ROWS = {
    "sessions": "one row per requested id",
    "challenges": "0 or 1 per session",
    "bounding_boxes": "one per returned image, with or without a box",
    "feedback": "0 to 10 per session",
    "runs": "one per run",
    "rejects": "one per malformed line of a manifest or an import",
    "results": "a view, one row per session and partition: all columns of sessions, and these",
}


def dictionary() -> str:
    """Every table and the view `results`, as a folded Markdown table each."""
    schemas = {name: [*schema, _partition(name)] for name, schema in SCHEMAS.items()}
    schemas["results"] = [field for field in results_schema(["NAME"]) if field.name not in SESSIONS.names]
    return "\n".join(_table(name, fields) for name, fields in schemas.items())


def _partition(table: str) -> pa.Field:
    of = "the day the run started" if table in ("runs", "rejects") else "the date of created_at, else the run's --date"
    comment = f"in the path alone: {of}, UTC; filter on it"
    return pa.field("dt", pa.date32(), nullable=False, metadata={"comment": comment})


def _table(name: str, fields: list[pa.Field]) -> str:
    lines = [
        f"<details><summary><code>{name}</code>: {ROWS[name]}</summary>",
        "",
        "| column | type | in Athena | NULL | meaning |",
        "|---|---|---|---|---|",
    ]
    for field in fields:
        null = "" if field.nullable else "never"
        comment = comment_of(field).replace("|", "\\|")
        lines.append(f"| `{field.name}` | `{_arrow(field.type)}` | `{hive_type(field.type)}` | {null} | {comment} |")
    return "\n".join([*lines, "", "</details>", ""])


def _arrow(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list[{kind.value_type}]"
    if pa.types.is_map(kind):
        return f"map[{kind.key_type}, {kind.item_type}]"
    return "date32" if pa.types.is_date(kind) else str(kind)


def with_dictionary(readme: str) -> str:
    """The text of README with the dictionary between its markers."""
    before, _, rest = readme.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError("README has lost the markers of the data dictionary")
    return f"{before}{BEGIN}\n{dictionary()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(with_dictionary(README.read_text()))
