"""The commands that read an output, and do not change it: query, show, verify, report, catalog, doctor."""

import os
from pathlib import Path
from typing import Annotated

import typer

from liveness_etl.cli_options import (
    AllowOption,
    ConfigOption,
    DatabaseOption,
    DateOption,
    EndpointOption,
    LogFormatOption,
    OutputOption,
    QuietOption,
    RegionOption,
    VerboseOption,
    date_of,
    settings_of,
)
from liveness_etl.errors import UsageError

catalog = typer.Typer(help="Tell Athena of the tables.", no_args_is_help=True, rich_markup_mode=None)


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="DuckDB SQL over sessions, challenges, …")],
    output: OutputOption = None,
    form: Annotated[str, typer.Option("--format", metavar="table|csv|json", help="Form of the result.")] = "table",
    config: ConfigOption = None,
) -> None:
    """Query the tables with SQL, each of them as a view of its name."""
    from liveness_etl.analysis.query import run_query

    settings = settings_of(config, output)
    run_query(
        settings.output,
        sql,
        form,
        attributes=settings.manifest.attributes,
        session_ttl_seconds=settings.sweep.session_ttl_seconds,
    )


def show(
    session_id: Annotated[str, typer.Argument(metavar="SESSION_ID", help="The session's id.")],
    output: OutputOption = None,
    form: Annotated[str, typer.Option("--format", metavar="table|json", help="For people, or all of it.")] = "table",
    config: ConfigOption = None,
) -> None:
    """Show one session, its children and all its landing rows. Exit code 3 if there is none (1: it cannot be read)."""
    from liveness_etl import show_command
    from liveness_etl.load.forget import session_id_of

    folded = session_id_of(session_id)
    if folded is None:
        raise UsageError("SESSION_ID must be a UUID, such as 7f3c0d1e-5a2b-4c8d-9e6f-0123456789ab")
    if form not in ("table", "json"):
        raise UsageError("--format must be table or json")
    raise typer.Exit(show_command.show(settings_of(config, output, quiet=True).output, folded, form))


def verify(
    output: OutputOption = None,
    manifest: Annotated[
        str | None, typer.Option("--manifest", metavar="MANIFEST", help="Every valid id of it must have its row.")
    ] = None,
    run_date: DateOption = None,
    sizes_only: Annotated[
        bool, typer.Option("--sizes-only", help="Compare the images' sizes, not their hashes: reads no image.")
    ] = False,
    form: Annotated[str, typer.Option("--format", metavar="table|csv|json", help="Form of the findings.")] = "table",
    config: ConfigOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Audit the output: landing, tables, images and records; exit code 3 where there is a defect. Writes nothing."""
    from liveness_etl import display, upkeep
    from liveness_etl.analysis.query import check_form
    from liveness_etl.job import Job

    check_form(form)
    settings = settings_of(config, output, quiet=quiet, verbose=verbose, log_format=log_format)
    if manifest is None and run_date is not None:
        raise UsageError("--date is the date of a manifest's run: give it with --manifest")
    job = None
    if manifest is not None:
        job = Job("verify", manifest, settings, settings.sources_or_default(), date_of("--date", run_date))
    verified = upkeep.verify(settings, job, hash_images=not sizes_only, on_partition=display.verified_observer(quiet))
    display.show_verified(verified, form)
    raise typer.Exit(verified.exit_code)


def report(
    output: OutputOption = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="YYYY-MM-DD", help="First day; default: 29 days with data.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="YYYY-MM-DD", help="Last day; default: the last.")] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the page to this file.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the same figures to this file.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="FILE", help="CSV or Parquet of session_id and label (bona_fide or attack)."),
    ] = None,
    config: ConfigOption = None,
    quiet: QuietOption = False,
) -> None:
    """Report on completeness, confidence and quality, as one self-contained page; a summary on standard output."""
    from liveness_etl.analysis.write_report import write_report
    from liveness_etl.job import report_options

    settings = settings_of(config, output, quiet=quiet)
    options = report_options(
        settings,
        first=date_of("--from", first),
        last=date_of("--to", last),
        labels=None if labels is None else str(labels),
    )
    for line in write_report(settings.output, options, html, json_file):
        typer.echo(line)


@catalog.command("ddl")
def catalog_ddl(
    output: OutputOption = None, database: DatabaseOption = "liveness", config: ConfigOption = None
) -> None:
    """Print Athena's DDL of the tables and views, statement by statement. Calls nothing."""
    from liveness_etl import catalog_command

    catalog_command.print_ddl(settings_of(config, output, quiet=True), database)


@catalog.command("sync")
def catalog_sync(
    output: OutputOption = None,
    database: DatabaseOption = "liveness",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what differs, and change nothing.")] = False,
    config: ConfigOption = None,
) -> None:
    """Make the tables and views in Glue, or change what differs; never drops a column. Prints what it changes."""
    from liveness_etl import catalog_command

    catalog_command.sync(settings_of(config, output, quiet=True), database, dry_run=dry_run)


def doctor(
    output: OutputOption = None,
    config: ConfigOption = None,
    region: RegionOption = None,
    endpoint_url: EndpointOption = None,
    allow_endpoint: AllowOption = None,
    form: Annotated[str, typer.Option("--format", metavar="table|json", help="For people, or for scripts.")] = "table",
) -> None:
    """Check all that a run needs, and say how to mend what is wrong; exit code 3 where a run would fail."""
    from liveness_etl import doctor_command
    from liveness_etl.doctor.examine import examine
    from liveness_etl.job import Job

    if form not in ("table", "json"):
        raise UsageError("--format must be table or json")
    settings = settings_of(config, output, allow_endpoint=allow_endpoint, quiet=True)
    sources = settings.sources_or_default(region, endpoint_url, None, tuple(allow_endpoint or ()))
    job = Job("doctor", "", settings, sources)
    raise typer.Exit(doctor_command.show_findings(list(examine(job, os.environ)), form))
