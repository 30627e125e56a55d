"""The tables as DuckDB views, over a folder or an S3 prefix."""

import contextlib
import csv
import json
import sys
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb

from liveness_etl.errors import StoreError, UsageError
from liveness_etl.storage import Store, open_store
from liveness_etl.transform.tables import SCHEMAS


def connect(
    output: str, *, memory_limit: str | None = None, spill: Path | None = None, **s3_options: Any
) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with the views sessions, challenges, bounding_boxes, feedback, runs and rejects.

    `dt` is a DATE; a table without files is an empty view with the right types; the time zone is UTC. It reads
    below the output alone, and above `memory_limit` spills into the folder `spill`. Raises StoreError, or UsageError
    where DuckDB cannot reach the output.
    """
    store = open_store(output, **s3_options)
    connection = duckdb.connect(config={"autoinstall_known_extensions": False})
    connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
    # DuckDB 1.5.5 fails with an internal error on min(dt): it takes the partition column for one of the file's.
    connection.execute("SET disabled_optimizers = 'statistics_propagation'")
    if output.startswith("s3://"):
        _use_httpfs(connection, s3_options)
    for table in SCHEMAS:
        connection.execute(_view_sql(store, table))
    if memory_limit is not None:
        connection.execute("SET memory_limit = $1", [memory_limit])
    if spill is not None:
        connection.execute("SET temp_directory = $1", [str(spill)])
        connection.execute("SET preserve_insertion_order = false")
    connection.execute("SET allowed_directories = $1", [[f"{store.uri}/"]])
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def fetch(output: str, sql: str, **s3_options: Any) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of one query. Raises UsageError, with DuckDB's own words for a wrong one."""
    with _translated(), connect(output, **s3_options) as connection:
        kinds = {statement.type for statement in connection.extract_statements(sql)}
        # CREATE is how DuckDB says PIVOT, and stays in memory; COPY, ATTACH or EXPLAIN ANALYZE COPY would not.
        if not kinds or not kinds <= {duckdb.StatementType.SELECT, duckdb.StatementType.CREATE}:
            raise UsageError("a query only reads: give a statement such as SELECT, FROM, PIVOT, DESCRIBE or SUMMARIZE")
        result = connection.execute(sql)
        return [column[0] for column in result.description or ()], result.fetchall()


def run_query(output: Any, sql: str, form: str) -> None:
    """Print one query's result on standard output as a table, CSV or JSON."""
    if form not in ("table", "csv", "json"):
        raise UsageError("--format must be table, csv or json")
    if output.uri is None:
        raise UsageError("no output: give --output with a folder or an s3:// address")
    options = {"endpoint_url": output.endpoint_url, "region": output.region, "profile": output.profile}
    columns, rows = fetch(output.uri, sql, **options)
    if form == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(columns)
        writer.writerows([_plain(value) for value in row] for row in rows)
    elif form == "json":
        records = [dict(zip(columns, map(_plain, row), strict=True)) for row in rows]
        print(json.dumps(records, indent=2, default=str))
    else:
        _print_table(columns, rows)


def _print_table(columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in columns:
        table.add_column(Text(name))
    for row in rows:
        table.add_row(*(Text("NULL" if value is None else str(_plain(value))) for value in row))
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{len(rows):,} row{'' if len(rows) == 1 else 's'}")


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date | datetime) else value


def _view_sql(store: Store, table: str) -> str:
    if next(store.list(f"{table}/dt="), None) is None:
        import pyarrow as pa

        empty = SCHEMAS[table].append(pa.field("dt", pa.date32())).empty_table()
        with duckdb.connect() as typed:
            kinds = typed.from_arrow(empty)
            columns = ", ".join(
                f'NULL::{kind} AS "{name}"' for name, kind in zip(kinds.columns, kinds.types, strict=True)
            )
        return f"CREATE VIEW {table} AS SELECT {columns} WHERE false"
    name = "part-00000.parquet" if table not in ("runs", "rejects") else "*.parquet"
    pattern = f"{store.uri}/{table}/dt=*/{name}".replace("'", "''")
    return (
        f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{pattern}', "
        "hive_partitioning = true, hive_types = {'dt': DATE}, union_by_name = false)"
    )


def _use_httpfs(connection: duckdb.DuckDBPyConnection, s3_options: dict[str, Any]) -> None:
    try:
        from duckdb_extensions import import_extension
    except ImportError:
        raise UsageError("DuckDB needs its httpfs extension for s3://: pip install 'liveness-etl[s3-query]'") from None
    import_extension("httpfs", con=connection)
    _create_secret(connection, s3_options)


def _create_secret(connection: duckdb.DuckDBPyConnection, s3_options: dict[str, Any]) -> None:
    """Hand boto3's own credentials, region and endpoint to DuckDB."""
    from liveness_etl.storage_s3 import s3_client

    client = s3_client(s3_options.get("endpoint_url"), s3_options.get("region"), s3_options.get("profile"))
    credentials = client._request_signer._credentials
    if credentials is None:
        raise UsageError("no AWS credentials found for s3://: set AWS_PROFILE or AWS_ACCESS_KEY_ID")
    frozen = credentials.get_frozen_credentials()
    scheme, _, host = client.meta.endpoint_url.partition("://")
    values = {
        "KEY_ID": frozen.access_key,
        "SECRET": frozen.secret_key,
        "SESSION_TOKEN": frozen.token,
        "REGION": client.meta.region_name,
    }
    if not host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        values |= {"ENDPOINT": host, "URL_STYLE": "path", "USE_SSL": "true" if scheme == "https" else "false"}
    given = {name: value for name, value in values.items() if value}
    parts = ", ".join(f"{name} '{str(value).replace(chr(39), chr(39) * 2)}'" for name, value in given.items())
    connection.execute(f"CREATE SECRET output (TYPE s3, {parts})")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (duckdb.IOException, duckdb.HTTPException) as error:
        raise StoreError(f"cannot read the tables: {str(error).splitlines()[0]}") from None
    except duckdb.Error as error:
        raise UsageError(str(error).partition("\n\nStack Trace")[0].strip()) from None
