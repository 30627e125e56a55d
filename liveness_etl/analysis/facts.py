"""One small row per session in DuckDB, read once from the tables: what every figure of a report is counted from.

`facts` covers the days of the report, `facts_and_before` also those that they are compared with. They have no session
id and no text: outcomes, challenges, SDKs and sources are numbers of the names that occur most (what a client reports
of itself may take any number of values), so ten million rows fit into 400 MB, and spill beyond that.
A score's bin is its place in EDGES, found without rounding. A person is a hash of 64 bits: that any two of ten million
are taken for one has a chance of 1 in 370,000.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from liveness_etl.analysis.query import connect, store_error

EDGES: Final = (
    *(tenth / 10 for tenth in range(990)),
    *(hundredth / 100 for hundredth in range(9900, 9990)),
    *(thousandth / 1000 for thousandth in range(99_900, 100_000)),
    100.0,
)
"""Lower ends of the fine bins of a confidence: finer towards 100, where scores crowd; the last bin is 100 itself."""

BINS: Final = len(EDGES) + 1
"""Bin 0: has a score, but did not end SUCCEEDED, and so passes at no threshold. Bin i + 1 begins at EDGES[i]."""

MOST_NAMES: Final = {"source": 8, "outcome": 12, "challenge": 8, "sdk": 8}
OTHER: Final = 0
NONE: Final = 255
"""The number of what is NULL."""

MISSING: Final = 0
UNSTORED: Final = 1
STORED: Final = 2
"""The reference image of a session that SUCCEEDED: not in the answer, discarded or lost, kept."""

_NAME_LENGTH: Final = 60

_AT_ONCE: Final = 500_000

_EXPRESSIONS: Final = {
    "source": ("sessions", "source"),
    "outcome": ("sessions", "outcome"),
    "sdk": ("sessions", "sdk_type"),
    "challenge": ("challenges", "coalesce(type, '?') || ' ' || coalesce(version, '?')"),
}

_SCORE = "if(isfinite(confidence), confidence, NULL)"


def _bin_sql(score: str) -> str:
    # The quotient of two whole numbers is the very number that its decimal stands for, so >= is exact at an edge.
    def step(scale: int, first: int) -> str:
        k = f"floor({score} * {scale})::INTEGER"
        return f"{k} + ({score} >= ({k} + 1) / {scale}.0)::INTEGER - ({score} < {k} / {scale}.0)::INTEGER - {first}"

    return (
        f"CASE WHEN {score} >= 100 THEN {len(EDGES)} WHEN {score} >= 99.9 THEN 1081 + {step(1000, 99_900)} "
        f"WHEN {score} >= 99 THEN 991 + {step(100, 9900)} WHEN {score} >= 0 THEN 1 + {step(10, 0)} ELSE 1 END"
    )


_FACTS = f"""
WITH sessions_of AS (
    SELECT *, {_SCORE} AS score,
        fetched_at > created_at + to_milliseconds($ttl_ms::BIGINT) AS late,
        fetched_at > created_at + to_milliseconds(2 * $ttl_ms::BIGINT) AS very_late
    FROM sessions WHERE dt BETWEEN $from::DATE AND $to::DATE
),
challenge_of AS (
    SELECT dt, session_id, coalesce(list_position($challenges, {_EXPRESSIONS["challenge"][1]}), {OTHER}) AS challenge
    FROM challenges WHERE dt BETWEEN $from::DATE AND $to::DATE
),
reference_of AS (
    SELECT dt, session_id, image_uri IS NOT NULL OR s3_name IS NOT NULL AS stored FROM bounding_boxes
    WHERE dt BETWEEN greatest($from::DATE, $first::DATE) AND $to::DATE AND image_type = 'reference'
)
SELECT dt, coalesce(list_position($sources, source), {OTHER})::UTINYINT AS source,
    coalesce(list_position($outcomes, outcome), {OTHER})::UTINYINT AS outcome,
    coalesce(challenge, {NONE})::UTINYINT AS challenge,
    if(sdk_type IS NULL, {NONE}, coalesce(list_position($sdks, sdk_type), {OTHER}))::UTINYINT AS sdk,
    CASE WHEN score IS NULL THEN NULL WHEN status IS DISTINCT FROM 'SUCCEEDED' THEN 0
        ELSE {_bin_sql("score")} END::SMALLINT AS bin,
    if(status = 'SUCCEEDED', least(greatest(score, 0), 100), NULL) AS score,
    coalesce(CASE
        WHEN status IN ('SUCCEEDED', 'FAILED') AND error_code IS NULL OR status = 'EXPIRED' THEN true
        WHEN status IS NOT NULL THEN very_late
        WHEN outcome IN ('SessionNotFoundException', 'InvalidParameterException') THEN late OR created_at IS NULL
        ELSE false END, false) AS final,
    coalesce(late, false) AS late,
    created_at IS NULL AS ageless,
    if(status = 'SUCCEEDED', CASE WHEN stored THEN {STORED} WHEN NOT stored THEN {UNSTORED} ELSE {MISSING} END, NULL)
        ::UTINYINT AS reference,
    {{subject}} AS subject, {{born}} AS born
FROM sessions_of LEFT JOIN challenge_of USING (dt, session_id) LEFT JOIN reference_of USING (dt, session_id)
"""


@dataclass(frozen=True)
class Facts:
    """The table `facts` of days `first` to `last`, and the names behind its numbers; None for no day at all."""

    connection: duckdb.DuckDBPyConnection
    first: date
    last: date
    names: Mapping[str, tuple[str, ...]]
    has_subjects: bool

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query over `facts` and the views of the tables."""
        return self.connection.execute(sql, values or None).fetchall()

    def batches(self, sql: str, rows: int) -> pa.RecordBatchReader:
        """The same, about so many at a time; to be read to its end before the next query."""
        return self.connection.execute(sql).to_arrow_reader(rows)

    def name(self, kind: str, number: int) -> str:
        """What a source, outcome, challenge or sdk is called; outside text, shortened."""
        if number == NONE:
            return "none"
        name = "other" if number == OTHER else self.names[kind][number - 1]
        return name if len(name) <= _NAME_LENGTH else name[: _NAME_LENGTH - 1] + "…"

    @property
    def bin_sql(self) -> str:
        """The fine bin of a finite `confidence` of a session that SUCCEEDED."""
        return _bin_sql("confidence")

    def bins(self, by: str, where: str = "true") -> dict[Any, npt.NDArray[np.int64]]:
        """Scored sessions by fine bin, for each value of an expression over `facts`."""
        return binned(
            self.rows(f"SELECT {by}, bin, count(*) FROM facts WHERE bin IS NOT NULL AND {where} GROUP BY ALL")
        )


def binned(rows: list[tuple[Any, ...]]) -> dict[Any, npt.NDArray[np.int64]]:
    """Rows of (group, fine bin, count) as an array over the fine bins for each group."""
    found: dict[Any, npt.NDArray[np.int64]] = {}
    for group, number, count in rows:
        found.setdefault(group, np.zeros(BINS, np.int64))[number] += count
    return found


@contextmanager
def open_facts(
    output: str,
    first: date | None,
    last: date | None,
    *,
    default_days: int,
    days_before: int,
    ttl_seconds: float,
    subject_attribute: str | None,
    memory_limit: str,
    **s3_options: Any,
) -> Iterator[Facts | None]:
    """The facts of the days from `first` to `last` (UTC partitions, both included); None where there are none.

    Without `first`, it is `default_days` days with data up to the last. `days_before` more are read for comparison.
    Raises StoreError, or UsageError where DuckDB cannot reach the output.
    """
    with connect(output, memory_limit=memory_limit, **s3_options) as connection:
        try:
            days = list(_days(connection, first, last))
            days = days if first else days[-default_days:]
            yield _read(connection, days, days_before, ttl_seconds, subject_attribute) if days else None
        except duckdb.Error as error:
            if told := store_error(error):
                raise told from None
            raise


def _days(connection: duckdb.DuckDBPyConnection, first: date | None, last: date | None) -> dict[date, int]:
    """The days that have sessions, in order, and how many."""
    bounds = {"first": first or date.min, "last": last or date.max}
    found = connection.execute(
        "SELECT dt, count(*) FROM sessions WHERE dt BETWEEN $first AND $last GROUP BY dt ORDER BY dt", bounds
    )
    return dict(found.fetchall())


def _stretches(days: Mapping[date, int]) -> Iterator[tuple[date, date]]:
    """First and last day of stretches of about _AT_ONCE sessions, so that joins of any span stay in memory."""
    start, together = None, 0
    for dt, sessions in days.items():
        start, together = start or dt, together + sessions
        if together >= _AT_ONCE:
            yield start, dt
            start, together = None, 0
    if start:
        yield start, dt


def _read(
    connection: duckdb.DuckDBPyConnection,
    days: list[date],
    days_before: int,
    ttl_seconds: float,
    subject_attribute: str | None,
) -> Facts:
    bounds = {"first": days[0].isoformat(), "last": days[-1].isoformat()}
    names = {kind: _most_frequent(connection, kind, bounds) for kind in _EXPRESSIONS}
    values: dict[str, Any] = {"first": bounds["first"], "ttl_ms": round(ttl_seconds * 1000)}
    values |= {f"{kind}s": list(found) for kind, found in names.items()}
    if subject_attribute is None:
        sql = _FACTS.format(subject="NULL::UBIGINT", born="NULL::BIGINT")
    else:
        sql = _FACTS.format(
            subject="if(attributes[$subject] IS NULL, NULL, hash(attributes[$subject]))",
            born="epoch_ms(coalesce(created_at, fetched_at))",
        )
        values["subject"] = subject_attribute
    into = "CREATE TEMP TABLE facts_and_before AS"
    for start, end in _stretches(_days(connection, days[0] - timedelta(days_before), days[-1])):
        connection.execute(f"{into} {sql}", values | {"from": start.isoformat(), "to": end.isoformat()})
        into = "INSERT INTO facts_and_before"
    # In place of a parameter, which a view cannot have.
    connection.execute(f"CREATE TEMP VIEW facts AS SELECT * FROM facts_and_before WHERE dt >= DATE '{days[0]}'")
    return Facts(connection, days[0], days[-1], names, subject_attribute is not None)


def _most_frequent(connection: duckdb.DuckDBPyConnection, kind: str, bounds: dict[str, Any]) -> tuple[str, ...]:
    table, expression = _EXPRESSIONS[kind]
    found = connection.execute(
        f"SELECT {expression} AS name FROM {table} WHERE dt BETWEEN $first::DATE AND $last::DATE AND name IS NOT NULL "
        f"GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT {MOST_NAMES[kind]}",
        bounds,
    )
    return tuple(name for (name,) in found.fetchall())
