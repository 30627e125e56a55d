"""What Glue is given, held against botocore's model of it, and what is refused here because moto (or Glue) takes it."""

import base64
import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import botocore.loaders
import botocore.model
import pytest
import sqlglot

from liveness_etl.errors import UsageError
from liveness_etl.load.catalog import glue_client
from liveness_etl.load.glue_tables import check_input, view_text
from tests.load.cataloguing import inputs, relations


def misfits(shape: Any, value: Any, path: str = "") -> Iterator[str]:
    """Where a value has a member that the model does not know, or leaves its limits, which botocore does not check."""
    if shape.type_name == "structure":
        yield from (f"{path}.{name}?" for name in value.keys() - shape.members.keys())
        for name in value.keys() & shape.members.keys():
            yield from misfits(shape.members[name], value[name], f"{path}.{name}")
    elif shape.type_name == "list":
        for one in value:
            yield from misfits(shape.member, one, f"{path}[]")
    elif shape.type_name == "map":
        for key, one in value.items():
            yield from misfits(shape.key, key, f"{path}[{key}]")
            yield from misfits(shape.value, one, f"{path}[{key}]")
    elif isinstance(value, str):
        limits = shape.metadata
        if not limits.get("min", 0) <= len(value) <= limits.get("max", len(value)):
            yield f"{path} has {len(value)} characters"
        pattern = limits.get("pattern", "").replace(r"\uD800\uDC00-\uDBFF\uDFFF", "\U00010000-\U0010ffff")
        if pattern and not re.fullmatch(pattern, value):
            yield f"{path} is not {pattern}"


def test_what_glue_is_given_fits_its_model() -> None:
    """Lengths and characters, to the last column comment."""
    model = botocore.model.ServiceModel(botocore.loaders.create_loader().load_service_model("glue", "service-2"))
    shape = model.shape_for("TableInput")
    for one in inputs("plan", "user-id"):
        assert list(misfits(shape, one)) == []
    one["StorageDescriptor"]["Columns"][0]["Comment"] = "x" * 256  # the check itself finds something
    assert list(misfits(shape, one)) == [".StorageDescriptor.Columns[].Comment has 256 characters"]


def test_table_is_parquet_with_its_partition_apart() -> None:
    """As Athena's own CREATE EXTERNAL TABLE leaves it."""
    table = inputs()[0]
    storage = table["StorageDescriptor"]
    assert (table["Name"], table["TableType"], table["Parameters"]["EXTERNAL"]) == (
        "sessions",
        "EXTERNAL_TABLE",
        "TRUE",
    )
    assert [(one["Name"], one["Type"]) for one in table["PartitionKeys"]] == [("dt", "date")]
    assert "dt" not in [one["Name"] for one in storage["Columns"]]
    assert storage["SerdeInfo"]["SerializationLibrary"].endswith(".parquet.serde.ParquetHiveSerDe")


def test_view_decodes_to_what_the_engine_reads() -> None:
    """As Trino's ViewReaderUtil does it: prefix and suffix off, base64, JSON with these members."""
    _, views = relations("plan")
    for view, table in zip(views, inputs("plan")[-2:], strict=True):
        text = table["ViewOriginalText"]
        assert text == view_text("liveness", view)
        assert text.startswith("/* Presto View: ")
        assert text.endswith(" */")
        definition = json.loads(base64.b64decode(text[16:-3], validate=True))
        assert definition["originalSql"] == view.sql
        assert (definition["catalog"], definition["schema"]) == ("awsdatacatalog", "liveness")
        names = [column["name"] for column in definition["columns"]]
        assert names == [column["Name"] for column in table["StorageDescriptor"]["Columns"]]
        assert names == sqlglot.parse_one(view.sql, dialect="athena").named_selects
        assert table["Parameters"]["presto_view"] == "true"
        assert (table["TableType"], table["ViewExpandedText"]) == ("VIRTUAL_VIEW", "/* Presto View */")


def column(**changes: str) -> Callable[[dict[str, Any]], None]:
    """Changes the first column."""
    return lambda table: table["StorageDescriptor"]["Columns"][0].update(changes)


WRONG: dict[str, Callable[[dict[str, Any]], None]] = {
    "no such type": column(Type="varchar"),
    "half a type": column(Type="map<string"),
    "a comment too long": column(Comment="x" * 256),
    "a comment of two lines": column(Comment="one\ntwo"),
    "two columns of one name": column(Name="region"),
    "the partition once more": column(Name="dt"),
    "a description too long": lambda table: table.update(Description="x" * 2049),
    "a place that is a file": lambda table: table["StorageDescriptor"].update(Location="s3://lake/sessions"),
    "a bucket as a place": lambda table: table["StorageDescriptor"].update(Location="s3://lake/"),
    "a place elsewhere": lambda table: table["StorageDescriptor"].update(Location="/data/sessions/"),
    "a property too long": lambda table: table["Parameters"].update(x="y" * 512_001),
    "a view too long": lambda table: table.update(ViewOriginalText="x" * 409_601),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_moto_takes_wrongly_is_refused_here(
    wrong: str, moto_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a sync that passes against moto says nothing of these; this check does."""
    table = copy.deepcopy(dict(inputs()[0]))
    check_input(table)
    WRONG[wrong](table)
    with pytest.raises(UsageError, match="cannot stand in Glue"):
        check_input(table)
    monkeypatch.setenv("AWS_ENDPOINT_URL_GLUE", moto_endpoint)
    glue, database = glue_client(), f"wrong{list(WRONG).index(wrong)}"
    glue.create_database(DatabaseInput={"Name": database})
    glue.create_table(DatabaseName=database, TableInput=table)
    glue.close()
