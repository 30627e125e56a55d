"""Records of runs are one small file a run, half a million after a year of sweeps a minute: who asks for a day opens
that day's."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from liveness_etl.analysis.query import connect
from liveness_etl.analysis.report import ReportOptions, make_report
from liveness_etl.load.records import write_run
from liveness_etl.storage import Store
from liveness_etl.storage_folder import LocalStore
from tests.analysis.conftest import DAYS, publish_days
from tests.load.test_records import run_row

BEFORE, LONG_AFTER = DAYS[0] - timedelta(days=1), DAYS[-1] + timedelta(days=2)


def record(store: Store, dt: date, **columns: Any) -> None:
    started_at = datetime(dt.year, dt.month, dt.day, 23, 59, tzinfo=UTC)
    write_run(store, run_row(run_id=f"run-{dt}", started_at=started_at, completed=True, **columns))


def spoil(store: Store, *days: date) -> None:
    """Whoever opens a record of these days fails."""
    for dt in days:
        for table in ("runs", "rejects"):
            store.put(f"{table}/dt={dt}/spoiled.parquet", b"not Parquet at all")


def test_connecting_opens_no_record(store: Store, options: dict[str, Any]) -> None:
    """All of them are spoiled; the columns are known all the same."""
    spoil(store, *DAYS)
    with connect(store.uri, **options) as connection:
        columns = connection.execute("DESCRIBE runs").fetchall()
    assert [column[:2] for column in columns][-2:] == [("unmodelled_members", "MAP(VARCHAR, BIGINT)"), ("dt", "DATE")]


@pytest.mark.parametrize(
    "where",
    ["dt = '{}'", "dt BETWEEN '{}' AND DATE '{}'", "dt >= '{}' AND dt < DATE '{}' + 1"],
    ids=["=", "between", "<"],
)
def test_a_filter_on_dt_opens_the_records_of_its_days_alone(store: Store, options: dict[str, Any], where: str) -> None:
    """Those of other days are spoiled, of `runs` and of `rejects`."""
    record(store, DAYS[1], landed=7)
    spoil(store, DAYS[0], DAYS[2])
    with connect(store.uri, **options) as connection:
        where = where.format(DAYS[1], DAYS[1])
        found = connection.execute(f"SELECT dt, run_id, landed FROM runs WHERE {where}").fetchall()
        assert found == [(DAYS[1], f"run-{DAYS[1]}", 7)]
        assert connection.execute(f"SELECT count(*) FROM rejects WHERE {where}").fetchall() == [(0,)]


def test_a_report_reads_the_records_of_its_span_alone(folder_store: LocalStore) -> None:
    """A run that ends after midnight belongs to the last day; what is earlier or later is not opened."""
    publish_days(folder_store)
    for dt in (*DAYS, DAYS[-1] + timedelta(days=1)):
        record(folder_store, dt)
    spoil(folder_store, BEFORE, LONG_AFTER)
    report = make_report(folder_store.uri, ReportOptions(first=DAYS[0], last=DAYS[-1]))
    runs = next(figure for section in report.sections for figure in section.figures if figure.id == "runs")
    assert [row[0] for row in runs.table.rows] == [f"run-{DAYS[-1] + timedelta(days=1 - n)}" for n in range(4)]
    assert runs.notes == ["4 runs, 0 without a regular end."]


def test_a_folder_that_is_no_date_harms_no_query(folder_store: LocalStore) -> None:
    """As a person may make it; its records have no date."""
    record(folder_store, DAYS[0])
    kept = next(folder_store.list("runs/"))
    with folder_store.open(kept.path) as file:
        folder_store.put("runs/dt=backup/run.parquet", bytes(file.read()))
    with connect(folder_store.uri) as connection:
        assert connection.execute("SELECT dt FROM runs ORDER BY dt NULLS LAST").fetchall() == [(DAYS[0],), (None,)]
        assert connection.execute(f"SELECT count(*) FROM runs WHERE dt = '{DAYS[0]}'").fetchall() == [(1,)]
