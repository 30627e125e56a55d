"""One DuckDB view for each table, of the files that a folder or an S3 prefix has of it."""

import re
from itertools import islice
from typing import Final

import duckdb
import pyarrow as pa

from liveness_etl.engine import sql_text
from liveness_etl.errors import StoreError
from liveness_etl.storage import Entry, Store
from liveness_etl.transform.tables import SCHEMAS

_RECORDS: Final = ("runs", "rejects")
"""One small file a run: read at once each, where httpfs would ask for each three times."""

UNLISTED: Final = "cannot query: "
"""Before what the view of a table says that may not be listed."""


def find_files(store: Store, table: str) -> list[Entry] | StoreError:
    """The files of a table, or what forbids to list them. Of a folder, which DuckDB lists itself, one is enough."""
    try:
        found = (entry for entry in store.list(f"{table}/dt=") if entry.path.endswith(_name(table)))
        return list(islice(found, 1) if _is_listed_by_duckdb(store) else found)
    except StoreError as error:
        return error


def _name(table: str) -> str:
    """How the paths of a table's files end."""
    return ".parquet" if table in _RECORDS else "part-00000.parquet"


def _is_listed_by_duckdb(store: Store) -> bool:
    return not store.uri.startswith("s3://") and not re.search(r"[*?[]", store.uri)  # a pattern to DuckDB


def make_view(
    connection: duckdb.DuckDBPyConnection, store: Store, table: str, files: list[Entry] | StoreError, by_itself: bool
) -> list[str]:
    """Returns the addresses on S3 that DuckDB has to open for it: `by_itself`, so through httpfs, or else none, where
    it reads S3 through Arrow."""
    if isinstance(files, StoreError):  # raised when it is read
        says = sql_text(f"{UNLISTED}{files}")
        connection.execute(f"CREATE VIEW {table} AS {_no_rows(connection, table)} WHERE error({says})")
    elif not files:
        connection.execute(f"CREATE VIEW {table} AS {_no_rows(connection, table)} WHERE false")
    elif _is_listed_by_duckdb(store):
        pattern = sql_text(f"{store.uri}/{table}/dt=*/{'*' if table in _RECORDS else ''}{_name(table)}")
        connection.execute(
            f"CREATE VIEW {table} AS {_unopened(connection, table, pattern)}"
            if table in _RECORDS
            else f"CREATE VIEW {table} AS SELECT * FROM read_parquet({pattern}, "
            "hive_partitioning = true, hive_types = {'dt': DATE})"
        )
    elif by_itself and table not in _RECORDS:
        urls = [store.uri_of(entry.path) for entry in files]
        listed = f"[{', '.join(map(sql_text, urls))}]"
        connection.execute(f"CREATE VIEW {table} AS {_unopened(connection, table, listed)}")
        return urls
    else:
        from liveness_etl.analysis.objects import open_dataset  # pyarrow.dataset takes a quarter of a second to import

        connection.register(table, open_dataset(store, files, SCHEMAS[table]))
    return []


def _unopened(connection: duckdb.DuckDBPyConnection, table: str, files: str) -> str:
    """Many files, perhaps half a million: none is opened before the query, and then only those of its days.

    DuckDB would open one or all of them to find out their columns; told these, it cannot tell `dt` by itself.
    """
    columns = ", ".join(
        f"'{name}': {{'name': '{name}', 'type': '{kind}', 'default_value': NULL}}"
        for name, kind in _kinds(connection, SCHEMAS[table]).items()
    )
    return (
        "SELECT * EXCLUDE (filename), try_cast(regexp_extract(filename, '/dt=([^/]*)/[^/]*$', 1) AS DATE) AS dt "
        f"FROM read_parquet({files}, schema = MAP {{{columns}}}, filename = true)"
    )


def _no_rows(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    kinds = _kinds(connection, SCHEMAS[table].append(pa.field("dt", pa.date32())))
    return "SELECT " + ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in kinds.items())


def _kinds(connection: duckdb.DuckDBPyConnection, schema: pa.Schema) -> dict[str, str]:
    """The columns with their types in DuckDB's words."""
    empty = connection.from_arrow(schema.empty_table())
    return dict(zip(empty.columns, map(str, empty.types), strict=True))
