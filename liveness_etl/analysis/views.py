"""The views over the tables: `results`, one row per session with what its children hold, the join that analysts would
write each time; and in Athena `confidence_daily`, the figures of a day that a dashboard draws.

`results` is one text for DuckDB and for Athena; where the two differ, `_OF_MAP` and `_column` say how.
"""

import re
from collections.abc import Sequence
from typing import Final, Literal

import pyarrow as pa

from liveness_etl.errors import UsageError
from liveness_etl.transform import tables
from liveness_etl.transform.normalize import FINISHED, IMAGE_NOT_STORED, NO_SUCH_SESSION, NOT_ASKED

Dialect = Literal["duckdb", "athena"]

ATTRIBUTE_PREFIX: Final = "attr_"

# A missing key: NULL in both. `attributes['x']` is an error in Athena, element_at a list in DuckDB.
_OF_MAP: Final = {"duckdb": "s.attributes[{key}]", "athena": "element_at(s.attributes, {key})"}
_SIDES: Final = ("left", "top", "width", "height")
_PERCENTILES: Final = (1, 5, 25, 50)  # scores crowd at 100: the lower half tells


def _field(name: str, kind: pa.DataType, comment: str) -> pa.Field:
    return pa.field(name, kind, metadata={"comment": comment})


def results_schema(attributes: Sequence[str] = (), dialect: Dialect = "duckdb") -> pa.Schema:
    """The columns of `results` in their order, with types and comments; `dt` is the last one.

    Raises UsageError for attributes that cannot be columns side by side.
    """
    return pa.schema(
        [
            *tables.SESSIONS,
            _field("challenge_type", pa.string(), "type in challenges"),
            _field("challenge_version", pa.string(), "version in challenges"),
            _field("reference_image_uri", pa.string(), "image_uri of the reference image; NULL: none was kept"),
            *(_field(f"reference_box_{side}", pa.float64(), f"box_{side} of the reference image") for side in _SIDES),
            _field("audit_image_count", pa.int64(), "audit images returned; 0 without an answer"),
            _field("feedback_codes", pa.list_(pa.string()), "Feedback.Code in the answer's order; empty without any"),
            _field(
                "is_final",
                pa.bool_(),
                "true: no run asks its source for it again; false: the next one does; NULL: only landing tells",
            ),
            _field("age_at_fetch_seconds", pa.float64(), "fetched_at - created_at"),
            *(
                _field(column, pa.string(), "an attribute of the manifest line; NULL where absent")
                for column in _attribute_columns(attributes, dialect)
            ),
            _field("dt", pa.date32(), "partition: UTC date of created_at, else the run's date"),
        ]
    )


def results_sql(
    dialect: Dialect, attributes: Sequence[str] = (), session_ttl_seconds: float = 180, database: str | None = None
) -> str:
    """The SELECT behind `results` over sessions, challenges, bounding_boxes and feedback, in `database` where given.

    Children are joined on `dt` too, so that a filter on `dt` or `session_id` reaches every table.

    `is_final` is the contract's 'Final' for the source that was asked, as far as the winning row tells. It is NULL
    where rows that lost decide: an image could not be stored, a session was not found before it expired, or one
    without created_at was pending; in each case unless it was read late enough to be final anyway.
    Raises UsageError as `results_schema` does.
    """
    of = _prefix(database)
    columns = [f"s.{name}" for name in tables.SESSIONS.names]
    columns += ["c.type AS challenge_type", "c.version AS challenge_version", "b.reference_image_uri"]
    columns += [f"b.reference_box_{side}" for side in _SIDES]
    columns += [
        "coalesce(b.audit_image_count, 0) AS audit_image_count",
        "coalesce(f.feedback_codes, ARRAY[]) AS feedback_codes",
        f"{_is_final_sql(session_ttl_seconds)} AS is_final",
        "date_diff('millisecond', s.created_at, s.fetched_at) / 1e3 AS age_at_fetch_seconds",
    ]
    columns += [
        f"{_OF_MAP[dialect].format(key=_quoted(name, chr(39)))} AS {_quoted(column, chr(34))}"
        for column, name in _attribute_columns(attributes, dialect).items()
    ]
    columns.append("s.dt")
    boxes = ",\n        ".join(
        f"max(CASE WHEN image_type = 'reference' THEN {name} END) AS reference_{name}"
        for name in ("image_uri", *(f"box_{side}" for side in _SIDES))
    )
    return f"""SELECT
    {("," + chr(10) + "    ").join(columns)}
FROM {of}sessions s
LEFT JOIN {of}challenges c ON c.dt = s.dt AND c.session_id = s.session_id
LEFT JOIN (
    SELECT dt, session_id,
        {boxes},
        count(CASE WHEN image_type = 'audit' THEN 1 END) AS audit_image_count
    FROM {of}bounding_boxes GROUP BY dt, session_id
) b ON b.dt = s.dt AND b.session_id = s.session_id
LEFT JOIN (
    SELECT dt, session_id, array_agg(code ORDER BY feedback_index) AS feedback_codes
    FROM {of}feedback GROUP BY dt, session_id
) f ON f.dt = s.dt AND f.session_id = s.session_id"""


CONFIDENCE_DAILY: Final = pa.schema(
    [
        _field("dt", pa.date32(), "partition: UTC date of created_at, else the run's date"),
        _field("source", pa.string(), "name of the account and region it was asked of"),
        _field("challenge_type", pa.string(), "Challenge.Type; NULL where no answer had one"),
        _field("sessions", pa.int64(), "requested ids"),
        _field("succeeded", pa.int64(), "of these, with status SUCCEEDED"),
        _field("scored", pa.int64(), "of the sessions, those with a confidence"),
        _field("unscored_share", pa.float64(), "1 - scored / sessions"),
        *(
            _field(f"confidence_p{percent:02d}", pa.float64(), "approximate percentile of confidence; NULL if unscored")
            for percent in _PERCENTILES
        ),
        _field("threshold", pa.float64(), "report.threshold when this view was made"),
        _field("passed", pa.int64(), "sessions that SUCCEEDED with a confidence of at least the threshold"),
    ]
)
"""The columns of `confidence_daily`: one row per day, source and challenge type."""


def confidence_daily_sql(threshold: float, database: str | None = None) -> str:
    """Athena's SELECT behind `confidence_daily`, over sessions and challenges; `threshold` is a confidence (0-100)."""
    of = _prefix(database)
    percentiles = "\n    ".join(
        f"approx_percentile(s.confidence, {percent / 100}) AS confidence_p{percent:02d}," for percent in _PERCENTILES
    )
    passes = f"s.status = 'SUCCEEDED' AND s.confidence >= {float(threshold)!r}"
    return f"""SELECT
    s.dt, s.source, c.type AS challenge_type,
    count(*) AS sessions,
    count(CASE WHEN s.status = 'SUCCEEDED' THEN 1 END) AS succeeded,
    count(s.confidence) AS scored,
    1 - count(s.confidence) / CAST(count(*) AS double) AS unscored_share,
    {percentiles}
    CAST({float(threshold)!r} AS double) AS threshold,
    count(CASE WHEN {passes} THEN 1 END) AS passed
FROM {of}sessions s
LEFT JOIN {of}challenges c ON c.dt = s.dt AND c.session_id = s.session_id
GROUP BY s.dt, s.source, c.type"""


def _is_final_sql(session_ttl_seconds: float) -> str:
    expiry, twice = (f"s.created_at + INTERVAL '{lives * session_ttl_seconds}' SECOND" for lives in (1, 2))
    return f"""CASE
        WHEN s.error_code = '{NOT_ASKED}' THEN false
        WHEN s.status IN {FINISHED} AND (s.error_code IS NULL OR s.error_code <> '{IMAGE_NOT_STORED}') THEN true
        WHEN s.status = 'EXPIRED' THEN true
        WHEN s.status IS NOT NULL AND s.fetched_at > {twice} THEN true
        WHEN s.status IN {FINISHED} THEN NULL
        WHEN s.status IS NOT NULL THEN CASE WHEN s.created_at IS NOT NULL THEN false END
        WHEN s.error_code IN {NO_SUCH_SESSION} THEN
            CASE WHEN s.created_at IS NULL OR s.fetched_at > {expiry} THEN true END
        ELSE false
    END"""


def _attribute_columns(attributes: Sequence[str], dialect: Dialect) -> dict[str, str]:
    """The attributes by their columns."""
    columns: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name in attributes:
        if not name or "\0" in name:
            raise UsageError(f"attribute {name!r} cannot be a column of results: take it out of manifest.attributes")
        column = _column(name, dialect)
        other = taken.setdefault(column.lower(), name)
        if other != name:
            raise UsageError(
                f"attributes {other!r} and {name!r} would both be the column {column.lower()} of results: "
                "leave one of them out of manifest.attributes"
            )
        columns[column] = name
    return columns


def _column(attribute: str, dialect: Dialect) -> str:
    # AWS, 'Name databases, tables, and columns': Athena supports no other characters, and folds upper case.
    name = re.sub("[^a-z0-9_]", "_", attribute.lower()) if dialect == "athena" else attribute
    return ATTRIBUTE_PREFIX + name


def _prefix(database: str | None) -> str:
    return "" if database is None else f"{_quoted(database, chr(34))}."


def _quoted(text: str, quote: str) -> str:
    return f"{quote}{text.replace(quote, quote * 2)}{quote}"
