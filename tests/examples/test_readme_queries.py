"""The questions that README answers in SQL: the answers are right in DuckDB, and Athena is given nothing it refuses.

Every query runs as it stands there over the demo data, and over made-up rows with everything missing that can be.
What it should say is counted in plain Python from the rows of the files.
"""

import random
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import sqlglot

import liveness_etl
from tests.analysis.made_tables import session, write_tables
from tests.analysis.test_views import final_by_rank
from tests.data_dictionary import README
from tests.examples.athena_sql import objections

ATTRIBUTES = ("user_id", "app_version")
FIRST, LAST = date(2026, 3, 2), date(2026, 3, 15)

Rows = list[dict[str, Any]]


def questions() -> dict[str, str]:
    """The queries of README by their numbers."""
    section = (
        README.read_text().partition("<!-- ten questions -->")[2].partition("<!-- end of the ten questions -->")[0]
    )
    return dict(re.findall(r"<summary>(\d+)\. [^\n]*\?</summary>.*?```sql\n(.*?)```", section, re.DOTALL))


QUESTIONS = questions()


class Files:
    """The rows of an output's files, without any engine."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self.sessions = self.rows("sessions")
        self.challenge = {(row["dt"], row["session_id"]): row for row in self.rows("challenges")}

    def rows(self, table: str) -> Rows:
        return [
            row | {"dt": date.fromisoformat(path.parent.name.removeprefix("dt="))}
            for path in sorted((self._output / table).glob("dt=*/*.parquet"))
            for row in pq.read_table(path, partitioning=None).to_pylist(maps_as_pydicts="strict")
        ]

    def between(self, first: date = FIRST, last: date = LAST) -> Rows:
        return [row for row in self.sessions if first <= row["dt"] <= last]


def share(part: int, of: int) -> float | None:
    return part / of if of else None


def mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def scores(rows: Rows) -> list[float]:
    return [row["confidence"] for row in rows if row["confidence"] is not None]


def grouped(rows: Rows, key: Callable[[dict[str, Any]], Any]) -> Iterator[tuple[Any, Rows]]:
    """Groups in the order of their keys, NULLs last."""

    def order(row: dict[str, Any]) -> Any:
        found = key(row)
        return [(one is None, one or "") for one in found] if isinstance(found, tuple) else (found is None, found)

    for _, of_group in groupby(sorted(rows, key=order), order):
        group = list(of_group)
        yield key(group[0]), group


def passes(row: dict[str, Any]) -> bool:
    return row["status"] == "SUCCEEDED" and row["confidence"] is not None and row["confidence"] >= 90


def age(row: dict[str, Any]) -> float | None:
    if row["created_at"] is None or row["fetched_at"] is None:
        return None
    seconds: float = (row["fetched_at"] - row["created_at"]).total_seconds()
    return seconds


def is_final(row: dict[str, Any]) -> bool | None:
    read = age(row)
    seconds = None if row["fetched_at"] is None else 10**9 if read is None else read
    return final_by_rank(row["status"], row["error_code"], row["created_at"] is not None, seconds)  # type: ignore[arg-type]


def completeness(files: Files) -> Iterator[tuple[Any, ...]]:
    for source, rows in grouped(files.between(LAST), lambda row: row["source"]):
        outcomes = [row["outcome"] for row in rows]
        yield (
            source,
            len(rows),
            sum(row["status"] in ("SUCCEEDED", "FAILED") for row in rows),
            sum(row["status"] in ("CREATED", "IN_PROGRESS") for row in rows),
            outcomes.count("EXPIRED") + outcomes.count("SessionNotFoundException"),
            sum(row["status"] is None for row in rows) - outcomes.count("SessionNotFoundException"),
            sum(is_final(row) is True for row in rows) / len(rows),
        )


def pass_rates(files: Files) -> Iterator[tuple[Any, ...]]:
    for dt, rows in grouped(files.between(), lambda row: row["dt"]):
        passed = sum(map(passes, rows))
        answered = sum(row["status"] in ("SUCCEEDED", "FAILED") for row in rows)
        yield dt, passed, share(passed, len(scores(rows))), share(passed, answered), passed / len(rows)


def without_score(files: Files) -> Iterator[tuple[Any, ...]]:
    rows = files.between()
    found = [
        (outcome, len(of), len(of) - len(scores(of)), (len(of) - len(scores(of))) / len(rows))
        for outcome, of in grouped(rows, lambda row: row["outcome"])
    ]
    yield from sorted(found, key=lambda row: -row[2])


def by_challenge(files: Files) -> Iterator[tuple[Any, ...]]:
    def kind(row: dict[str, Any]) -> tuple[Any, ...]:
        challenge = files.challenge.get((row["dt"], row["session_id"]), {})
        return challenge.get("type"), challenge.get("version"), row["sdk_type"]

    found = []
    for key, rows in grouped(files.between(), kind):
        scored = scores(rows)
        distances = mean([100 - score for score in scored])
        found.append((*key, len(rows), len(scored), distances, share(sum(s < 90 for s in scored), len(scored))))
    yield from sorted(found, key=lambda row: -row[3])


def asked_again_or_late(files: Files) -> Iterator[tuple[Any, ...]]:
    for (dt, source), rows in grouped(files.between(date(2026, 3, 9)), lambda row: (row["dt"], row["source"])):
        yield (
            dt,
            source,
            sum(row["attempts"] > 1 for row in rows),
            sum(row["attempts"] for row in rows),
            sum((age(row) or 0) > 180 for row in rows),
            sum(row["created_at"] is None for row in rows),
        )


def of_one_user(files: Files) -> Iterator[tuple[Any, ...]]:
    rows = [row for row in files.between() if (row["attributes"] or {}).get("user_id") == "user-379"]
    for _, same_time in grouped(rows, lambda row: row["created_at"]):
        for row in sorted(same_time, key=lambda row: (row["dt"], row["session_id"])):
            challenge = files.challenge.get((row["dt"], row["session_id"]), {})
            names = ("dt", "created_at", "session_id", "outcome", "confidence")
            yield (*(row[name] for name in names), challenge.get("type"))


def images_to_look_at(files: Files) -> Iterator[tuple[Any, ...]]:
    images = [row for row in files.rows("bounding_boxes") if row["dt"] == LAST]
    references = {row["session_id"]: row["image_uri"] for row in images if row["image_type"] == "reference"}
    audits = [row["session_id"] for row in images if row["image_type"] == "audit"]
    rows = [
        (row["confidence"], row["session_id"], references[row["session_id"]], audits.count(row["session_id"]))
        for row in files.between(LAST)
        if row["status"] == "SUCCEEDED" and references.get(row["session_id"])
    ]
    yield from sorted(rows, key=lambda row: (row[0] is None, *row[:2]))[:20]


def feedback(files: Files) -> Iterator[tuple[Any, ...]]:
    parents = {(row["dt"], row["session_id"]): row for row in files.between()}
    entries = {(row["dt"], row["session_id"], row["code"]): row for row in files.rows("feedback")}
    found = []
    for code, rows in grouped(list(entries.values()), lambda row: row["code"]):
        joined = [parents[row["dt"], row["session_id"]] for row in rows if (row["dt"], row["session_id"]) in parents]
        scored = scores(joined)
        found.append((code, len(joined), sum(score < 90 for score in scored), mean(scored)))
    yield from sorted(found, key=lambda row: -row[1])


def weeks(files: Files) -> Iterator[tuple[Any, ...]]:
    rows = [row for row in files.between() if row["status"] == "SUCCEEDED" and row["confidence"] is not None]
    for monday, of_week in grouped(rows, lambda row: row["dt"] - timedelta(row["dt"].weekday())):
        ranked = sorted(scores(of_week))
        quantiles = (
            next(score for score in ranked if sum(other <= score for other in ranked) >= percent * len(ranked) / 100)
            for percent in (1, 5, 25, 50)
        )
        yield monday, len(ranked), *quantiles


def rejected(files: Files) -> Iterator[tuple[Any, ...]]:
    found = []
    for (uri, reason), rows in grouped(files.rows("rejects"), lambda row: (row["manifest_uri"], row["reason"])):
        lines = [row["line_number"] for row in rows]
        found.append((uri, reason, len(lines), min(lines), max(lines)))
    yield from sorted(found, key=lambda row: -row[2])


ANSWERS: dict[str, Callable[[Files], Iterator[tuple[Any, ...]]]] = {
    "1": completeness,
    "2": pass_rates,
    "3": without_score,
    "4": by_challenge,
    "5": asked_again_or_late,
    "6": of_one_user,
    "7": images_to_look_at,
    "8": feedback,
    "9": weeks,
    "10": rejected,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three weeks of sessions without any sense: each value missing at times, ids that stand in several partitions."""
    output = tmp_path_factory.mktemp("made")
    draw = random.Random(3)
    sessions = []
    for number in range(1_200):
        dt = FIRST + timedelta(draw.randrange(-3, 18))
        status, error = draw.choice(
            [
                ("SUCCEEDED", None),
                ("SUCCEEDED", "ImageNotStored"),
                ("FAILED", None),
                ("CREATED", None),
                ("EXPIRED", None),
                (None, "SessionNotFoundException"),
                (None, "ThrottlingException"),
                (None, "NotAsked"),
            ]
        )
        if dt == FIRST:
            status, error = "CREATED", None  # a day without any score
        born = datetime.fromisoformat(f"{dt}T12:00:00+00:00") + timedelta(seconds=draw.randrange(900))
        score = (
            draw.choice([None, 90.0, 89.99, 100.0, 0.0, draw.uniform(80, 100)])
            if status in ("SUCCEEDED", "FAILED")
            else None
        )
        sessions.append(
            session(
                number % 1_000,
                dt,
                source=draw.choice(["web", "mobile"]),
                status=status,
                error_code=error,
                confidence=score,
                sdk_type=draw.choice([None, "AmplifyWeb", "AmplifyIOS"]),
                created_at=draw.choice([None, born, born]),
                fetched_at=None if error == "NotAsked" else born + timedelta(seconds=draw.choice([30, 180, 181, 400])),
                attempts=draw.randrange(4),
                attributes=draw.choice([[], [("user_id", "user-379")], [("user_id", "user-1"), ("app_version", "3")]]),
                challenge=draw.choice([None, (None, None), ("FaceMovementChallenge", "1.0.0"), ("Other", None)]),
                feedback=draw.choice([(), ("A",), ("A", "B", "A"), (None,)]),
                boxes=draw.choice([(), (("reference", 0.1, 0.1, 0.2, 0.2), ("audit", 0.1, 0.1, 0.2, 0.2))]),
            )
        )
    unique = {(made["dt"], made["session_id"]): made for made in sessions}
    write_tables(output, list(unique.values()))
    return output


def rounded(rows: Any) -> list[tuple[Any, ...]]:
    """Rows whose numbers do not depend on the order in which they were added up."""
    return [tuple(round(value, 9) if isinstance(value, float) else value for value in row) for row in rows]


def test_readme_asks_ten_questions() -> None:
    """And each has an answer here."""
    assert list(QUESTIONS) == list(ANSWERS)


@pytest.mark.parametrize("output", ["history", "made"])
@pytest.mark.parametrize("number", ANSWERS)
def test_the_answer_is_what_a_count_by_hand_says(request: pytest.FixtureRequest, number: str, output: str) -> None:
    """Row by row, in order; with the text as it stands, and with what sqlglot makes of it as Athena's."""
    folder: Path = request.getfixturevalue(output)
    expected = rounded(ANSWERS[number](Files(folder)))
    assert expected or (number, output) == ("10", "made")
    with liveness_etl.connect(str(folder), attributes=ATTRIBUTES) as duck:
        for sql in (QUESTIONS[number], sqlglot.transpile(QUESTIONS[number], read="athena", write="duckdb")[0]):
            assert rounded(duck.execute(sql).fetchall()) == expected


@pytest.mark.parametrize("number", ANSWERS)
def test_nothing_is_known_that_athena_would_refuse(number: str) -> None:
    """Functions, types, clauses; and every query names its days."""
    assert objections(QUESTIONS[number], ATTRIBUTES) == []


@pytest.mark.parametrize(
    ("columns", "rest", "objection"),
    [
        ("quantile_cont(confidence, 0.5)", "", "quantile_cont is no function"),
        ("epoch_ms(created_at)", "", "epoch_ms is no function"),
        ("* EXCLUDE (dt)", "", "exclude is no function"),
        ("confidence::int", "", ":: is no cast"),
        ("attributes['plan']", "", "missing key"),
        ("count(confidence) / count(*)", "", "divides whole numbers"),
        ("sum(attempts) / count_if(confidence > 5)", "", "divides whole numbers"),
        ("no_such_column", "", "no_such_column"),
        ("source", "AND source ILIKE 'a'", "ILIKE"),
        ("source", "AND created_at > '2026-03-01'", "a time with a text"),
        ("source", "AND dt BETWEEN '2026-03-01' AND '2026-03-02'", "a time with a text"),
        ("dt, count(*)", "GROUP BY ALL", "GROUP BY ALL"),
        ("lower(source) AS low, count(*)", "GROUP BY low", "low"),
        ("source, count(*) AS n", "GROUP BY source HAVING n > 1", '"n" is no column'),
    ],
)
def test_what_duckdb_alone_understands_is_found(columns: str, rest: str, objection: str) -> None:
    """Each of these is a query that DuckDB runs, or that sqlglot lets pass."""
    found = objections(f"SELECT {columns} FROM sessions WHERE dt = DATE '2026-03-01' {rest}")
    assert any(objection in sentence for sentence in found), found


def test_a_query_over_all_days_is_found() -> None:
    """It would read everything; so would one that begins with FROM, whatever it filters on."""
    joined = "SELECT f.code FROM feedback f JOIN sessions s ON s.dt = f.dt WHERE f.dt = DATE '2026-03-01'"
    assert [sentence.partition(":")[0] for sentence in objections(joined)] == ["it does not filter sessions on dt"]
    assert objections("FROM sessions WHERE dt = DATE '2026-03-01'") == ["it is no SELECT"]
