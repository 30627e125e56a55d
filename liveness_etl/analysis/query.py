"""The tables as DuckDB views, over a folder or an S3 prefix."""

import contextlib
import csv
import json
import re
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from typing import Any, Final

import duckdb

from liveness_etl.analysis import httpfs
from liveness_etl.analysis.table_views import UNLISTED, find_files, make_view
from liveness_etl.analysis.views import results_sql
from liveness_etl.engine import hide_progress
from liveness_etl.errors import StoreError, UsageError
from liveness_etl.storage import open_store
from liveness_etl.transform.tables import SCHEMAS


def connect(
    output: str,
    *,
    attributes: Sequence[str] = (),
    session_ttl_seconds: float = 180,
    memory_limit: str | None = None,
    **s3_options: Any,
) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with the views sessions, challenges, bounding_boxes, feedback, runs, rejects and results.

    `dt` is a DATE; a table without files is an empty view with the right types; the time zone is UTC. It reads these
    tables alone, not even the rest of the output; one that may not be listed (as an analyst may not list rejects) is a
    view that says so when it is read. `results` (`analysis.views`) has a column attr_NAME for each of `attributes`, and
    its is_final goes by `session_ttl_seconds`. Above `memory_limit` (such as '1GB'; DuckDB's own without it) it spills
    into a private folder. Raises StoreError.

    On S3 the files are listed now. With the extra `s3-query` DuckDB reads them by itself (`analysis.httpfs`), with the
    credentials of this moment: where they expire, make a new connection. A CREATE SECRET on it can lead DuckDB to
    another host, and a COPY can replace a listed file, as far as the credentials allow it; `fetch` lets nobody do that.
    """
    store = open_store(output, **s3_options)
    spill = tempfile.mkdtemp(prefix="liveness-etl-query-")  # not DuckDB's own: .tmp/ where the user happens to be
    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_persistent_secrets": False,
            "enable_external_file_cache": False,  # the system caches files, too, and not 24 kB of each small one
            "python_enable_replacements": False,
            "temp_directory": spill,
        }
    )
    weakref.finalize(connection, shutil.rmtree, spill, ignore_errors=True)
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET http_proxy = ''")  # else that of the environment, with its password, for a query to read
    hide_progress(connection)
    # DuckDB 1.5.5 fails with an internal error on min(dt): it takes the partition column for one of the file's.
    connection.execute("SET disabled_optimizers = 'statistics_propagation'")
    if memory_limit is not None:
        connection.execute("SET memory_limit = $1", [memory_limit])
        connection.execute("SET preserve_insertion_order = false")
    with ThreadPoolExecutor(len(SCHEMAS)) as pool:  # S3 takes a while for each thousand files
        found = dict(zip(SCHEMAS, pool.map(lambda table: find_files(store, table), SCHEMAS), strict=True))
    denied = [files for files in found.values() if isinstance(files, StoreError)]
    if len(denied) == len(SCHEMAS):
        raise denied[0]
    by_itself = httpfs.open_s3(connection, store)
    urls = [url for table, files in found.items() for url in make_view(connection, store, table, files, by_itself)]
    connection.execute(f"CREATE VIEW results AS {results_sql('duckdb', attributes, session_ttl_seconds)}")
    if not store.uri.startswith("s3://"):
        connection.execute("SET allowed_directories = $1", [[f"{store.uri}/{table}/" for table in SCHEMAS]])
    elif urls:
        connection.execute("SET allowed_paths = $1", [urls])
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def fetch(output: str, sql: str, **s3_options: Any) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of one query. Raises UsageError, with DuckDB's own words for a wrong one."""
    with translated(), connect(output, **s3_options) as connection:
        _refuse_ways_around(sql)
        statements = connection.extract_statements(sql)
        if not statements or not all(_only_reads(statement) for statement in statements):
            raise UsageError("a query only reads: give a statement such as SELECT, FROM, PIVOT, DESCRIBE or SUMMARIZE")
        result = connection.execute(sql)
        return [column[0] for column in result.description or ()], result.fetchall()


def run_query(output: Any, sql: str, form: str, **view_options: Any) -> None:
    """Print one query's result on standard output as a table, CSV or JSON; `view_options` are those of `connect`."""
    check_form(form)
    if output.uri is None:
        raise UsageError("no output: give --output with a folder or an s3:// address")
    columns, rows = fetch(
        output.uri,
        sql,
        endpoint_url=output.endpoint_url,
        region=output.region,
        profile=output.profile,
        expected_bucket_owner=output.expected_bucket_owner,
        **view_options,
    )
    print_rows(columns, rows, form)


def check_form(form: str) -> None:
    """Raise UsageError for what `print_rows` cannot print."""
    if form not in ("table", "csv", "json"):
        raise UsageError("--format must be table, csv or json")


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]], form: str) -> None:
    """Print rows on standard output as a table, CSV or JSON."""
    if form == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(columns)
        writer.writerows([_plain(value) for value in row] for row in rows)
    elif form == "json":
        records = [dict(zip(columns, map(_plain, row), strict=True)) for row in rows]
        print(json.dumps(records, indent=2, default=str))
    else:
        _print_table(columns, rows)


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in columns:
        table.add_column(Text(_visible(name)))
    for row in rows:
        table.add_row(*(Text("NULL" if value is None else _visible(str(_plain(value)))) for value in row))
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{len(rows):,} row{'' if len(rows) == 1 else 's'}")


def _visible(text: str) -> str:
    """A value on a terminal, which would obey what a manifest's author has hidden in it."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", text)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date | datetime) else value


_WAYS_AROUND: Final = {
    "enable_logging": "writes files, though it looks like a SELECT",
    "query": "runs a text that nobody has looked at",
    "json_execute_serialized_sql": "likewise",
    "duckdb_secrets": "tells the id of the access key",
}


def _only_reads(statement: duckdb.Statement) -> bool:
    """SELECT, or the CREATE that DuckDB makes of a PIVOT, which has no text; a user's own could be of a secret that
    leads S3 to another host."""
    return statement.type == duckdb.StatementType.SELECT or (
        statement.type == duckdb.StatementType.CREATE and not statement.query
    )


def _refuse_ways_around(sql: str) -> None:
    """Raises UsageError for a query that names a function which does more than read tables, whatever is locked."""
    for start, kind in duckdb.tokenize(sql):
        name = re.match(r'"?(\w*)', sql[start:])
        if kind == duckdb.token_type.identifier and name and name[1].lower() in _WAYS_AROUND:
            raise UsageError(f"a query only reads: {name[1]} is not for it")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """What DuckDB raises, as StoreError where the tables cannot be read and else as UsageError."""
    try:
        yield
    except duckdb.Error as error:
        if told := store_error(error):
            raise told from None
        if UNLISTED in str(error):
            raise StoreError(str(error).rpartition(UNLISTED)[2].splitlines()[0]) from None
        raise UsageError(str(error).partition("\n\nStack Trace")[0].strip()) from None


def store_error(error: duckdb.Error) -> StoreError | None:
    """An error of DuckDB's as one sentence, if it is that a table's file could not be read."""
    if told := httpfs.read_error(error):
        return told
    if isinstance(error, duckdb.IOException):
        return StoreError(f"cannot read the tables: {str(error).splitlines()[0]}")
    through_arrow = re.search(r"^liveness_etl\.errors\.(\w+): (.+)$", str(error), re.MULTILINE)
    if through_arrow is None:
        return None
    kind, says = through_arrow.groups()
    repeat = ": a publish or an erasure replaced it meanwhile, so run this again" if kind == "Missing" else ""
    return StoreError(f"cannot read the tables: {says}{repeat}")
