"""Results as a DataFrame, and the views that it is read from, in a folder and on S3."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

import liveness_etl
from liveness_etl.analysis.views import results_schema
from liveness_etl.errors import StoreError, UsageError
from liveness_etl.load import publish
from liveness_etl.storage import Store
from liveness_etl.storage_folder import LocalStore
from liveness_etl.transform.tables import SCHEMAS, TABLES
from tests.analysis.conftest import DAYS, damage, publish_days
from tests.landing_rows import DT, land, row


def types_of(frame: pd.DataFrame) -> dict[str, Any]:
    """Each column's Arrow type."""
    return {name: kind.pyarrow_dtype for name, kind in frame.dtypes.items()}


def test_columns_have_arrows_types_and_null_is_missing(store: Store, options: dict[str, Any]) -> None:
    """As in the schema of the view, milliseconds in UTC included; no NaN, no object."""
    publish_days(store)
    frame = liveness_etl.read_results(store.uri, attributes=["plan", "never given"], **options)
    schema = results_schema(["plan", "never given"])
    assert types_of(frame) == {field.name: field.type for field in schema}
    assert frame["confidence"].tolist() == [90.0, pd.NA, 91.0, pd.NA, 92.0, pd.NA]
    assert frame["attr_plan"].tolist() == ["free", pd.NA] * 3
    assert frame["attr_never given"].isna().all()
    assert [list(codes) for codes in frame["feedback_codes"]] == [[], ["A"]] * 3
    assert frame["dt"].tolist() == [dt for dt in DAYS for _ in range(2)]


def test_missing_pandas_is_named_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra: the command line does without it."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match=r"pip install 'liveness-etl\[pandas\]'$"):
        liveness_etl.read_results("nowhere")


def test_an_output_without_tables_is_an_empty_frame_of_the_same_types(store: Store, options: dict[str, Any]) -> None:
    """Before the first run."""
    frame = liveness_etl.read_results(store.uri, start="2026-01-01", attributes=["plan"], **options)
    assert len(frame) == 0
    assert types_of(frame) == {field.name: field.type for field in results_schema(["plan"])}


@pytest.mark.parametrize(
    ("bounds", "days"),
    [
        ({}, DAYS),
        ({"start": DAYS[1]}, DAYS[1:]),
        ({"end": DAYS[1].isoformat()}, DAYS[:2]),
        ({"start": DAYS[1].isoformat(), "end": DAYS[1]}, DAYS[1:2]),
        ({"start": DAYS[2], "end": DAYS[0]}, ()),
    ],
)
def test_start_and_end_are_both_included(
    folder_store: LocalStore, bounds: dict[str, Any], days: tuple[date, ...]
) -> None:
    """As dates or as text."""
    publish_days(folder_store)
    assert tuple(liveness_etl.read_results(folder_store.uri, **bounds)["dt"].unique()) == days


def test_what_is_no_date_is_refused(folder_store: LocalStore) -> None:
    """One sentence."""
    with pytest.raises(UsageError, match="start must be a date"):
        liveness_etl.read_results(folder_store.uri, start="yesterday")


def test_partitions_outside_of_the_dates_are_not_read(store: Store, options: dict[str, Any]) -> None:
    """Proven by files that cannot be read: of none of the four tables is one touched."""
    publish_days(store)
    damage(store, DAYS[1])
    assert len(liveness_etl.read_results(store.uri, start=DAYS[2], **options)) == 2
    assert len(liveness_etl.read_results(store.uri, end=DAYS[0], **options)) == 2
    with pytest.raises((StoreError, UsageError)):
        liveness_etl.read_results(store.uri, **options)
    with liveness_etl.connect(store.uri, **options) as connection:
        counted = connection.execute("SELECT count(*), max(confidence) FROM results WHERE dt = $1", [DAYS[2]])
        assert counted.fetchone() == (2, 92.0)
        with pytest.raises(duckdb.Error):
            connection.execute("SELECT max(confidence) FROM sessions").fetchone()


def test_a_thousand_partitions_are_not_opened_to_connect(folder_store: LocalStore) -> None:
    """Views over a history of three years cost a listing; a day's results cost that day's files."""
    for dt in (DT, DT + timedelta(days=999)):
        land(folder_store, [row(1), row(2)], dt)
        publish.publish_partition(folder_store, dt)
    between = [DT + timedelta(days=number) for number in range(1, 999)]
    damage(folder_store, between[0])
    for table in TABLES:
        for dt in between[1:]:
            target = folder_store.root / publish.table_path(table, dt)
            target.parent.mkdir()
            os.link(folder_store.root / publish.table_path(table, between[0]), target)
    last = between[-1] + timedelta(days=1)
    with liveness_etl.connect(folder_store.uri) as connection:
        assert connection.execute("SELECT count(*) FROM results WHERE dt = $1", [last]).fetchone() == (2,)
        assert connection.execute("SELECT count(*) FROM results WHERE dt > $1", [between[-1]]).fetchone() == (2,)


def scans(node: dict[str, Any]) -> Iterator[dict[str, str]]:
    """What a plan says of each of its scans of Parquet files."""
    if node["name"].strip() == "READ_PARQUET":
        yield node["extra_info"]
    for child in node["children"]:
        yield from scans(child)


def test_a_filter_on_the_session_id_reaches_every_table(folder_store: LocalStore) -> None:
    """Through the joins and the groups of the view, down to the scans: so a point look-up stays one."""
    publish_days(folder_store)
    with liveness_etl.connect(folder_store.uri) as connection:
        sql = f"EXPLAIN (FORMAT json) FROM results WHERE session_id = 'the-id' AND dt = '{DAYS[1]}'"
        ((_, plan),) = connection.execute(sql).fetchall()
    found = [scan for root in json.loads(plan) for scan in scans(root)]
    assert [(scan["Filters"], scan["Scanning Files"]) for scan in found] == [("session_id='the-id'", "1/3")] * 4


def test_views_are_empty_with_the_right_columns_before_the_first_run(folder_store: LocalStore) -> None:
    """All of them, and the time zone is UTC."""
    with liveness_etl.connect(folder_store.uri) as connection:
        for table, schema in SCHEMAS.items():
            described = connection.execute(f"DESCRIBE {table}").fetchall()
            assert [name for name, *_ in described] == [*schema.names, "dt"]
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
        assert connection.execute("SELECT current_setting('TimeZone')").fetchone() == ("UTC",)


def test_the_package_itself_imports_neither_duckdb_nor_pandas(tmp_path: Path) -> None:
    """The command line imports the package, and is to answer at once; both names are there all the same."""
    code = (
        "import sys, liveness_etl; assert not {'duckdb', 'pandas', 'pyarrow'} & sys.modules.keys(); "
        "from liveness_etl import connect, read_results; "
        "assert {'connect', 'read_results'} <= set(liveness_etl.__all__)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'disconnect'"):
        liveness_etl.disconnect  # noqa: B018
