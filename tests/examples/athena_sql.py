"""What Athena would refuse, or answer otherwise than DuckDB, as far as sqlglot and Trino's reference tell.

sqlglot parses Athena's dialect, but takes any name for a function and knows no types by itself.
"""

from collections.abc import Iterator
from itertools import pairwise

import sqlglot
from sqlglot import exp
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify
from sqlglot.tokens import TokenType

from liveness_etl.analysis.views import results_schema
from liveness_etl.load.athena import trino_type
from liveness_etl.transform.tables import SCHEMAS

# fmt: off
TRINO_FUNCTIONS = frozenset(
    [
        "abs", "approx_distinct", "approx_percentile", "arbitrary", "array_agg", "array_join", "avg",
        "bool_and", "bool_or", "cardinality", "cast", "coalesce", "contains", "count", "count_if", "cume_dist",
        "current_date", "date", "date_add", "date_diff", "date_trunc", "day_of_week", "dense_rank",
        "element_at", "every", "filter", "first_value", "floor", "greatest", "hour", "if", "lag", "last_value",
        "lead", "least", "length", "lower", "map_keys", "max", "max_by", "min", "min_by", "month", "ntile",
        "nullif", "percent_rank", "rank", "round", "row_number", "split_part", "starts_with", "stddev",
        "strpos", "substr", "sum", "transform", "try", "try_cast", "upper", "week", "width_bucket",
        "wilson_interval_lower", "wilson_interval_upper", "year",
    ]
)
"""Some of trino.io/docs/current/functions/list.html, which Athena's engine 3 is based on: look others up there."""

_BEFORE_PARENTHESES = frozenset(
    [
        "and", "as", "between", "by", "case", "distinct", "else", "exists", "filter", "from", "in", "interval",
        "join", "not", "on", "or", "over", "select", "then", "using", "values", "when", "where", "with",
    ]
)
# fmt: on

_TEXT_ONLY = {
    exp.Qualify: "QUALIFY",
    exp.Bracket: "[…], an error for a missing key of a map",
    exp.ILike: "ILIKE",
    exp.Pivot: "PIVOT",
}
_NUMBERS, _TIMES, _TEXTS = exp.DataType.INTEGER_TYPES, exp.DataType.TEMPORAL_TYPES, exp.DataType.TEXT_TYPES


def objections(sql: str, attributes: tuple[str, ...] = ()) -> list[str]:
    """Why Athena might not run this query as DuckDB does; none is no proof that it does. Raises ParseError."""
    return list(_objections(sql, attributes))


def _objections(sql: str, attributes: tuple[str, ...]) -> Iterator[str]:
    tokens = list(sqlglot.tokenize(sql, read="athena"))
    for token, following in pairwise(tokens):
        name = token.text.lower()
        called = following.token_type is TokenType.L_PAREN and name.isidentifier()
        if called and name not in TRINO_FUNCTIONS | _BEFORE_PARENTHESES:
            yield f"{name} is no function of Trino's"
        if token.token_type is TokenType.DCOLON:
            yield ":: is no cast of Trino's"
    tree = sqlglot.parse_one(sql, read="athena")
    if not isinstance(tree, exp.Select) or tokens[0].text.upper() not in ("SELECT", "WITH"):
        yield "it is no SELECT"
        return
    yield from (f"it has {words}" for kind, words in _TEXT_ONLY.items() if tree.find(kind))
    if any(group.args.get("all") for group in tree.find_all(exp.Group)):
        yield "it has GROUP BY ALL"
    yield from _typed_objections(tree, attributes)


def _typed_objections(tree: exp.Expression, attributes: tuple[str, ...]) -> Iterator[str]:
    schema = {
        table: {field.name: exp.DataType.build(trino_type(field.type), dialect="athena") for field in fields}
        | {"dt": exp.DataType.build("date")}
        for table, fields in (SCHEMAS | {"results": results_schema(attributes, "athena")}).items()
    }
    try:
        # Trino knows the names of SELECT in ORDER BY alone.
        tree = annotate_types(qualify(tree, schema=schema, dialect="athena", expand_alias_refs=False), schema=schema)
    except sqlglot.errors.OptimizeError as error:
        yield str(error).splitlines()[0]
        return
    filtered = {
        column.table
        for where in tree.find_all(exp.Where)
        for column in where.find_all(exp.Column)
        if column.name == "dt"
    }
    for table in tree.find_all(exp.Table):
        if table.alias_or_name not in filtered:
            yield f"it does not filter {table.name} on dt: it reads, and is billed for, all days"
    for clause in tree.find_all(exp.Where, exp.Group, exp.Having):
        yield from (
            f"{column.sql()} is no column of a table" for column in clause.find_all(exp.Column) if not column.table
        )
    for division in tree.find_all(exp.Div):
        if all(side.is_type(*_NUMBERS) for side in (division.this, division.expression)):
            yield f"{division.sql('athena')} divides whole numbers, which leaves a whole number"
    for comparison in tree.find_all(exp.Binary, exp.Between):
        kinds = [side for side in comparison.iter_expressions() if side.is_type(*_TIMES, *_TEXTS)]
        if len({side.is_type(*_TIMES) for side in kinds}) > 1:
            yield f"{comparison.sql('athena')} compares a time with a text"
