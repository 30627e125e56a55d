"""Athena's tables and views as Glue keeps them: dicts in the form of Glue's TableInput, and what Glue does not take.

A view is a table of type VIRTUAL_VIEW whose text is a comment with base64 of JSON in it. AWS has not written that
down; this is the form that Trino's ViewReaderUtil decodes and that Athena's own views have.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from liveness_etl.errors import UsageError
from liveness_etl.load.athena import (
    DT,
    VERSION_PROPERTY,
    Table,
    View,
    check_names,
    comment_of,
    hive_type,
    properties_of,
    trino_type,
)
from liveness_etl.transform.tables import CONTRACT_VERSION

TableInput = Mapping[str, Any]

_PARQUET: Final = "org.apache.hadoop.hive.ql.io.parquet"
_SCALAR: Final = "(?:string|double|int|bigint|boolean|timestamp|date)"
_KIND: Final = re.compile(rf"{_SCALAR}|array<{_SCALAR}>|map<{_SCALAR},{_SCALAR}>")
_LOCATION: Final = re.compile(r"s3://[^/]+/.+/")  # never a bucket's root

# botocore's model of Glue: CommentString, DescriptionString, ViewTextString, LocationString, ParametersMapValue.
_COMMENT, _DESCRIPTION, _VIEW_TEXT, _LONGEST_LOCATION, _PARAMETER = 255, 2048, 409_600, 2056, 512_000
_KEY: Final = 255


def table_inputs(database: str, tables: Sequence[Table], views: Sequence[View]) -> Sequence[TableInput]:
    """What `catalog.sync` shall find: tables first, then the views over them. Raises UsageError for what Glue refuses
    (or worse, takes and Athena chokes on)."""
    check_names(database, [*tables, *views])
    wanted = [*map(_table_input, tables), *(_view_input(database, view) for view in views)]
    for one in wanted:
        check_input(one)
    return wanted


def view_text(database: str, view: View) -> str:
    """ViewOriginalText of a view."""
    definition = {
        "originalSql": view.sql,
        "catalog": "awsdatacatalog",
        "schema": database,
        "columns": [{"name": field.name, "type": trino_type(field.type)} for field in view.schema],
    }
    return f"/* Presto View: {base64.b64encode(json.dumps(definition).encode()).decode()} */"


def check_input(wanted: TableInput) -> None:
    """Raises UsageError for a table whose types, comments, place or size Glue or Athena would not take."""
    problem = next(_problems(wanted), None)
    if problem is not None:
        raise UsageError(f"{wanted['Name']} cannot stand in Glue: {problem}")


def _table_input(table: Table) -> TableInput:
    return {
        "Name": table.name,
        "Description": table.comment,
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {"EXTERNAL": "TRUE", **properties_of(table)},
        "PartitionKeys": [_column(DT)],
        "StorageDescriptor": {
            "Columns": [_column(field) for field in table.schema],
            "Location": table.location,
            "InputFormat": f"{_PARQUET}.MapredParquetInputFormat",
            "OutputFormat": f"{_PARQUET}.MapredParquetOutputFormat",
            "SerdeInfo": {
                "SerializationLibrary": f"{_PARQUET}.serde.ParquetHiveSerDe",
                "Parameters": {"serialization.format": "1"},
            },
        },
    }


def _view_input(database: str, view: View) -> TableInput:
    return {
        "Name": view.name,
        "Description": view.comment,
        "TableType": "VIRTUAL_VIEW",
        "Parameters": {"presto_view": "true", "comment": "Presto View", VERSION_PROPERTY: CONTRACT_VERSION},
        "PartitionKeys": [],
        "StorageDescriptor": {"Columns": [_column(field) for field in view.schema], "Location": "", "SerdeInfo": {}},
        "ViewOriginalText": view_text(database, view),
        "ViewExpandedText": "/* Presto View */",
    }


def _column(field: pa.Field) -> Mapping[str, str]:
    return {"Name": field.name, "Type": hive_type(field.type), "Comment": comment_of(field)}


def _problems(wanted: TableInput) -> Iterator[str]:
    storage = wanted["StorageDescriptor"]
    columns = [*storage["Columns"], *wanted["PartitionKeys"]]
    if len({column["Name"] for column in columns}) < len(columns):
        yield "two columns have one name"
    for column in columns:
        if not _KIND.fullmatch(column["Type"]):
            yield f"{column['Type']!r} of {column['Name']} is no type of these tables"
        if len(column["Comment"]) > _COMMENT or not column["Comment"].isprintable():
            yield f"the comment of {column['Name']} is no line of up to {_COMMENT} characters"
    if len(wanted["Description"]) > _DESCRIPTION:
        yield f"its description has more than {_DESCRIPTION:,} characters"
    place = storage["Location"]
    if wanted["TableType"] != "VIRTUAL_VIEW" and (len(place) > _LONGEST_LOCATION or not _LOCATION.fullmatch(place)):
        yield f"its place is no s3:// prefix of up to {_LONGEST_LOCATION:,} characters with a slash at its end"
    if any(len(key) > _KEY or len(value.encode()) > _PARAMETER for key, value in wanted["Parameters"].items()):
        yield "one of its properties is too long"
    if len(wanted.get("ViewOriginalText", "")) > _VIEW_TEXT:
        yield f"its SQL has more than {_VIEW_TEXT:,} characters in base64; list fewer columns in manifest.attributes"
