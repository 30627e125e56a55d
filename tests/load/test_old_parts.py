"""Files that other versions of this program wrote, kept in `parts/` as they were: read, published, folded, audited.

`first-writer`, `fold-without-checksums` and `run-without-unmodelled-members` were written by earlier commits of this
repository, `today` by the first program that kept such files. The others are made of `today`: what a version before
some column, one after another column, or another Parquet writer would have written. Nobody writes them again.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liveness_etl.analysis.findings import Finding
from liveness_etl.analysis.query import fetch
from liveness_etl.analysis.report import ReportOptions, make_report
from liveness_etl.analysis.show import find_session
from liveness_etl.analysis.verify import verify_output
from liveness_etl.load import landing, publish, rewrite
from liveness_etl.load.publish import publish_partition, table_path
from liveness_etl.load.records import write_run
from liveness_etl.storage import Store
from liveness_etl.storage_folder import LocalStore
from liveness_etl.transform import tables
from tests.landing_rows import DT, land, landed_ids, row, session_id, sessions, table
from tests.load.test_records import run_row
from tests.stored import paths

KEPT = Path(__file__).parent / "parts"
FOLDER = f"landing/dt={DT}/"
FIRST_ID = {
    "first-writer": 0,
    "fold-without-checksums": 2,
    "today": 4,
    "without-later-columns": 6,
    "columns-in-another-order": 8,
    "without-a-version": 10,
    "dictionaries-and-large-strings": 12,
    "with-a-later-column": 14,
}
"""Each part has two rows; where its ids begin."""


def put(store: Store, *names: str) -> None:
    for name in names:
        store.put(f"{FOLDER}{name}.parquet", (KEPT / f"{name}.parquet").read_bytes())


def rows_of(name: str) -> list[dict[str, Any]]:
    """A part's rows as its writer meant them, under today's columns."""
    written: list[dict[str, Any]] = pq.read_table(KEPT / f"{name}.parquet").to_pylist()
    return [{column: one.get(column) for column in tables.LANDING.names} for one in written]


def findings(store: Store) -> list[Finding]:
    return [one for one in verify_output(store, [(store, "images/")]).findings if not one.is_note]


def test_every_kept_part_is_tested() -> None:
    """A new file in `parts/` is a new case."""
    assert {path.stem for path in KEPT.glob("*.parquet")} == {*FIRST_ID, "run-without-unmodelled-members"}


@pytest.mark.parametrize("name", FIRST_ID)
def test_part_is_read_under_todays_columns(folder_store: LocalStore, name: str) -> None:
    """Every value that it has, and NULL for a column that its writer did not know."""
    put(folder_store, name)
    found = landing.scan(folder_store, landing.read_landed(folder_store, DT).parts).read_all()
    assert found.to_pylist() == rows_of(name)
    assert found.schema.equals(tables.LANDING)


@pytest.mark.parametrize("name", FIRST_ID)
def test_part_is_published_audited_and_shown(folder_store: LocalStore, name: str) -> None:
    """Alone, as the only part of its partition: all commands take it for what it is."""
    put(folder_store, name)
    assert publish_partition(folder_store, DT).sessions == 2
    expected = rows_of(name)
    assert [one["sdk_type"] for one in sessions(folder_store)] == [one["sdk_type"] for one in expected]
    assert [one["attributes"] for one in sessions(folder_store)] == [one["attributes"] for one in expected]
    assert len(table(folder_store, "feedback")) == sum(len(one["feedback"] or ()) for one in expected)
    assert findings(folder_store) == []
    (shown,) = find_session(folder_store.uri, session_id(FIRST_ID[name])).partitions
    assert list(shown.landing[0]) == tables.LANDING.names


def test_parts_of_all_versions_make_one_partition(store: Store) -> None:
    """Side by side with what is landed today: each id has its row, before a fold and after it."""
    put(store, *FIRST_ID)
    land(store, [row(16, sdk_type="Web")])
    assert publish_partition(store, DT, fold=False).sessions == 17
    before = sessions(store)
    assert [one["session_id"] for one in before] == [session_id(number) for number in range(17)]
    assert rewrite.fold(store, DT) == len(FIRST_ID) + 1
    assert publish_partition(store, DT, rebuild=True).sessions == 17
    assert sessions(store) == before


def later_column(store: Store) -> list[str | None]:
    (part,) = paths(store, FOLDER)
    with store.open(part) as file:
        return sorted(value for value in pq.read_table(file, columns=["device"])["device"].to_pylist() if value)


def test_column_of_a_later_version_survives_a_fold(store: Store) -> None:
    """A program that does not know a column must not be the one that loses it."""
    put(store, "with-a-later-column", "today")
    assert publish_partition(store, DT).sessions == 4
    assert later_column(store) == ["phone"]
    assert "device" not in table(store, "sessions").schema.names


def test_column_of_a_later_version_survives_an_erasure(folder_store: LocalStore) -> None:
    """Of the rows that stay."""
    put(folder_store, "with-a-later-column")
    assert rewrite.erase_rows(folder_store, DT, [session_id(15)], ["tombstone"]).rows == 1
    assert landed_ids(folder_store) == [session_id(14)]
    assert later_column(folder_store) == ["phone"]


def test_part_of_an_older_contract_is_read_but_not_folded(
    folder_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who still runs the older program goes on reading its parts; this one folds its own."""
    put(folder_store, "today", "first-writer")
    monkeypatch.setattr(tables, "CONTRACT_VERSION", "2")
    land(folder_store, [row(20)], name="new-a")
    land(folder_store, [row(21)], name="new-b")
    assert publish_partition(folder_store, DT).sessions == 6
    kept = paths(folder_store, FOLDER)
    assert [path for path in kept if "/fold-" not in path] == [
        f"{FOLDER}{n}.parquet" for n in ("first-writer", "today")
    ]
    assert len(kept) == 3
    assert len(sessions(folder_store)) == 6


@pytest.fixture
def older_tables(folder_store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    """Tables made by today's program, read by one with the next table contract, which has a column more."""
    put(folder_store, "today")
    publish_partition(folder_store, DT)
    monkeypatch.setattr(tables, "CONTRACT_VERSION", "2")
    schema = tables.SCHEMAS["challenges"].append(pa.field("added", pa.string()))
    monkeypatch.setitem(tables.SCHEMAS, "challenges", schema)
    make = publish.normalize.NORMALIZE["challenges"]
    monkeypatch.setitem(
        publish.normalize.NORMALIZE,
        "challenges",
        lambda winners: make(winners).append_column("added", pa.nulls(len(make(winners)), pa.string())),
    )
    return folder_store


@pytest.mark.parametrize("rebuild", [False, True])
def test_tables_of_an_older_contract_are_made_again(older_tables: LocalStore, rebuild: bool) -> None:
    """By any publish, not by --rebuild alone; the next one has nothing to do."""
    assert [one.check for one in findings(older_tables)] == ["table-stale"]
    assert publish_partition(older_tables, DT, rebuild=rebuild).changed
    for name in tables.TABLES:
        with older_tables.open(table_path(name, DT)) as file:
            schema = pq.read_schema(file)
        assert schema.metadata[landing.VERSION_KEY] == b"2"
        assert schema.names == tables.SCHEMAS[name].names
    assert not publish_partition(older_tables, DT).changed
    assert findings(older_tables) == []


def test_table_without_a_column_that_was_added_is_made_again(folder_store: LocalStore) -> None:
    """As a version before that column leaves it that publishes beside this one."""
    put(folder_store, "today")
    publish_partition(folder_store, DT)
    path = table_path("sessions", DT)
    with folder_store.open(path) as file:
        older = pq.read_table(file).drop_columns(["attributes"])
    sink = pa.BufferOutputStream()
    pq.write_table(older, sink)
    folder_store.put(path, bytes(sink.getvalue()))
    assert publish_partition(folder_store, DT).changed
    assert "attributes" in table(folder_store, "sessions").schema.names


def test_run_record_without_a_later_column_is_read(folder_store: LocalStore) -> None:
    """Alone and beside a record of today: `query`, `verify` and `report` take it, and the column is NULL."""
    put(folder_store, "today")
    publish_partition(folder_store, DT)
    folder_store.put(f"runs/dt={DT}/old.parquet", (KEPT / "run-without-unmodelled-members.parquet").read_bytes())
    sql = "SELECT landed, by_outcome['SUCCEEDED'], unmodelled_members, dt FROM runs ORDER BY landed"
    assert fetch(folder_store.uri, sql)[1] == [(2, 1, None, DT)]
    write_run(folder_store, run_row(landed=3, completed=True, unmodelled_members=[("Added", 3)]))
    assert fetch(folder_store.uri, sql)[1] == [(2, 1, None, DT), (3, None, {"Added": 3}, DT)]
    assert findings(folder_store) == []
    sections = make_report(folder_store.uri, ReportOptions()).sections
    runs = next(figure for section in sections for figure in section.figures if figure.id == "runs")
    assert len(runs.table.rows) == 2
