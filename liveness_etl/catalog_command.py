"""What the commands `catalog ddl` and `catalog sync` do: the tables and views of an output, told to Athena."""

from collections.abc import Sequence
from typing import Any

from liveness_etl.analysis.views import CONFIDENCE_DAILY, confidence_daily_sql, results_schema, results_sql
from liveness_etl.errors import UsageError
from liveness_etl.load.athena import View, ddl, tables_of
from liveness_etl.logs import say


def print_ddl(settings: Any, database: str) -> None:
    """Print the statements on standard output, each ended by a semicolon. Calls nothing. Raises UsageError."""
    statements = ddl(database, tables_of(_output(settings)), views_of(settings, database))
    print("\n\n".join(f"{statement};" for statement in statements))


def sync(settings: Any, database: str, *, dry_run: bool) -> None:
    """Make Glue's database, tables and views what they should be, or only print what differs.

    Raises UsageError where that would drop something, StoreError.
    """
    from liveness_etl.load.catalog import find_changes, glue_client, make_change
    from liveness_etl.load.glue_tables import table_inputs

    wanted = table_inputs(database, tables_of(_output(settings)), views_of(settings, database))
    glue = glue_client(settings.output.region, settings.output.profile)
    changes = find_changes(glue, database, wanted)
    for change in changes:
        if not dry_run:
            make_change(glue, database, change)
        print("\n".join(change.lines))
    if not changes:
        say("nothing differs")


def views_of(settings: Any, database: str) -> Sequence[View]:
    """The views of a configuration: its attributes, time to live and threshold are in their SQL. Raises UsageError."""
    attributes, ttl = settings.manifest.attributes, settings.sweep.session_ttl_seconds
    return [
        View(
            "results",
            "Face Liveness: one row per session and partition, with what its children hold",
            results_schema(attributes, "athena"),
            results_sql("athena", attributes, ttl, database),
        ),
        View(
            "confidence_daily",
            "Face Liveness: one row per day, source and challenge type",
            CONFIDENCE_DAILY,
            confidence_daily_sql(settings.report.threshold, database),
        ),
    ]


def _output(settings: Any) -> str:
    if settings.output.uri is None:
        raise UsageError("no output: give --output with s3://BUCKET/PREFIX")
    return str(settings.output.uri)
