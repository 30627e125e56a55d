"""The tables `runs` and `rejects`: one small file a run."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from liveness_etl.load.records import record_path, rejects_file, write_run
from liveness_etl.storage import Store
from liveness_etl.transform import tables
from tests.stored import paths

STARTED = datetime(2026, 1, 1, 23, 59, tzinfo=UTC)
PATH = "dt=2026-01-01/run-1.parquet"


def run_row(**columns: Any) -> dict[str, Any]:
    counts = {field.name: 0 for field in tables.RUNS if field.type == pa.int64()}
    texts = {name: name for name in ("run_id", "command", "manifest_uri", "version")}
    row = dict.fromkeys(tables.RUNS.names) | counts | texts
    return row | {"run_id": "run-1", "started_at": STARTED, "by_outcome": [], "completed": False} | columns


def rejects(*lines: int) -> pa.RecordBatch:
    uris, reasons = ["m.csv"] * len(lines), ["no UUID"] * len(lines)
    return pa.record_batch(
        {"manifest_uri": pa.array(uris, pa.string()), "line_number": pa.array(lines, pa.int64()), "reason": reasons}
        if lines
        else {name: pa.array([], tables.REJECTS.field(name).type) for name in tables.REJECTS.names[1:]}
    )


def test_record_of_a_run_is_replaced_when_it_ends(store: Store) -> None:
    """A killed run shows as not completed; one that ended has one row under the day it started."""
    write_run(store, run_row())
    with store.open(f"runs/{PATH}") as file:
        assert pq.read_table(file).select(["completed", "finished_at"]).to_pylist() == [
            {"completed": False, "finished_at": None}
        ]
    finished = datetime(2026, 1, 2, tzinfo=UTC)
    write_run(store, run_row(completed=True, finished_at=finished, by_outcome=[("SUCCEEDED", 2)]))
    assert paths(store) == [f"runs/{PATH}"]
    with store.open(f"runs/{PATH}") as file:
        table = pq.read_table(file)
    assert table.schema.remove_metadata().equals(tables.RUNS)
    assert table.to_pylist() == [run_row(completed=True, finished_at=finished, by_outcome=[("SUCCEEDED", 2)])]


def test_files_of_records_carry_the_contract_version(store: Store) -> None:
    """As every Parquet file of an output does."""
    write_run(store, run_row())
    with store.open(record_path("runs", STARTED, "run-1")) as file:
        schema = pq.read_schema(file)
    assert schema.metadata[b"liveness_etl.contract_version"] == b"1"
    assert schema.field("calls").metadata[b"comment"]


def test_rejects_name_file_line_and_reason(store: Store) -> None:
    """All rejects of a run come together in one file, whatever the chunks they came in."""
    with store.scratch() as folder, rejects_file(folder, "run-1") as file:
        for chunk in (rejects(), rejects(2, 5), rejects(), rejects(9)):
            file.add(chunk)
        file.put(store, STARTED)
    assert file.rows == 3
    with store.open(f"rejects/{PATH}") as stored:
        table = pq.read_table(stored)
    assert table.schema.remove_metadata().equals(tables.REJECTS)
    assert table.to_pylist() == [
        {"run_id": "run-1", "manifest_uri": "m.csv", "line_number": line, "reason": "no UUID"} for line in (2, 5, 9)
    ]


def test_no_rejects_make_no_file(store: Store) -> None:
    """Rejects exist only where there are any."""
    with store.scratch() as folder, rejects_file(folder, "run-1") as file:
        file.add(rejects())
        file.put(store, STARTED)
    assert paths(store) == []


def test_rejects_of_a_run_that_failed_are_not_written(store: Store) -> None:
    """A run that stops before it puts the file, as after an error in the manifest, stores nothing."""
    with store.scratch() as folder, rejects_file(folder, "run-1") as file:
        file.add(rejects(2))
    assert paths(store) == []
