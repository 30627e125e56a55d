"""What the tests of the catalog share: the relations of an output, as the commands make them."""

from collections.abc import Sequence

from liveness_etl.catalog_command import views_of
from liveness_etl.load.athena import Table, View, ddl, tables_of
from liveness_etl.load.glue_tables import TableInput, table_inputs
from liveness_etl.settings import Settings, load_settings

OUTPUT = "s3://lake/team/liveness"


def settings_with(*attributes: str, output: str = OUTPUT) -> Settings:
    """A configuration with these manifest attributes."""
    return load_settings(None, {"output.uri": output, "manifest.attributes": attributes}, environ={})


def relations(
    *attributes: str, output: str = OUTPUT, database: str = "liveness"
) -> tuple[Sequence[Table], Sequence[View]]:
    """The tables and the views."""
    return tables_of(output), views_of(settings_with(*attributes), database)


def statements(*attributes: str, output: str = OUTPUT, database: str = "liveness") -> list[str]:
    """The DDL."""
    return list(ddl(database, *relations(*attributes, output=output, database=database)))


def inputs(*attributes: str, output: str = OUTPUT, database: str = "liveness") -> list[TableInput]:
    """What Glue shall have."""
    return list(table_inputs(database, *relations(*attributes, output=output, database=database)))
