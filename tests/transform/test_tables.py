"""The table contract: what a user's queries rely on."""

import pyarrow as pa
import pytest

from liveness_etl.transform import tables


@pytest.mark.parametrize("table", [*tables.SCHEMAS, "landing"])
def test_every_column_has_a_comment(table: str) -> None:
    """The comment is in the field's metadata, where Parquet and the catalog find it."""
    schema = tables.LANDING if table == "landing" else tables.SCHEMAS[table]
    for field in schema:
        assert field.metadata[b"comment"], field.name


def test_columns_are_those_of_the_contract() -> None:
    """Names, order and types of the tables that analysts query."""
    text, time = pa.string(), pa.timestamp("ms", "UTC")
    assert [(field.name, field.type, field.nullable) for field in tables.SESSIONS] == [
        ("session_id", text, False),
        ("source", text, False),
        ("region", text, False),
        ("outcome", text, False),
        ("status", text, True),
        ("confidence", pa.float64(), True),
        ("sdk_type", text, True),
        ("created_at", time, True),
        ("fetched_at", time, True),
        ("attempts", pa.int32(), False),
        ("error_code", text, True),
        ("error_message", text, True),
        ("attributes", pa.map_(text, text), True),
        ("run_id", text, False),
    ]
    assert tables.CHALLENGES.names == ["session_id", "type", "version"]
    assert " ".join(tables.BOUNDING_BOXES.names) == (
        "session_id image_type image_index box_left box_top box_width box_height s3_bucket s3_name s3_version "
        "image_uri image_sha256 image_size_bytes"
    )
    assert tables.FEEDBACK.names == ["session_id", "feedback_index", "code", "message"]
    assert " ".join(tables.RUNS.names) == (
        "run_id flow_run_id started_at finished_at command manifest_uri manifest_sha256 version lines requested "
        "duplicates rejected forgotten already_final landed not_asked calls throttled_calls retried_calls by_outcome "
        "expired_before_fetch completed unmodelled_members"
    )
    assert tables.REJECTS.names == ["run_id", "manifest_uri", "line_number", "reason"]


def test_children_are_replaced_before_sessions() -> None:
    """A reader who joins in between sees children without a parent rather than parents without children."""
    assert tables.TABLES[-1] == "sessions"
    assert set(tables.TABLES) == {"sessions", "challenges", "bounding_boxes", "feedback"}


def test_no_column_can_hold_image_bytes() -> None:
    """No table and no landing part has a binary column, at any depth."""

    def kinds(kind: pa.DataType) -> list[pa.DataType]:
        inner = [kind.field(number).type for number in range(kind.num_fields)]
        return [kind, *(deeper for one in inner for deeper in kinds(one))]

    for schema in (tables.LANDING, *tables.SCHEMAS.values()):
        for field in schema:
            assert not any(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) for kind in kinds(field.type))
