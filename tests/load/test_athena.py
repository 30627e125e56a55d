"""Athena's DDL: places, types, comments and projection, read back by a parser of Athena's SQL."""

import itertools

import pyarrow as pa
import pytest
import sqlglot
from sqlglot import exp

from liveness_etl.errors import UsageError
from liveness_etl.load.athena import comment_of, hive_type, properties_of, tables_of, trino_type
from liveness_etl.transform.tables import SCHEMAS
from tests.load.cataloguing import OUTPUT, relations, statements


def parsed(statement: str) -> exp.Create:
    """A statement as sqlglot understands it; what it does not, it would only pass on as a Command."""
    found = sqlglot.parse_one(statement, dialect="athena")
    assert isinstance(found, exp.Create)
    return found


def test_every_table_has_a_place_of_its_own_and_none_the_outputs_root() -> None:
    """The root also holds landing and images, which Athena would read as rows; no place is within another."""
    places = [table.location for table in tables_of(f"{OUTPUT}/")]
    assert places == [f"{OUTPUT}/{name}/" for name in SCHEMAS]
    assert not any(one.startswith(other) for one, other in itertools.permutations(places, 2))
    assert tables_of("s3://lake")[0].location == "s3://lake/sessions/"


@pytest.mark.parametrize(
    "output",
    ["liveness", "/data/liveness", "file:///data", "s3://", "s3://Lake/x", "s3://lake/a//b", "s3://lake/${dt}"],
)
def test_output_that_athena_cannot_read_is_refused(output: str) -> None:
    """In one sentence, before anything is printed or called."""
    with pytest.raises(UsageError, match="s3://BUCKET/PREFIX"):
        tables_of(output)


def test_partitions_are_projected_from_2023_to_tomorrow() -> None:
    """As dates, so that nobody has to run a crawler or MSCK; tomorrow, since a clock may be ahead."""
    for table in tables_of(OUTPUT):
        projection = {key: value for key, value in properties_of(table).items() if not key.startswith("liveness_etl.")}
        assert projection == {
            "classification": "parquet",
            "parquet.compression": "ZSTD",
            "projection.enabled": "true",
            "projection.dt.type": "date",
            "projection.dt.format": "yyyy-MM-dd",
            "projection.dt.range": "2023-01-01,NOW+1DAYS",
            "projection.dt.interval": "1",
            "projection.dt.interval.unit": "DAYS",
            "storage.location.template": f"{OUTPUT}/{table.name}/dt=${{dt}}/",
        }


def test_ddl_says_of_each_table_what_its_schema_says() -> None:
    """Names, types and comments (apostrophes and all), the partition, the place and the properties."""
    tables, _ = relations()
    made = {create.this.this.name: create for create in map(parsed, statements()) if create.kind == "TABLE"}
    assert list(made) == list(SCHEMAS)
    for table in tables:
        create = made[table.name]
        assert create.this.this.db == "liveness"
        assert create.args["exists"]
        found = [
            (column.name, column.args["kind"].sql("hive").lower(), column.find(exp.CommentColumnConstraint).this.this)
            for column in create.this.expressions
        ]
        assert found == [(f.name, hive_type(f.type).replace(",", ", "), comment_of(f)) for f in SCHEMAS[table.name]]
        properties = create.args["properties"]
        assert properties.find(exp.ExternalProperty)
        assert properties.find(exp.FileFormatProperty).this.name == "PARQUET"
        assert properties.find(exp.LocationProperty).this.this == table.location
        (dt,) = properties.find(exp.PartitionedByProperty).this.expressions
        assert (dt.name, dt.args["kind"].sql()) == ("dt", "DATE")
        given = {one.this.this: one.args["value"].this for one in properties.expressions if type(one) is exp.Property}
        assert given == properties_of(table)


def test_ddl_makes_the_views_over_the_tables_of_its_own_database() -> None:
    """Wherever the statement is run; the parser also reads them as the engine's own dialect."""
    made = {create.this.name: create for create in map(parsed, statements("plan")) if create.kind == "VIEW"}
    assert list(made) == ["results", "confidence_daily"]
    for create in made.values():
        assert {table.db for table in create.find_all(exp.Table)} == {"liveness"}
        assert sqlglot.parse_one(create.expression.sql("trino"), dialect="trino") == create.expression
    assert "attr_plan" in made["results"].expression.named_selects


def test_statements_stand_alone() -> None:
    """Athena runs one a query: database first, tables, then the views over them."""
    assert [parsed(one).kind for one in statements()] == ["DATABASE", *["TABLE"] * 6, *["VIEW"] * 2]
    assert all(len(sqlglot.parse(one, dialect="athena")) == 1 for one in statements())


def test_types_are_said_to_each_side_in_its_own_words() -> None:
    """Every column of every table and view has one."""
    tables, views = relations("plan")
    kinds = {field.type for relation in (*tables, *views) for field in relation.schema}
    assert {(hive_type(kind), trino_type(kind)) for kind in kinds} == {
        ("string", "varchar"),
        ("double", "double"),
        ("int", "integer"),
        ("bigint", "bigint"),
        ("boolean", "boolean"),
        ("timestamp", "timestamp(3)"),
        ("date", "date"),
        ("map<string,string>", "map(varchar,varchar)"),
        ("map<string,bigint>", "map(varchar,bigint)"),
        ("array<string>", "array(varchar)"),
    }
    with pytest.raises(KeyError):
        hive_type(pa.timestamp("us", "UTC"))  # Athena's reader would take these for milliseconds


@pytest.mark.parametrize("database", ["", "Liveness", "live-ness", "live`ness", 'live"ness', "x" * 256])
def test_database_that_athena_does_not_take_is_refused(database: str) -> None:
    """Quoting would not help."""
    with pytest.raises(UsageError, match="--database"):
        statements(database=database)


def test_attribute_too_long_for_a_column_is_refused() -> None:
    """Cut off, it might be another's."""
    with pytest.raises(UsageError, match=r"manifest\.attributes"):
        statements("x" * 251)


def test_attribute_becomes_a_name_that_athena_takes() -> None:
    """Lower case, and _ for whatever else there is; the key in the map stays what it is."""
    view = parsed(statements("user-Id", "größe", "it's")[-2])
    assert view.expression.named_selects[-4:-1] == ["attr_user_id", "attr_gr__e", "attr_it_s"]
    keys = {one.expressions[0].this for one in view.find_all(exp.Bracket)}
    assert keys == {"user-Id", "größe", "it's"}
