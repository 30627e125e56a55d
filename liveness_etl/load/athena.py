"""The tables and views as Athena is told of them: types, places, partition projection, DDL. Calls nothing.

Facts: Athena User Guide, 'Data types in Amazon Athena', 'Set up partition projection', 'Supported types for partition
projection', 'CREATE TABLE', and 'Name databases, tables, and columns'.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from liveness_etl.errors import UsageError
from liveness_etl.load.landing import VERSION_KEY
from liveness_etl.transform.tables import CONTRACT_VERSION, SCHEMAS

FIRST_DAY: Final = "2023-01-01"
"""Before it there is no partition (`extract.manifest_time`); the last one is tomorrow's."""

DT: Final = pa.field("dt", pa.date32(), metadata={"comment": "partition: filter on it, or every file is read"})

VERSION_PROPERTY: Final = VERSION_KEY.decode()
"""The table property by which this program knows its own."""

_ROWS: Final = {
    "sessions": "Face Liveness: one row per requested session id",
    "challenges": "Face Liveness: 0-1 rows per session",
    "bounding_boxes": "Face Liveness: one row per returned image, with or without a box",
    "feedback": "Face Liveness: 0-10 rows per session",
    "runs": "Face Liveness: one row per run, under the UTC date it started",
    "rejects": "Face Liveness: one row per malformed manifest line, under the UTC date its run started",
}
_TYPES: Final = {  # in DDL and Glue, and in a view's definition
    pa.string(): ("string", "varchar"),
    pa.float64(): ("double", "double"),
    pa.int32(): ("int", "integer"),
    pa.int64(): ("bigint", "bigint"),
    pa.bool_(): ("boolean", "boolean"),
    pa.timestamp("ms", "UTC"): ("timestamp", "timestamp(3)"),
    pa.date32(): ("date", "date"),
}
_NAME: Final = re.compile(r"[a-z0-9_]{1,255}")
_PLACE: Final = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/(?:[A-Za-z0-9!_.*()=@:+,~&-]+/)*")


@dataclass(frozen=True)
class Table:
    """A table over Parquet files; `schema` is without the partition column, `location` ends in a slash."""

    name: str
    comment: str
    schema: pa.Schema
    location: str


@dataclass(frozen=True)
class View:
    """A view; `schema` has all its columns, `sql` is a SELECT whose tables are qualified."""

    name: str
    comment: str
    schema: pa.Schema
    sql: str


def tables_of(output: str) -> Sequence[Table]:
    """The six tables of an output, each at a place of its own: the root also holds landing and images.

    Raises UsageError for an output that Athena cannot read.
    """
    if not output.startswith("s3://"):
        raise UsageError("Athena reads from S3 alone: give --output with s3://BUCKET/PREFIX")
    root = f"{output.rstrip('/')}/"
    if not _PLACE.fullmatch(root):
        raise UsageError(
            f"{output} cannot be the place of Athena's tables: "
            "write s3://BUCKET/PREFIX, with letters, digits and !_.*()=@:+,~&- between single slashes"
        )
    return [Table(name, _ROWS[name], schema, f"{root}{name}/") for name, schema in SCHEMAS.items()]


def properties_of(table: Table) -> Mapping[str, str]:
    """The table properties: projection instead of a crawler or MSCK, and the mark of this program."""
    return {
        "classification": "parquet",
        "parquet.compression": "ZSTD",
        "projection.enabled": "true",
        "projection.dt.type": "date",
        "projection.dt.format": "yyyy-MM-dd",
        "projection.dt.range": f"{FIRST_DAY},NOW+1DAYS",
        "projection.dt.interval": "1",
        "projection.dt.interval.unit": "DAYS",
        "storage.location.template": f"{table.location}dt=${{dt}}/",
        VERSION_PROPERTY: CONTRACT_VERSION,
    }


def check_names(database: str, relations: Sequence[Table | View]) -> None:
    """Raises UsageError for names that Athena does not take: the database's, and what attributes make of columns'."""
    if not _NAME.fullmatch(database):
        raise UsageError("--database must be lower-case letters, digits and _, 255 of them at most")
    for relation in relations:
        for name in (relation.name, *relation.schema.names):
            if not _NAME.fullmatch(name):
                raise UsageError(
                    f"{name[:60]!r} cannot be a column in Athena, which takes 255 lower-case letters, digits and _: "
                    "leave the attribute out of manifest.attributes"
                )


def ddl(database: str, tables: Sequence[Table], views: Sequence[View]) -> Iterator[str]:
    """The statements that make the database, the tables and the views, each to be run on its own.

    Tables are Hive's DDL and views Trino's, as Athena has it: quotes differ. Raises UsageError as `check_names` does.
    """
    check_names(database, [*tables, *views])
    yield f"CREATE DATABASE IF NOT EXISTS `{database}`"
    for table in tables:
        columns = ",\n  ".join(map(_column_ddl, table.schema))
        properties = ",\n  ".join(f"{_text(key)} = {_text(value)}" for key, value in properties_of(table).items())
        yield (
            f"CREATE EXTERNAL TABLE IF NOT EXISTS `{database}`.`{table.name}` (\n  {columns}\n)\n"
            f"COMMENT {_text(table.comment)}\n"
            f"PARTITIONED BY ({_column_ddl(DT)})\n"
            "STORED AS PARQUET\n"
            f"LOCATION {_text(table.location)}\n"
            f"TBLPROPERTIES (\n  {properties}\n)"
        )
    for view in views:
        yield f'CREATE OR REPLACE VIEW "{database}"."{view.name}" AS\n{view.sql}'


def hive_type(kind: pa.DataType) -> str:
    """A type as DDL and Glue write it: `map<string,string>`."""
    if pa.types.is_map(kind):
        return f"map<{hive_type(kind.key_type)},{hive_type(kind.item_type)}>"
    return f"array<{hive_type(kind.value_type)}>" if pa.types.is_list(kind) else _TYPES[kind][0]


def trino_type(kind: pa.DataType) -> str:
    """A type as Athena's engine and the definition of a view write it: `map(varchar,varchar)`."""
    if pa.types.is_map(kind):
        return f"map({trino_type(kind.key_type)},{trino_type(kind.item_type)})"
    return f"array({trino_type(kind.value_type)})" if pa.types.is_list(kind) else _TYPES[kind][1]


def comment_of(field: pa.Field) -> str:
    """The column comment that a field carries."""
    return str((field.metadata or {}).get(b"comment", b"").decode())


def _column_ddl(field: pa.Field) -> str:
    return f"`{field.name}` {hive_type(field.type)} COMMENT {_text(comment_of(field))}"


def _text(text: str) -> str:
    # Hive takes two literals side by side as one, so a doubled quote would vanish.
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
