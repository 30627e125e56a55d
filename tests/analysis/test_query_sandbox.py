"""A query that somebody else wrote: it reads the tables, and nothing else, on a folder as on S3."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from liveness_etl import pipeline
from liveness_etl.analysis.query import connect, fetch
from liveness_etl.errors import LivenessError
from liveness_etl.local import LocalConfig, LocalRekognition
from tests.analysis.conftest import read_through
from tests.counting_proxy import counting
from tests.http_services import Service, serving
from tests.running import ids, make_job, write_manifest

SECRET = "not-for-analysts"
COUNT = 40


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output with all tables, landing and images, in a folder whose name holds a quote."""
    folder = tmp_path_factory.mktemp("sandbox") / "out 'püt"
    config = LocalConfig(
        answer_any=True, outcome_shares={"SUCCEEDED": 1.0}, image_mode="inline", image_bytes=300, seed=4
    )
    with LocalRekognition(config) as rekognition:
        manifest = write_manifest(folder.parent / "m.csv", [*ids(COUNT), "no id"])
        pipeline.run(make_job(manifest, folder, rekognition.endpoint_url, manifest__attributes=("plan",)))
    (folder / "landing" / "secret.csv").write_text(f"a\n{SECRET}\n")
    (folder / "_state" / "secret.csv").write_text(f"a\n{SECRET}\n")
    (folder / "secret.csv").write_text(f"a\n{SECRET}\n")
    (folder.parent / "secret.csv").write_text(f"a\n{SECRET}\n")
    beside = folder.parent / f"{folder.name}-secret"
    (beside / "sessions").mkdir(parents=True)
    (beside / "sessions" / "secret.csv").write_text(f"a\n{SECRET}\n")
    (folder / "sessions-secret").mkdir()
    (folder / "sessions-secret" / "secret.csv").write_text(f"a\n{SECRET}\n")
    (folder / "sessions" / "link").symlink_to(folder.parent)
    (folder / "sessions" / "link.csv").symlink_to(folder.parent / "secret.csv")
    return folder


@pytest.fixture(scope="module")
def lake(published: Path, client_of: Callable[[str], Any], moto_endpoint: str) -> dict[str, Any]:
    """The same on S3: arguments of `fetch`. Beside the output are things that it must not read."""
    s3 = client_of(moto_endpoint)
    s3.create_bucket(Bucket="sandbox")
    s3.create_bucket(Bucket="elsewhere")
    for path in published.rglob("*.parquet"):
        s3.put_object(Bucket="sandbox", Key=f"output/{path.relative_to(published)}", Body=path.read_bytes())
    for key in ("secret.csv", "output-secret/secret.csv", "output/landing/secret.csv", "output/sessions/secret.csv"):
        s3.put_object(Bucket="sandbox", Key=key, Body=f"a\n{SECRET}\n".encode())
    s3.put_object(Bucket="elsewhere", Key="secret.csv", Body=f"a\n{SECRET}\n".encode())
    return {"output": "s3://sandbox/output", "endpoint_url": moto_endpoint, "region": "us-east-1"}


@pytest.fixture(params=["folder", "httpfs", "arrow"])
def where(
    request: pytest.FixtureRequest, published: Path, lake: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Arguments of `fetch` for each kind of output, S3 through both readers."""
    if request.param == "folder":
        return {"output": str(published)}
    read_through(request.param, monkeypatch)
    return lake


@pytest.fixture
def stranger() -> Iterator[tuple[str, list[str]]]:
    """A host that a query should never speak to, and what it was asked."""
    seen: list[str] = []

    class Answering(Service):
        def reply(self) -> None:
            seen.append(self.requestline)
            self.answer(200)

    with serving(Answering) as url:
        yield url.removeprefix("http://"), seen


def everything_below(folder: Path) -> dict[str, int]:
    """All files and folders with the time of their change."""
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}


def assert_refused(sql: str, **where: Any) -> None:
    """A sentence, and neither what the query was after nor a line of DuckDB's own stack."""
    with pytest.raises(LivenessError) as raised:
        fetch(sql=sql, **where)
    assert SECRET not in str(raised.value)
    assert "Stack Trace" not in str(raised.value)


READING = [
    "FROM read_text('{0}')",
    "FROM read_blob('{0}')",
    "FROM read_csv('{0}')",
    "FROM read_json('{0}')",
    "FROM '{0}'",
    'FROM "{0}"',
    "FROM sniff_csv('{0}')",
    "FROM parquet_metadata('{0}')",
    "FROM query('FROM read_te' || 'xt(''{0}'')')",
    "FROM query_table('{0}')",
    "FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''{0}'')'))",
    "CREATE MACRO f(x) AS TABLE FROM read_text(x); FROM f('{0}')",
    "CREATE VIEW v AS FROM read_text('{0}'); FROM v",
    "FROM read_csv(['{0}', '{0}'])",
    "SELECT (SELECT content FROM read_text('{0}'))",
]


@pytest.mark.parametrize(
    "place",
    [
        "../secret.csv",
        "secret.csv",
        "landing/secret.csv",
        "_state/secret.csv",
        "sessions/../secret.csv",
        "sessions/../../secret.csv",
        "sessions/./.././landing/secret.csv",
        "sessions/link.csv",
        "sessions/link/secret.csv",
        "sessions-secret/secret.csv",
    ],
)
def test_file_outside_the_tables_cannot_be_read(published: Path, place: str) -> None:
    """By whatever path: neither what is beside the output, nor landing, images and state in it."""
    assert_refused(f"FROM read_text('{str(published / place).replace(chr(39), chr(39) * 2)}')", output=str(published))
    if ".." in place:
        relative = os.path.relpath(published / place).replace("'", "''")
        assert_refused(f"FROM read_text('{relative}')", output=str(published))


@pytest.mark.parametrize("sql", READING)
@pytest.mark.parametrize("place", ["/etc/passwd", "file:///etc/pass*"])
def test_file_cannot_be_read_by_any_function(published: Path, sql: str, place: str) -> None:
    """Whatever it is called by."""
    assert_refused(sql.format(place), output=str(published))


def test_images_and_folders_cannot_be_listed(published: Path) -> None:
    """The name of a folder of images is a session id."""
    for pattern in ("*", "images/**", "../*", "landing/*"):
        assert_refused(f"FROM glob('{str(published / pattern).replace(chr(39), chr(39) * 2)}')", output=str(published))


@pytest.mark.parametrize(
    "place",
    [
        "s3://elsewhere/secret.csv",
        "s3://sandbox/secret.csv",
        "s3://sandbox/output-secret/secret.csv",
        "s3://sandbox/output/../secret.csv",
        "s3://sandbox/output/sessions/../../secret.csv",
        "s3://sandbox/output/landing/secret.csv",
        "s3://sandbox/output/sessions/secret.csv",
        "s3a://elsewhere/secret.csv",
        "gcs://elsewhere/secret.csv",
        "hf://datasets/elsewhere/secret.csv",
        "s3://sandbox/output/sessions/*.csv",
        "s3://sandbox/output/sessions/dt=2026-03-01/../secret.csv",
        "s3://elsewhere/../sandbox/output/sessions/dt=2026-03-01/part-00000.parquet",
        "s3://sandbox/output/sessions/dt=2026-03-01/part-00000.parquet/../../secret.csv",
        "s3://sandbox/output/sessions/dt=2026-03-01/part-00000.parquet?versionId=x",
        "s3://sandbox/output/sessions/dt=2026-03-01/part-00000.parquet#x",
        "s3://sandbox/output//sessions/dt=2026-03-01/part-00000.parquet",
        "S3://sandbox/output/sessions/dt=2026-03-01/part-00000.parquet",
        "/etc/passwd",
    ],
)
def test_object_outside_the_tables_cannot_be_read(lake: dict[str, Any], reader: str, place: str) -> None:
    """Nor is it asked for: through Arrow DuckDB has no S3 of its own, through httpfs it has a list of files."""
    with counting(lake["endpoint_url"]) as s3:
        options = lake | {"endpoint_url": s3.url}
        assert_refused(f"FROM read_csv('{place}')", **options)
        with connect(**options) as connection:
            for function in ("read_text", "read_blob", "read_parquet", "parquet_metadata", "glob"):
                with pytest.raises(duckdb.Error):
                    connection.execute(f"FROM {function}('{place}')")
        assert set(s3.seen) == {"GET /sandbox"}  # the listing


def test_httpfs_reads_nothing_of_the_output_but_its_tables(lake: dict[str, Any], reader: str) -> None:
    """A listed file may be read by any name of a function; one beside it, as images and landing are, by none."""
    listed = "s3://sandbox/output/sessions/dt=2026-03-01/part-00000.parquet"
    with connect(**lake) as connection:
        if reader == "httpfs":
            found = connection.execute(f"SELECT count(*) FROM read_parquet('{listed}')").fetchall()
            assert found == [(COUNT,)]
        for other in ("landing", "runs", "rejects", "images", "_state"):
            with pytest.raises(duckdb.Error):
                connection.execute(f"FROM glob('s3://sandbox/output/{other}/**')")


@pytest.mark.parametrize(
    "sql",
    [
        "FROM read_csv('http://{0}/x.csv')",
        "FROM 'http://{0}/x.parquet'",
        "FROM read_csv('s3://sandbox/output/sessions/x.csv?s3_endpoint={0}&s3_use_ssl=false&s3_url_style=path')",
        "CREATE SECRET x (TYPE s3, KEY_ID 'a', SECRET 'b', ENDPOINT '{0}', USE_SSL false); FROM 's3://x/y.csv'",
        "CREATE OR REPLACE SECRET output (TYPE s3, KEY_ID 'a', SECRET 'b', ENDPOINT '{0}'); FROM 's3://x/y.csv'",
        "CREATE SECRET x (TYPE http, HTTP_PROXY 'http://{0}'); FROM read_csv('http://{0}/x.csv')",
        "CREATE SECRET x (TYPE http, HTTP_PROXY 'http://{0}', SCOPE 's3://'); FROM sessions",
        "FROM 's3://sandbox/output/sessions/dt=2026-03-01/part-00000.parquet"
        "?s3_endpoint={0}&s3_use_ssl=false&s3_url_style=path'",
        *(
            f"{create} ({{1}}, SCOPE 's3://sandbox/output/sessions/'); FROM sessions"
            for create in (
                "CREATE SECRET x",
                "CREATE OR REPLACE SECRET output",
                "CREATE TEMPORARY SECRET IF NOT EXISTS x",
                '/* */ create -- x\n or replace /* */ "temp" secret x',
                "CREATE TEMP SECRET x IN memory",
                "CREATE PERSISTENT SECRET x",
                "PIVOT sessions ON outcome USING count(*); CREATE SECRET x",
                "SELECT 1; CREATE SECRET x",
            )
        ),
        "DROP SECRET output; FROM sessions",
        "SET http_proxy = '{0}'; FROM sessions",
        "SET s3_endpoint = '{0}'; FROM sessions",
        "RESET s3_url_compatibility_mode; FROM sessions",
        "INSTALL x FROM 'http://{0}'",
        "ATTACH 'http://{0}/x.db'",
    ],
)
def test_query_speaks_to_no_other_host(where: dict[str, Any], stranger: tuple[str, list[str]], sql: str) -> None:
    """Neither by an address, nor by settings in one, nor by a secret."""
    host, seen = stranger
    secret = f"TYPE s3, KEY_ID 'a', SECRET 'b', ENDPOINT '{host}', USE_SSL false, URL_STYLE 'path'"
    assert_refused(sql.format(host, secret), **where)
    assert not seen


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT getenv('AWS_SECRET_ACCESS_KEY')",
        "SELECT current_setting('s3_secret_access_key'), current_setting('s3_session_token')",
        "SELECT current_setting('s3_access_key_id'), current_setting('http_proxy')",
        "FROM duckdb_settings()",
        "FROM duckdb_variables()",
        "FROM duckdb_secrets()",
        "FROM duckdb_secrets(redact = false)",
        'FROM system.main."Duckdb_Secrets"()',
        "FROM which_secret('s3://sandbox/output/sessions/', 's3')",
        "FROM sessions; FROM duckdb_logs()",
        "FROM enable_logging('HTTP'); FROM sessions; FROM duckdb_logs()",
        "EXPLAIN ANALYZE FROM sessions",
        "SELECT error(secret_string) FROM duckdb_secrets()",
        "SELECT sql FROM duckdb_views()",
        "CREATE TABLE t AS FROM duckdb_secrets(); FROM t",
        "SELECT * FROM sessions WHERE error(filename)",
        "SUMMARIZE sessions",
    ],
)
def test_query_cannot_tell_credentials_or_the_environment(
    where: dict[str, Any], sql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB knows none of them, or does not tell: neither the key nor its id nor the token of a session."""
    secrets = {"AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ACCESS_KEY_ID": "AKIAOFNOBODY", "AWS_SESSION_TOKEN": "F00T0K3N"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HTTP_PROXY", f"http://somebody:{SECRET}@127.0.0.1:9")  # not for loopback
    try:
        said = str(fetch(sql=sql, **where))
    except LivenessError as error:
        said = str(error)
    assert not [value for value in secrets.values() if value in said]


def test_connection_does_not_tell_the_secret_key(
    lake: dict[str, Any], reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where DuckDB logs the requests that it has signed, and with all that may be called on a connection."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    said = []
    with connect(**lake) as connection:
        for sql in (
            "CALL enable_logging('HTTP')",
            "SELECT count(*) FROM sessions",
            "FROM duckdb_logs()",
            "FROM duckdb_secrets()",
            "FROM duckdb_secrets(redact = false)",
            "SET allow_unredacted_secrets = true",
            "FROM duckdb_settings()",
            "EXPLAIN ANALYZE FROM sessions",
            "SELECT sql FROM duckdb_views()",
        ):
            try:
                said.append(str(connection.execute(sql).fetchall()))
            except duckdb.Error as error:
                said.append(str(error))
    assert ("AWS4-HMAC-SHA256" in said[2]) == (reader == "httpfs")
    assert "configuration has been locked" in said[5]
    assert SECRET not in "".join(said)


@pytest.mark.parametrize(
    "sql",
    [
        "COPY sessions TO '{0}'",
        "COPY (SELECT 1) TO '{0}' (FORMAT parquet, PARTITION_BY (a))",
        "EXPORT DATABASE '{0}'",
        "IMPORT DATABASE '{0}'",
        "ATTACH '{0}'",
        "ATTACH ':memory:' AS other",
        "SELECT 1; COPY (SELECT 1) TO '{0}'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{0}'",
        "PREPARE p AS COPY (SELECT 1) TO '{0}'",
        "SET enable_external_access = true",
        "RESET allowed_directories",
        "SET VARIABLE x = 1",
        "LOAD '{0}'",
        "CALL enable_logging(storage = 'file', storage_path = '{0}')",
        "FROM enable_logging(storage = 'file', storage_path = '{0}')",
        "FROM system.main.\"ENABLE_LOGGING\"(storage = 'file', storage_path = '{0}')",
        "FROM enable_logging /* */ ('QueryLog', storage = 'stdout')",
        "FROM query('FROM enable_log' || 'ging(storage = ''file'', storage_path = ''{0}'')')",
        "CREATE MACRO m(x) AS TABLE FROM query(x); FROM m('SELECT 1')",
        "PRAGMA enable_profiling = 'json'",
        "PRAGMA profiling_output = '{0}'",
        "VACUUM",
        "CHECKPOINT",
        "CREATE INDEX i ON sessions (session_id)",
        "INSERT INTO sessions SELECT * FROM sessions",
        "DELETE FROM sessions",
        "DROP VIEW sessions",
    ],
)
@pytest.mark.parametrize("place", ["sessions/x", "../x"])
def test_query_writes_nowhere(published: Path, sql: str, place: str) -> None:
    """Neither outside the output nor in it."""
    before = everything_below(published.parent)
    assert_refused(sql.format(str(published / place).replace("'", "''")), output=str(published))
    assert everything_below(published.parent) == before


def test_query_sees_no_variable_of_python(published: Path) -> None:
    """DuckDB would take a data frame of the caller's for a table of its name."""
    import pandas as pd

    frame = pd.DataFrame({"a": [SECRET]})
    assert len(frame) == 1
    assert_refused("FROM frame", output=str(published))


def test_spilled_rows_go_to_a_private_folder(published: Path, tmp_path: Path) -> None:
    """Not to DuckDB's .tmp/ where the user happens to be; it is gone after the query."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    code = (
        "import sys; from pathlib import Path; from liveness_etl.analysis.query import connect\n"
        "connection = connect(sys.argv[1])\n"
        "(folder,) = Path(sys.argv[2]).iterdir(); assert folder.stat().st_mode & 0o77 == 0\n"
        "assert connection.execute(\"SELECT current_setting('temp_directory')\").fetchall() == [(str(folder),)]\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(published), str(temporary)],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(temporary)},
        check=True,
    )
    assert [path.name for path in tmp_path.rglob("*")] == ["tmp"]


USEFUL = [
    ("SELECT count(*) FROM sessions", [(COUNT,)]),
    ("SELECT count(*), min(dt)::VARCHAR, max(dt)::VARCHAR FROM sessions", [(COUNT, "2026-03-01", "2026-03-01")]),
    ("SELECT count(*) FROM sessions WHERE dt > DATE '2026-03-01'", [(0,)]),
    ("SELECT count(*) FROM sessions WHERE created_at < TIMESTAMPTZ '2026-03-01 12:00:00.001Z'", [(COUNT,)]),
    ("SELECT count(*) FROM sessions WHERE outcome = 'SUCCEEDED' AND confidence >= 0", [(COUNT,)]),
    ("SELECT count(*) FROM sessions a JOIN sessions b USING (dt, session_id)", [(COUNT,)]),
    ("SELECT count(DISTINCT session_id) FROM bounding_boxes JOIN sessions USING (dt, session_id)", None),
    ("SELECT by_outcome['SUCCEEDED'], typeof(started_at) FROM runs", [(COUNT, "TIMESTAMP WITH TIME ZONE")]),
    ("SELECT line_number, reason FROM rejects", [(COUNT + 2, "session id is not a UUID")]),
    ("SELECT count(*) FROM (DESCRIBE sessions)", [(15,)]),
    ("FROM (SUMMARIZE challenges) SELECT count(*)", [(4,)]),
    ('SELECT "SUCCEEDED" FROM (PIVOT sessions ON outcome USING count(*) GROUP BY source)', [(COUNT,)]),
    ("SELECT 'query', 'enable_logging'", [("query", "enable_logging")]),
    ("SELECT count(*) FROM range(3)", [(3,)]),
]


@pytest.mark.parametrize(("sql", "rows"), USEFUL)
def test_useful_queries_pass(where: dict[str, Any], sql: str, rows: list[tuple[Any, ...]] | None) -> None:
    """The same on both kinds of output."""
    assert rows is None or fetch(sql=sql, **where)[1] == rows


def test_tables_are_the_same_on_a_folder_and_on_s3(published: Path, lake: dict[str, Any], reader: str) -> None:
    """Names and types of all columns, whoever reads the files."""
    for table in ("sessions", "challenges", "bounding_boxes", "feedback", "runs", "rejects"):
        sql = f"SELECT column_name, column_type FROM (DESCRIBE {table})"
        assert fetch(sql=sql, output=str(published)) == fetch(sql=sql, **lake)
        with connect(str(published)) as folder, connect(**lake) as s3:
            assert sorted(map(str, folder.execute(f"FROM {table}").fetchall())) == sorted(
                map(str, s3.execute(f"FROM {table}").fetchall())
            )


def test_folder_whose_name_is_a_pattern(published: Path, tmp_path: Path) -> None:
    """It is that folder, and no other one that the pattern matches."""
    (tmp_path / "out[1]").symlink_to(published)
    assert fetch(str(tmp_path / "out[1]"), "SELECT count(*) FROM sessions")[1] == [(COUNT,)]
    (tmp_path / "out*").mkdir()
    assert fetch(str(tmp_path / "out*"), "SELECT count(*) FROM sessions")[1] == [(0,)]
