"""Parquet manifests: the types that ids, times and attributes come in."""

import contextlib
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liveness_etl.errors import ManifestError
from liveness_etl.extract.manifest import ManifestOptions
from tests.extract.manifest_reading import RUN_DATE, Objects, Read, read_files, read_path, session_id

IDS = [session_id(1), session_id(2)]
MOMENT = datetime(2026, 2, 27, 10, 20, 30, 123000, UTC)


def read_table(folder: Path, columns: dict[str, Any], options: ManifestOptions | None = None, **settings: Any) -> Read:
    path = folder / "ids.parquet"
    pq.write_table(pa.table(columns), path)
    return read_path(path, options, **settings)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(IDS, pa.string()),
        pa.array(IDS, pa.large_string()),
        pa.array(IDS, pa.string_view()),
        pa.array(IDS, pa.binary()),
        pa.array([i.encode() for i in IDS], pa.binary(36)),
        pa.array(IDS).dictionary_encode(),
        pa.array([uuid.UUID(i).bytes for i in IDS], pa.binary(16)),
        pa.array([uuid.UUID(i).bytes for i in IDS], pa.uuid()),
    ],
    ids=lambda column: str(column.type),
)
def test_ids_may_be_text_bytes_or_uuids(tmp_path: Path, column: pa.Array) -> None:
    """Spark, DuckDB, pandas and Arrow each have their own way to write a UUID."""
    read = read_table(tmp_path, {"session_id": column})
    assert [(row["line_number"], row["session_id"]) for row in read.ids] == [(1, IDS[0]), (2, IDS[1])]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([MOMENT, None], pa.timestamp("ms", "UTC")), MOMENT),
        (pa.array([MOMENT, None], pa.timestamp("ns", "Asia/Tokyo")), MOMENT),
        (pa.array([MOMENT.replace(tzinfo=None), None], pa.timestamp("us")), MOMENT),
        (pa.array([1772187630, None], pa.timestamp("s")), MOMENT.replace(microsecond=0)),
        (pa.array([date(2026, 2, 27), None], pa.date32()), datetime(2026, 2, 27, tzinfo=UTC)),
        (pa.array([date(2026, 2, 27), None], pa.date64()), datetime(2026, 2, 27, tzinfo=UTC)),
        (pa.array([1772187630, None], pa.int32()), MOMENT.replace(microsecond=0)),
        (pa.array([1772187630123, None], pa.uint64()), MOMENT),
        (pa.array([1772187630123, float("nan")], pa.float64()), MOMENT),
        (pa.array([1772187630.123, float("nan")], pa.float64()), MOMENT),
        (pa.array([Decimal("1772187630.123"), None], pa.decimal128(20, 3)), MOMENT),
        (pa.array(["2026-02-27T10:20:30.123Z", ""]), MOMENT),
        (pa.array(["1772187630123", None]).dictionary_encode(), MOMENT),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_created_at_may_be_of_many_types(tmp_path: Path, column: pa.Array, expected: datetime) -> None:
    """A missing time takes the run's date, whatever the type."""
    read = read_table(tmp_path, {"session_id": IDS, "created_at": column})
    assert [row["created_at"] for row in read.ids] == [expected, None]
    assert [row["dt"] for row in read.ids] == [expected.date(), RUN_DATE]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([2**63 - 1, -(2**63)], pa.int64()),
        pa.array([2**64 - 1, 0], pa.uint64()),
        pa.array([2**62 // 1000, -(2**63) // 1001], pa.timestamp("ms")),
        pa.array([1e300, -1e300], pa.float64()),
    ],
    ids=lambda value: str(value.type),
)
def test_times_beyond_any_calendar_are_implausible(tmp_path: Path, column: pa.Array) -> None:
    """No overflow brings them back into this century."""
    read = read_table(tmp_path, {"session_id": IDS, "created_at": column})
    assert [row["created_at"] for row in read.ids] == [None, None]


def test_infinite_time_is_no_timestamp(tmp_path: Path) -> None:
    """It is a reject, as nonsense in text is."""
    read = read_table(tmp_path, {"session_id": IDS, "created_at": [float("inf"), 1772187630.0]})
    assert read.reasons == [(1, "created_at is not a timestamp")]


def test_pandas_frame_with_gaps_is_read(tmp_path: Path) -> None:
    """to_parquet writes missing text as NULL and missing times as NaT."""
    frame = pd.DataFrame(
        {"session_id": [*IDS, None], "created_at": [pd.Timestamp(MOMENT), pd.NaT, pd.NaT], "source": [None, "eu", None]}
    )
    frame.to_parquet(tmp_path / "ids.parquet")
    read = read_path(tmp_path / "ids.parquet")
    assert [(row["created_at"], row["source"]) for row in read.ids] == [(MOMENT, "eu"), (None, "eu")]
    assert read.reasons == [(3, "has no session id")]


def test_row_numbers_run_on_over_batches(tmp_path: Path) -> None:
    """A reject far down the file is still found by its row."""
    ids = [session_id(i) for i in range(70_000)]
    ids[69_999] = "nonsense"
    read = read_table(tmp_path, {"session_id": ids})
    assert (read.lines, read.numbers[-1]) == (70_000, 69_999)
    assert read.reasons == [(70_000, "session id is not a UUID")]


def test_row_with_invalid_or_too_much_text_is_rejected_alone(tmp_path: Path) -> None:
    """Parquet promises UTF-8 in its string columns, and writers break the promise."""
    invalid = pa.array([b"ok", b"\xff", b"x" * 300, b"fine"]).view(pa.string())
    ids = [session_id(i) for i in range(4)]
    options = ManifestOptions(attributes=("note",), max_line_bytes=200)
    read = read_table(tmp_path, {"session_id": ids, "note": invalid}, options)
    assert read.reasons == [(2, "is not UTF-8"), (3, "is longer than manifest.max_line_bytes")]
    assert [row["attributes"]["note"] for row in read.ids] == ["ok", "fine"]


def test_attributes_of_other_types_become_text(tmp_path: Path) -> None:
    """Numbers, truth values and times as one would write them, nested values as JSON, NULL as missing."""
    columns = {
        "session_id": IDS,
        "number": [7, None],
        "truth": [True, None],
        "time": [MOMENT, None],
        "nested": [{"a": ["x", "é"]}, None],
        "nothing": pa.nulls(2),
    }
    names = tuple(name for name in columns if name != "session_id")
    read = read_table(tmp_path, columns, ManifestOptions(attributes=names))
    assert [row["attributes"] for row in read.ids] == [
        {"number": "7", "truth": "true", "time": "2026-02-27 10:20:30.123000Z", "nested": '{"a": ["x", "é"]}'},
        {},
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": IDS}, r"no column 'session_id' among its 1 columns: set manifest\.session_id_column"),
        ({"session_id": [1, 2]}, "'session_id' of .* is int64: it must be text"),
        ({"session_id": IDS, "source": [1, 2]}, "'source' of .* is int64: it must be text"),
        ({"session_id": IDS, "created_at": [True, False]}, "'created_at' of .* is bool: it must be a timestamp"),
        ({"session_id": IDS, "created_at": [[1], [2]]}, "'created_at' of .* is list.*: it must be a timestamp"),
    ],
)
def test_unusable_columns_are_an_error(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    """The type is that of a whole column, so it is not a matter of single rows."""
    with pytest.raises(ManifestError, match=message):
        read_table(tmp_path, columns)


def test_column_named_twice_is_an_error(tmp_path: Path) -> None:
    """Parquet allows it; which one is meant is anybody's guess."""
    path = tmp_path / "ids.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(IDS), pa.array(IDS)], ["session_id", "session_id"]), path)
    with pytest.raises(ManifestError, match="several columns named 'session_id'"):
        read_path(path)


def test_no_rows_need_no_date_and_rows_do(tmp_path: Path) -> None:
    """As with the other formats."""
    assert read_table(tmp_path, {"session_id": pa.array([], pa.string())}, run_date=None).lines == 0
    with pytest.raises(ManifestError, match="--date"):
        read_table(tmp_path, {"session_id": IDS}, run_date=None)


def test_decoded_bytes_are_limited(tmp_path: Path) -> None:
    """A dictionary packs a million equal values into nothing; what counts is what they unfold to."""
    column = pa.array(["x" * 1000] * 50_000).dictionary_encode()
    columns = {"session_id": column}
    assert read_table(tmp_path, columns).lines == 50_000
    assert (tmp_path / "ids.parquet").stat().st_size < 10_000
    with pytest.raises(ManifestError, match=r"manifest\.max_bytes"):
        read_table(tmp_path, columns, ManifestOptions(max_bytes=10_000_000))


def _stored() -> bytes:
    sink = pa.BufferOutputStream()
    columns = {"session_id": [session_id(i) for i in range(50)], "created_at": [MOMENT] * 50}
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


STORED = _stored()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_parquet_is_an_error_or_gives_accounted_rows(data: st.DataObject) -> None:
    """Cut files and changed bytes end in ManifestError and nothing else."""
    stored = bytearray(STORED)
    for _ in range(data.draw(st.integers(1, 4))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    del stored[data.draw(st.just(len(stored)) | st.integers(0, len(stored))) :]
    objects = Objects({"s3://b/ids.parquet": bytes(stored)})
    with contextlib.suppress(ManifestError):
        read_files(objects.find("s3://b/ids.parquet"), inputs=objects)
