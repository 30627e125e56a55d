"""A partition's four files: their content, their shape on disk, and when they are made again."""

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liveness_etl.load import landing, publish
from liveness_etl.load.publish import Published, publish_partition, table_path
from liveness_etl.storage import Store
from liveness_etl.storage_folder import LocalStore
from liveness_etl.transform import tables
from tests.landing_rows import DT, MORNING, image, land, row, session_id, sessions, table
from tests.stored import paths, read

TABLE_PATHS = [table_path(name, DT) for name in tables.TABLES]
BOX = {"left": 0.1, "top": 0.2, "width": 0.3, "height": 0.4}


def full_row(number: int, **columns: Any) -> dict[str, Any]:
    """A row with children in every table."""
    return row(
        number,
        confidence=99.0,
        created_at=MORNING,
        challenge={"type": "FaceMovementChallenge", "version": "1.0.0"},
        images=[image(0, "reference", box=BOX, image_uri="s3://b/r"), image(0), image(1, box=BOX)],
        feedback=[{"code": "A", "message": "a"}, {"code": "B", "message": "b"}],
        **columns,
    )


def tags(store: Store) -> list[str | None]:
    found = [store.head(path) for path in TABLE_PATHS]
    return [entry and entry.etag for entry in found]


def data(store: Store) -> list[pa.Table]:
    return [table(store, name) for name in tables.TABLES]


def parquet(store: Store, name: str) -> pq.ParquetFile:
    return pq.ParquetFile(pa.BufferReader(read(store, table_path(name, DT))))


def test_one_landing_row_becomes_rows_of_four_tables(store: Store) -> None:
    """A session, its challenge, an image a row and a feedback a row, joined by session_id."""
    land(store, [full_row(0)])
    assert publish_partition(store, DT) == Published(DT, True, 1)
    assert [len(rows) for rows in data(store)] == [1, 3, 2, 1]
    for name in tables.TABLES:
        assert set(table(store, name)["session_id"].to_pylist()) == {session_id(0)}
        assert table(store, name).schema.remove_metadata().equals(tables.SCHEMAS[name])


def test_four_files_are_written_where_there_are_no_children(store: Store) -> None:
    """A query meets an empty table rather than none."""
    land(store, [row(0, None, error_code="NotAsked", fetched_at=None, attempts=0)])
    publish_partition(store, DT)
    assert [path for path in paths(store) if not path.startswith("landing/")] == sorted(TABLE_PATHS)
    assert [len(rows) for rows in data(store)] == [0, 0, 0, 1]
    for name in tables.TABLES:
        assert parquet(store, name).schema_arrow.remove_metadata().equals(tables.SCHEMAS[name])


def test_partition_without_landing_makes_no_table(store: Store) -> None:
    """An empty run touches nothing."""
    assert publish_partition(store, DT) == Published(DT, False, 0)
    assert paths(store) == []


def test_partitions_do_not_touch_each_other(store: Store) -> None:
    """Only the rows of its own landing are in a partition's files."""
    land(store, [row(0)])
    land(store, [row(1)], dt=date(2026, 1, 2))
    publish_partition(store, DT)
    publish_partition(store, date(2026, 1, 2))
    assert [found["session_id"] for found in sessions(store)] == [session_id(0)]
    assert [found["session_id"] for found in sessions(store, date(2026, 1, 2))] == [session_id(1)]


def test_current_partition_is_left_alone(store: Store) -> None:
    """The second publish writes nothing; neither does one after a fold."""
    for number in range(3):
        land(store, [row(number)])
    publish_partition(store, DT, fold=False)
    before = tags(store)
    assert publish_partition(store, DT) == Published(DT, False, 0)  # and folds
    assert publish_partition(store, DT) == Published(DT, False, 0)
    assert len(paths(store, "landing/")) == 1
    assert tags(store) == before


def test_new_part_makes_the_partition_again(store: Store) -> None:
    """What was landed since is in the tables."""
    land(store, [row(0)])
    publish_partition(store, DT)
    land(store, [row(1)])
    assert publish_partition(store, DT) == Published(DT, True, 2)
    assert len(sessions(store)) == 2


def test_rebuild_makes_current_tables_again_and_the_same(store: Store) -> None:
    """The files are replaced, and their bytes are those of before."""
    land(store, [full_row(number) for number in range(3)])
    publish_partition(store, DT)
    before, files = data(store), [read(store, path) for path in TABLE_PATHS]
    assert publish_partition(store, DT, rebuild=True) == Published(DT, True, 3)
    assert data(store) == before
    assert [read(store, path) for path in TABLE_PATHS] == files


def outdate(content: bytes) -> bytes:
    """The same rows from a program with an older table contract."""
    old = pq.read_table(pa.BufferReader(content))
    sink = pa.BufferOutputStream()
    pq.write_table(old.replace_schema_metadata(old.schema.metadata | {landing.VERSION_KEY: b"0"}), sink)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("name", tables.TABLES)
@pytest.mark.parametrize(
    "damage",
    [None, outdate, lambda content: content[: len(content) // 2], lambda _: b"", lambda _: b"not Parquet at all"],
    ids=["deleted", "older contract", "cut", "empty", "foreign"],
)
def test_damaged_or_outdated_table_is_made_again(
    folder_store: LocalStore, name: str, damage: Callable[[bytes], bytes] | None
) -> None:
    """Nothing ever needs repair: whatever became of a table's file, publish makes it right."""
    land(folder_store, [full_row(0)], name="part")
    publish_partition(folder_store, DT)
    path, before = table_path(name, DT), read(folder_store, table_path(name, DT))
    if damage is None:
        folder_store.delete([path])
    else:
        folder_store.put(path, damage(before))
    assert publish_partition(folder_store, DT).changed
    assert read(folder_store, path) == before


def test_empty_table_object_is_made_again_on_s3(s3_store: Store) -> None:
    """S3 cannot give a range of nothing; publish replaces it all the same."""
    land(s3_store, [row(0)])
    s3_store.put(table_path("challenges", DT), b"")
    assert publish_partition(s3_store, DT).changed
    assert len(table(s3_store, "challenges")) == 0


def test_rows_are_sorted_whatever_order_they_were_landed_in(store: Store) -> None:
    """By session_id, and by the index within it."""
    for number in (7, 2, 9, 0, 5):
        land(store, [full_row(number), full_row(number + 10)])
    publish_partition(store, DT)
    for name, index in [("sessions", None), ("feedback", "feedback_index"), ("bounding_boxes", "image_index")]:
        rows = table(store, name)
        keys = list(zip(rows["session_id"].to_pylist(), rows[index or "session_id"].to_pylist(), strict=True))
        assert keys == sorted(keys)
        sorting = parquet(store, name).metadata.row_group(0).sorting_columns
        names = [rows.schema.names[column.column_index] for column in sorting]
        assert names == ["session_id", *([index] if index else [])]


def test_row_groups_have_the_size_that_was_asked_for(folder_store: LocalStore) -> None:
    """All but the last are full, in the children's files too."""
    land(folder_store, [full_row(number) for number in range(8)])
    publish_partition(folder_store, DT, row_group_rows=3)

    def sizes(name: str) -> list[int]:
        metadata = parquet(folder_store, name).metadata
        return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]

    assert sizes("sessions") == sizes("challenges") == [3, 3, 2]
    assert sizes("bounding_boxes") == [3] * 8
    assert sizes("feedback") == [3] * 5 + [1]


def test_row_groups_are_full_whatever_the_batches(folder_store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a batch leaves over goes into the next row group."""
    monkeypatch.setattr(publish, "_BATCH_ROWS", 2048)
    land(folder_store, [row(number) for number in range(6_500)])
    publish_partition(folder_store, DT, row_group_rows=3_000)
    metadata = parquet(folder_store, "sessions").metadata
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [3_000, 3_000, 500]


def test_winner_is_one_wherever_batches_end(folder_store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An id whose rows fall into two batches of the sort still has one row."""
    monkeypatch.setattr(publish, "_BATCH_ROWS", 2048)
    land(folder_store, [row(number // 3, attempts=number % 3) for number in range(6_500)])
    assert publish_partition(folder_store, DT).sessions == 2_167
    assert [found["session_id"] for found in sessions(folder_store)] == [session_id(number) for number in range(2_167)]


def test_files_carry_contract_version_and_fingerprint(store: Store) -> None:
    """Each of the four says from which landing it came, and under which contract."""
    land(store, [row(0)])
    publish_partition(store, DT)
    fingerprint = landing.read_landed(store, DT).fingerprint
    for name in tables.TABLES:
        metadata = parquet(store, name).schema_arrow.metadata
        assert metadata[b"liveness_etl.contract_version"] == b"1"
        assert metadata[b"liveness_etl.landing_fingerprint"].decode() == fingerprint
    assert publish.is_current(store, DT, fingerprint)
    assert not publish.is_current(store, DT, "another")


def test_schema_on_disk_is_the_contracts(folder_store: LocalStore) -> None:
    """Comments, not-null, and timestamps in milliseconds UTC, as any reader of Parquet sees them."""
    land(folder_store, [full_row(0)])
    publish_partition(folder_store, DT)
    for name in tables.TABLES:
        file = parquet(folder_store, name)
        for position, field in enumerate(tables.SCHEMAS[name]):
            stored = file.schema_arrow.field(position)
            assert (stored.name, stored.type, stored.nullable) == (field.name, field.type, field.nullable)
            assert stored.metadata[b"comment"] == field.metadata[b"comment"]
            column = next(
                file.schema.column(leaf)
                for leaf in range(len(file.schema))
                if file.schema.column(leaf).path.split(".")[0] == field.name
            )
            if not pa.types.is_map(field.type):
                assert column.max_definition_level == int(field.nullable)
            if pa.types.is_timestamp(field.type):
                logical = json.loads(column.logical_type.to_json())
                assert (logical["isAdjustedToUTC"], logical["timeUnit"]) == (True, "milliseconds")


def test_files_are_made_for_point_lookups(folder_store: LocalStore) -> None:
    """zstd, a page index, and a bloom filter on session_id that knows its ids and few others."""
    land(folder_store, [full_row(number) for number in range(50)])
    publish_partition(folder_store, DT)
    for name in tables.TABLES:
        chunk = parquet(folder_store, name).metadata.row_group(0).column(0)
        assert chunk.path_in_schema == "session_id"
        assert chunk.compression == "ZSTD"
        assert chunk.has_column_index
        assert chunk.has_offset_index
        path = str(folder_store.root / table_path(name, DT))
        with duckdb.connect() as connection:
            excluded = [
                connection.execute(
                    "SELECT bool_and(bloom_filter_excludes) FROM parquet_bloom_probe(?, 'session_id', ?)",
                    [path, session_id(number)],
                ).fetchone()
                for number in range(100)
            ]
        assert excluded[:50] == [(False,)] * 50
        assert excluded[50:].count((True,)) > 40


def test_times_are_cut_to_milliseconds(folder_store: LocalStore) -> None:
    """What Athena and DuckDB compare is what was written."""
    land(folder_store, [row(0, fetched_at=MORNING.replace(microsecond=123_999))])
    publish_partition(folder_store, DT)
    assert sessions(folder_store)[0]["fetched_at"] == MORNING.replace(microsecond=123_000)


def test_bucket_and_folder_hold_the_same_data(folder_store: LocalStore, s3_store: Store) -> None:
    """The same parts give the same files, byte for byte, on S3 and on a disk."""
    for store in (folder_store, s3_store):
        land(store, [full_row(1), row(0, "EXPIRED")], name="a")
        land(store, [full_row(0), full_row(2, run_id="run-2")], name="b")
        publish_partition(store, DT)
    for path in TABLE_PATHS:
        assert read(folder_store, path) == read(s3_store, path)


@pytest.mark.slow
def test_partition_larger_than_its_memory_is_published(folder_store: LocalStore) -> None:
    """The sort spills to disk; every id comes out once, in order, and nothing temporary stays."""
    count = 100_000
    ids = pa.array([session_id(number * 7_919 % count) for number in range(count)])
    same = pa.Table.from_pylist([full_row(0)], schema=tables.LANDING).take(pa.array([0] * count))
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, tables.LANDING.with_metadata({landing.VERSION_KEY: "1"})) as writer:
        writer.write_table(same.set_column(0, tables.LANDING.field(0), ids))
    landing.append_part(folder_store, DT, "part", bytes(sink.getvalue()))
    assert publish_partition(folder_store, DT, memory_limit="100MB").sessions == count
    assert table(folder_store, "sessions")["session_id"].to_pylist() == [session_id(number) for number in range(count)]
    assert len(table(folder_store, "bounding_boxes")) == 3 * count
    assert not list((folder_store.root / ".tmp").glob("*"))
