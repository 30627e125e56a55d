"""What a query sees while a publish replaces the files that it reads: README's section on that, held to its word.

The publish is a real one. A function of the query's own starts it, when the query meets the first row of a table; or
the second read of a large object does.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import liveness_etl
from liveness_etl import storage_s3
from liveness_etl.analysis import httpfs
from liveness_etl.analysis.facts import open_facts
from liveness_etl.analysis.query import fetch
from liveness_etl.errors import StoreError
from liveness_etl.load import publish
from liveness_etl.storage import Store
from liveness_etl.storage_folder import LocalStore
from liveness_etl.storage_s3 import S3Store
from liveness_etl.transform.tables import SESSIONS
from tests.counting_proxy import counting
from tests.landing_rows import DT, image, land, row

DAYS = [DT + timedelta(days=number) for number in range(3)]
BEFORE, AFTER = 3, 5

JOIN = """
SELECT s.dt, count(DISTINCT s.session_id), count(DISTINCT b.session_id)
FROM sessions s LEFT JOIN {boxes} b ON b.dt = s.dt AND b.session_id = s.session_id GROUP BY s.dt ORDER BY s.dt
"""


def publish_up_to(store: Store, count: int) -> None:
    """Every day has this many sessions, with one image each."""
    for dt in DAYS:
        land(store, [row(number, images=[image(0)]) for number in range(count)], dt)
        assert publish.publish_partition(store, dt).changed


def once(act: Callable[[], None]) -> Callable[..., None]:
    """Acts when it is first called."""
    left = [act]

    def call(*_: object) -> None:
        if left:
            left.pop()()

    return call


def ask(store: Store, options: dict[str, Any], sql: str, meanwhile: Callable[..., None]) -> tuple[list[Any], list[Any]]:
    """The rows of a query that calls `meanwhile(column)`, and those of the same one afterwards."""
    with liveness_etl.connect(store.uri, **options) as duck:

        def pause(value: str) -> str:
            meanwhile()
            return value

        duck.create_function("meanwhile", pause, [duckdb.sqltypes.VARCHAR], duckdb.sqltypes.VARCHAR, side_effects=True)
        return duck.execute(sql).fetchall(), duck.execute(sql).fetchall()


def count_facts(store: Store, options: dict[str, Any]) -> None:
    """Read all that a report reads first."""
    wanted: dict[str, Any] = {"default_days": 29, "days_before": 28, "ttl_seconds": 180, "subject_attribute": None}
    with open_facts(store.uri, None, None, memory_limit="1GB", **wanted, **options):
        pass


def test_a_join_may_meet_new_sessions_and_their_old_children(store: Store, options: dict[str, Any]) -> None:
    """Each file is whole and of one version; those of two tables, and of two days, need not be of the same."""
    publish_up_to(store, BEFORE)
    boxes = "(SELECT *, meanwhile(session_id) AS met FROM bounding_boxes)"
    sql = JOIN.format(boxes=boxes).replace("ON ", "ON b.met IS NOT NULL AND ")
    found, again = ask(store, options, sql, once(lambda: publish_up_to(store, AFTER)))
    assert [dt for dt, *_ in found] == DAYS
    assert {children for _, _, children in found} == {BEFORE}
    assert {sessions for _, sessions, _ in found} <= {BEFORE, AFTER}
    assert found[-1][1:] == (AFTER, BEFORE)
    assert again == [(dt, AFTER, AFTER) for dt in DAYS]


def test_a_join_between_two_replacements_shows_no_session_without_its_children(
    store: Store, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Children are replaced first: a query that runs just before `sessions` is replaced gives what it gave before."""
    publish_up_to(store, BEFORE)
    seen: list[Any] = []
    put = type(store).put

    def put_after_a_query(of: Any, path: str, *given: Any, **named: Any) -> str:
        if path.startswith("sessions/"):
            with liveness_etl.connect(store.uri, **options) as duck:
                seen.append(duck.execute(JOIN.format(boxes="bounding_boxes")).fetchall())
                orphans = "SELECT count(*) FROM bounding_boxes b ANTI JOIN sessions s USING (dt, session_id)"
                seen.append(duck.execute(orphans).fetchall())
        return put(of, path, *given, **named)

    monkeypatch.setattr(type(store), "put", put_after_a_query)
    land(store, [row(number, images=[image(0)]) for number in range(AFTER)], DAYS[0])
    publish.publish_partition(store, DAYS[0])
    assert seen == [[(dt, BEFORE, BEFORE) for dt in DAYS], [(AFTER - BEFORE,)]]


def test_an_open_file_of_a_folder_goes_on_as_the_old_version(folder_store: LocalStore) -> None:
    """As pandas and DuckDB read it: what is open keeps the bytes that it was opened with."""
    publish_up_to(folder_store, BEFORE)
    with pq.ParquetFile(folder_store.root / publish.table_path("sessions", DT)) as opened:
        publish_up_to(folder_store, AFTER)
        assert len(opened.read()) == BEFORE
    assert pq.read_table(folder_store.root / publish.table_path("sessions", DT), partitioning=None).num_rows == AFTER


@pytest.mark.parametrize("store", ["moto arrow", pytest.param("ceph arrow", marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize("user", ["query", "report"])
def test_a_large_object_that_is_replaced_fails_the_query_with_one_sentence(
    store: Store, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    """It is never read half old and half new; the same query again has the answer."""
    publish_up_to(store, BEFORE)
    read_range = S3Store.read_range
    republish = once(lambda: publish_up_to(store, AFTER))

    def read_after_a_publish(of: S3Store, path: str, *given: Any) -> bytes:
        if path.startswith("sessions/"):
            republish()
        return read_range(of, path, *given)

    monkeypatch.setattr(storage_s3, "_WHOLE_BYTES", 1_000)  # what is larger is read in ranges
    monkeypatch.setattr(S3Store, "read_range", read_after_a_publish)
    sql = "SELECT count(*), count(DISTINCT run_id) FROM sessions"
    read = {"query": lambda: fetch(store.uri, sql, **options), "report": lambda: count_facts(store, options)}[user]
    with pytest.raises(StoreError, match="run this again") as caught:
        read()
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert fetch(store.uri, sql, **options)[1] == [(AFTER * len(DAYS), 1)]


def a_version(store: Store, confidence: float) -> None:
    """A day whose file is as long as in any other version, page by page: read as the other one, it is no broken file,
    but a wrong one."""
    rows = [dict.fromkeys(SESSIONS.names) | {"session_id": f"{n:06d}", "attempts": 1} for n in range(20_000)]
    texts = dict.fromkeys(("source", "region", "outcome", "run_id"), f"version {confidence}")
    table = pa.Table.from_pylist([row | texts | {"confidence": confidence} for row in rows], SESSIONS)
    file = pa.BufferOutputStream()
    pq.write_table(table, file, row_group_size=5_000, compression="none", use_dictionary=False)
    store.put(publish.table_path("sessions", DT), file.getvalue().to_pybytes())


@pytest.mark.parametrize("store", ["moto httpfs", pytest.param("ceph httpfs", marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize("columns", ["min(confidence), max(confidence)", "min(run_id), max(run_id)"])
def test_httpfs_reads_one_version_of_an_object_or_fails_with_one_sentence(
    store: Store, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    """Whichever of a query's requests the object is replaced before."""
    monkeypatch.setitem(httpfs._SETTINGS, "http_retry_wait_ms", 1)
    sql = f"SELECT {columns} FROM sessions"
    a_version(store, 1.5)
    with counting(options["endpoint_url"]) as server:
        through = options | {"endpoint_url": server.url}
        old = fetch(store.uri, sql, **through)[1]
        requests = sum(request.endswith(".parquet") for request in server.seen)
        assert requests > 4
        first = len(server.seen) - requests + 1
        ends = set()
        for number in range(first, first + requests):
            a_version(store, 1.5)
            server.start(number, lambda: a_version(store, 7.5))
            try:
                ends.add(str(fetch(store.uri, sql, **through)[1]))
            except StoreError as error:
                ends.add(str(error).rpartition(": ")[2])
        new = fetch(store.uri, sql, **through)[1]
    assert old[0][0] == old[0][1] != new[0][0] == new[0][1]
    assert ends == {str(new), "a publish or an erasure replaced it meanwhile, so run this again"}


def test_a_new_day_is_seen_by_the_next_connection_and_on_a_folder_by_the_next_query(
    store: Store, options: dict[str, Any]
) -> None:
    """On S3 the files are listed when the connection is made."""
    publish_up_to(store, BEFORE)
    sql = "SELECT count(DISTINCT dt) FROM sessions"
    with liveness_etl.connect(store.uri, **options) as duck:
        land(store, [row(1)], DAYS[-1] + timedelta(days=1))
        publish.publish_partition(store, DAYS[-1] + timedelta(days=1))
        assert duck.execute(sql).fetchall() == [(3 if store.uri.startswith("s3://") else 4,)]
    assert fetch(store.uri, sql, **options)[1] == [(4,)]


def test_a_connection_that_outlives_a_publish_reads_the_new_files(store: Store, options: dict[str, Any]) -> None:
    """No footer of a replaced file is kept: pages of the new one would be read with it."""
    publish_up_to(store, BEFORE)
    with liveness_etl.connect(store.uri, **options) as duck:
        for count in (BEFORE, AFTER):
            if count > BEFORE:
                publish_up_to(store, count)
            found = duck.execute("SELECT count(*), count(DISTINCT session_id), min(outcome) FROM sessions").fetchall()
            assert found == [(count * len(DAYS), count, "SUCCEEDED")]
