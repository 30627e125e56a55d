"""The view `results`: its columns in both dialects, its values, and what it calls final."""

import itertools
import random
from datetime import timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from liveness_etl.analysis.query import connect
from liveness_etl.analysis.views import results_schema, results_sql
from liveness_etl.errors import UsageError
from liveness_etl.load import publish
from liveness_etl.storage_folder import LocalStore
from liveness_etl.transform import tables
from liveness_etl.transform.normalize import rank
from tests.extract import test_plan as planning
from tests.landing_rows import DT, MORNING, image, land, row, session_id

HOSTILE = (
    "plan",
    "two words",
    "it's",
    'a "quoted" one',
    "'); DROP VIEW sessions; --",
    "select",
    "größe",
    "x" * 300,
    "a.b",
    "{key}",
    "$1",
)


def results(store: LocalStore, where: str = "true", **options: Any) -> list[dict[str, Any]]:
    """Rows of the view, by column."""
    with connect(store.uri, **options) as connection:
        found = connection.execute(f"FROM results WHERE {where} ORDER BY dt, session_id")
        names = [column[0] for column in found.description]
        return [dict(zip(names, values, strict=True)) for values in found.fetchall()]


def published(store: LocalStore, *rows: dict[str, Any]) -> LocalStore:
    """The store with these rows landed and published."""
    land(store, rows)
    publish.publish_partition(store, DT)
    return store


@pytest.mark.parametrize("attributes", [(), HOSTILE])
def test_columns_have_the_names_order_and_types_of_the_schema(
    folder_store: LocalStore, attributes: tuple[str, ...]
) -> None:
    """On an empty output as on one with rows, with hostile names too."""
    for _ in range(2):
        with connect(folder_store.uri, attributes=attributes) as connection, duckdb.connect() as other:
            described = connection.execute("DESCRIBE results").fetchall()
            wanted = other.from_arrow(results_schema(attributes).empty_table())
            kinds = [str(kind).replace("TIMESTAMP_MS", "TIMESTAMP") for kind in wanted.types]
            assert [(name, kind) for name, kind, *_ in described] == list(zip(wanted.columns, kinds, strict=True))
        published(folder_store, row(1))


def test_every_column_has_a_comment_that_glue_takes() -> None:
    """Analysts see them in Athena; Glue cuts none off, it refuses."""
    for field in results_schema(("plan",)):
        assert 0 < len(field.metadata[b"comment"]) <= 255


def test_the_dialects_differ_in_how_a_map_is_read_and_named_and_in_nothing_else() -> None:
    """So that what is tested with DuckDB holds for Athena's text."""
    duck, athena = results_sql("duckdb", ("plan", "it's")), results_sql("athena", ("plan", "it's"))
    for key in ("'plan'", "'it''s'"):
        duck = duck.replace(f"s.attributes[{key}]", f"element_at(s.attributes, {key})")
    assert duck.replace("attr_it's", "attr_it_s") == athena


def test_attributes_are_columns_and_a_missing_one_is_null(folder_store: LocalStore) -> None:
    """Whatever their names; also where a session has no attributes at all."""
    values = {name: f"value of {name}" for name in HOSTILE}
    published(folder_store, row(1, attributes=values), row(2, attributes={"plan": "free"}), row(3))
    first, second, third = results(folder_store, attributes=HOSTILE)
    assert {name: first[f"attr_{name}"] for name in HOSTILE} == values
    assert {name: value for name, value in second.items() if name.startswith("attr_") and value} == {
        "attr_plan": "free"
    }
    assert not any(value for name, value in third.items() if name.startswith("attr_"))


@pytest.mark.parametrize("attributes", [("plan", "Plan"), ("",), ("a\0b",)])
def test_attributes_that_cannot_be_columns_are_refused(attributes: tuple[str, ...]) -> None:
    """One sentence that names the setting."""
    with pytest.raises(UsageError, match=r"manifest\.attributes"):
        results_sql("duckdb", attributes)


def test_one_row_per_session_with_what_its_children_hold(folder_store: LocalStore) -> None:
    """However many images and feedback entries it has; without any, a count of 0 and an empty list."""
    box = {"left": -0.1, "top": 0.2, "width": 0.3, "height": 0.4}
    images = [
        image(kind="reference", box=box, image_uri="s3://b/r.jpg"),
        *(image(number, box=dict.fromkeys(box, 0.9), image_uri=f"s3://b/{number}.jpg") for number in range(3)),
    ]
    feedback = [{"code": code, "message": None} for code in ("Z", "A", None, "M")]
    born = MORNING - timedelta(seconds=12, milliseconds=345)
    published(
        folder_store,
        row(1, images=images, feedback=feedback, challenge={"type": "T", "version": "2.0.0"}, created_at=born),
        row(2, status=None, error_code="NotAsked", fetched_at=None, created_at=MORNING),
        row(3, images=[image(0)]),
    )
    first, second, third = results(folder_store)
    assert (first["challenge_type"], first["challenge_version"]) == ("T", "2.0.0")
    assert first["reference_image_uri"] == "s3://b/r.jpg"
    assert {side: first[f"reference_box_{side}"] for side in box} == box
    assert (first["audit_image_count"], first["feedback_codes"]) == (3, ["Z", "A", None, "M"])
    assert first["age_at_fetch_seconds"] == 12.345
    assert (second["audit_image_count"], second["feedback_codes"], second["age_at_fetch_seconds"]) == (0, [], None)
    assert (third["audit_image_count"], third["reference_image_uri"], third["challenge_type"]) == (1, None, None)
    assert [one["session_id"] for one in (first, second, third)] == [session_id(number) for number in (1, 2, 3)]


def test_feedback_is_in_the_answers_order_wherever_its_rows_stand() -> None:
    """Not in that of the file, which an engine may read in pieces."""
    with duckdb.connect() as connection:
        for table in tables.TABLES:
            empty = tables.SCHEMAS[table].append(pa.field("dt", pa.date32())).empty_table()
            connection.from_arrow(empty).create(table)
        connection.execute(f"INSERT INTO sessions BY NAME SELECT 'a' AS session_id, DATE '{DT}' AS dt")
        for index in (2, 0, 3, 1):
            connection.execute(
                "INSERT INTO feedback BY NAME SELECT 'a' AS session_id, $1 AS feedback_index, $2 AS code, $3 AS dt",
                [index, f"code {index}", DT],
            )
        found = connection.execute(f"SELECT feedback_codes FROM ({results_sql('duckdb')})").fetchall()
    assert found == [([f"code {index}" for index in range(4)],)]


def test_an_id_in_two_partitions_has_a_row_in_each_with_its_own_children(folder_store: LocalStore) -> None:
    """The partition is part of every join."""
    other = DT + timedelta(days=1)
    published(folder_store, row(1, images=[image(0), image(1)]))
    land(folder_store, [row(1, images=[image(0)])], other)
    publish.publish_partition(folder_store, other)
    assert [(one["dt"], one["audit_image_count"]) for one in results(folder_store)] == [(DT, 2), (other, 1)]


def final_by_rank(status: str | None, error_code: str | None, created: bool, age: int | None) -> bool | None:
    """The contract's 'Final' for a winning row read `age` seconds after it was created; None: landing decides."""
    of_row = rank(status, error_code)
    late = created and age is not None
    if of_row in (5, 3):
        return True
    if of_row == 2:
        return True if not created or age is None or age > 180 else None
    if of_row in (4, 1) and late and age is not None and age > 360:
        return True
    return None if of_row == 4 or (of_row == 1 and not created) else False


def test_final_follows_the_rank_of_the_winning_row(folder_store: LocalStore) -> None:
    """Every status with every kind of error, read at every age."""
    statuses = ("SUCCEEDED", "FAILED", "EXPIRED", "CREATED", "IN_PROGRESS", "PAUSED", None)
    errors = ("ImageNotStored", "SessionNotFoundException", "InvalidParameterException", "ThrottlingException", None)
    cases = [
        *itertools.product(statuses[:-1], errors, (True, False), (1, 180, 181, 360, 361)),
        *itertools.product((None,), errors[:-1], (True, False), (1, 180, 181, 360, 361)),
        *itertools.product((None,), ("NotAsked",), (True, False), (None,)),
    ]
    published(
        folder_store,
        *(
            row(
                number,
                status,
                error_code=error,
                created_at=MORNING if created else None,
                fetched_at=None if age is None else MORNING + timedelta(seconds=age),
            )
            for number, (status, error, created, age) in enumerate(cases)
        ),
    )
    found = [one["is_final"] for one in results(folder_store)]
    assert found == [final_by_rank(*case) for case in cases]
    assert set(found) == {True, False, None}


def test_final_says_what_the_planner_does_next(folder_store: LocalStore) -> None:
    """True: the next run does not ask; false: it does; NULL only where rows that lost decide."""
    draw = random.Random(7)
    kinds = [("SUCCEEDED", None), ("FAILED", "ImageNotStored"), ("EXPIRED", None), ("CREATED", None)]
    kinds += [(None, "SessionNotFoundException"), (None, "ThrottlingException"), (None, "NotAsked")]
    lines, landed = [], []
    for number in range(600):
        created = draw.choice([None, 0])
        lines.append(planning.Line(session_id(number), created))
        for status, error in draw.choices(kinds, k=draw.randint(1, 3)):
            read = None if error == "NotAsked" else draw.choice([1, 100, 180, 181, 300, 361, 90_000])
            landed.append((session_id(number), planning.Landed(status, error, read, created)))
    land(folder_store, [{key: of[key] for key in of if key != "dt"} for of in planning.landing_rows(landed)])
    publish.publish_partition(folder_store, DT)
    asked = set(planning.plan(lines, landed=landed).ids())
    found = {one["session_id"]: one for one in results(folder_store)}
    for one, of in found.items():
        if of["is_final"] is None:
            winner = rank(of["status"], of["error_code"])
            assert winner in (2, 4) or (winner == 1 and of["created_at"] is None)
        else:
            assert of["is_final"] == (one not in asked), of
    assert {of["is_final"] for of in found.values()} == {True, False, None}


def test_the_time_to_live_is_the_configured_one(folder_store: LocalStore) -> None:
    """An id that was not found 100 s after its creation is final where sessions live for a minute and a half."""
    read = MORNING + timedelta(seconds=100)
    published(folder_store, row(1, None, error_code="SessionNotFoundException", created_at=MORNING, fetched_at=read))
    assert [one["is_final"] for one in results(folder_store)] == [None]
    assert [one["is_final"] for one in results(folder_store, session_ttl_seconds=99.5)] == [True]
