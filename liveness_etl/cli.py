"""The command line: parses, calls the pipeline, prints. Results go to standard output, all else to standard error.

Imports little, so that `--help` answers at once; what a command needs it imports itself.
"""

import json
import logging
import os
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from liveness_etl import logs
from liveness_etl.cli_options import (
    AgainOption,
    AllowOption,
    ConfigOption,
    DatabaseOption,
    DateOption,
    EndpointOption,
    FollowOption,
    LogFormatOption,
    ManifestArgument,
    OutputOption,
    QuietOption,
    RegionOption,
    ShareOption,
    SummaryOption,
    TpsOption,
    VerboseOption,
)
from liveness_etl.cli_runs import alarmed, drained, follow_shown, run_shown, write_summary
from liveness_etl.errors import LivenessError, UsageError
from liveness_etl.signals import signalled

if TYPE_CHECKING:
    from liveness_etl.job import Job
    from liveness_etl.settings import Settings

log = logging.getLogger(__name__)

app = typer.Typer(
    help="Amazon Rekognition Face Liveness results, from a manifest of session ids to Parquet tables.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

catalog = typer.Typer(help="Tell Athena of the tables.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(catalog, name="catalog")


def main() -> NoReturn:
    """Run the command line; whatever a user can cause ends in one sentence and the contract's exit code."""
    logs.start("INFO", logs.form_of(sys.argv, os.environ))  # now: what is wrong with the command line is a line too
    try:
        code = app(standalone_mode=False) or 0  # what typer.Exit was raised with
    except LivenessError as error:
        _say_error(error)
        code = error.exit_code
    except typer.Abort:
        code = 3
    except (BrokenPipeError, KeyboardInterrupt):
        code = 3
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "show"):  # click's own: wrong usage
            if logs.is_json():
                log.error("%s", error.format_message())  # type: ignore[attr-defined]
            else:
                error.show()
            code = int(error.exit_code)
        else:
            raise
    sys.stdout.flush()
    if signalled.is_set():
        os._exit(code)  # taking the interpreter down costs a second or two of the contract's ten
    sys.exit(code)


@app.command("run", help="Read the manifest, ask for what is not final yet, publish the tables, record the run.")
@app.command("sweep", help="Read the manifest and land answers, without publishing: for every-minute schedules.")
def run(
    context: typer.Context,
    manifest: ManifestArgument = None,
    output: OutputOption = None,
    run_date: DateOption = None,
    config: ConfigOption = None,
    endpoint_url: EndpointOption = None,
    allow_endpoint: AllowOption = None,
    region: RegionOption = None,
    max_tps: TpsOption = None,
    share: ShareOption = 1.0,
    ask_again: AgainOption = None,
    follow: FollowOption = False,
    summary: SummaryOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """`run` and `sweep`, told apart by the name they were called by."""
    command = context.command.name or "run"
    if follow and command != "sweep":
        raise UsageError("--follow is for the command sweep; run ends by publishing the tables")
    settings = _settings(config, output, allow_endpoint, quiet, verbose, log_format)
    job = _job(command, manifest, settings, run_date, endpoint_url, region, max_tps, share, ask_again, allow_endpoint)
    if follow:
        raise typer.Exit(follow_shown(job, quiet, summary))
    report = run_shown(job, quiet)
    write_summary(summary, report.row)
    raise typer.Exit(report.exit_code)


@app.command()
def plan(
    manifest: ManifestArgument = None,
    output: OutputOption = None,
    run_date: DateOption = None,
    config: ConfigOption = None,
    endpoint_url: EndpointOption = None,
    allow_endpoint: AllowOption = None,
    region: RegionOption = None,
    max_tps: TpsOption = None,
    share: ShareOption = 1.0,
    ask_again: AgainOption = None,
) -> None:
    """Say what a run would ask, how long it takes and what it comes too late for. Makes no Rekognition call."""
    from liveness_etl import display, run_plan

    settings = _settings(config, output, allow_endpoint, True, False, None)
    job = _job("plan", manifest, settings, run_date, endpoint_url, region, max_tps, share, ask_again, allow_endpoint)
    display.show_forecast(*run_plan.forecast(job), settings.sweep.session_ttl_seconds)


@app.command()
def publish(
    output: OutputOption = None,
    first: Annotated[str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="Only this partition.")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="YYYY-MM-DD", help="With --date: up to this one.")] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make tables again that are current.")] = False,
    config: ConfigOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Make the tables from landing: of all partitions, or of those given."""
    from liveness_etl import display, pipeline

    settings = _settings(config, output, None, quiet, verbose, log_format)
    start = _date("--date", first)
    end = _date("--to", last) or start
    partitions = pipeline.landed_partitions(settings, start, end)
    if not partitions:
        logs.say("Nothing has been landed there.")
    for dt in partitions:
        display.show_published(pipeline.publish_partition(settings, dt, rebuild=rebuild))


@app.command("import")
def import_answers(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Files, globs or s3:// addresses with answers of GetFaceLivenessSessionResults as boto3 or the AWS "
            "CLI give them (.jsonl, .ndjson, .json; .gz, .zst); - is standard input.",
        ),
    ],
    run_date: Annotated[
        str, typer.Option("--date", metavar="YYYY-MM-DD", help="Partition of answers without created_at.")
    ],
    output: OutputOption = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="NAME", help="Which of [sources] gave the answers that name none.")
    ] = None,
    config: ConfigOption = None,
    region: RegionOption = None,
    summary: SummaryOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Land answers that a backend has read already, as if they had been swept. Publish afterwards."""
    from liveness_etl import alarms, import_command, importing
    from liveness_etl.job import Job

    settings = _settings(config, output, None, quiet, verbose, log_format)
    sources = settings.sources_or_default(region)
    job = Job("import", import_command.name_of_all(files), settings, sources, _date("--date", run_date))
    options = {} if quiet else {"progressed": import_command.answers_done()}
    logs.about(run_id=job.run_id)
    with drained() as stop, alarmed(job, stop):
        report = importing.import_answers(job, files, source=source, stop=stop, **options)
    import_command.show_imported(settings.output.uri or "", report)
    alarms.ended(job, report.row)
    write_summary(summary, report.row)
    raise typer.Exit(report.exit_code)


@app.command()
def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="DuckDB SQL over sessions, challenges, …")],
    output: OutputOption = None,
    form: Annotated[str, typer.Option("--format", metavar="table|csv|json", help="Form of the result.")] = "table",
    config: ConfigOption = None,
) -> None:
    """Query the tables with SQL, each of them as a view of its name."""
    from liveness_etl.analysis.query import run_query

    settings = _settings(config, output, None, False, False, None)
    run_query(
        settings.output,
        sql,
        form,
        attributes=settings.manifest.attributes,
        session_ttl_seconds=settings.sweep.session_ttl_seconds,
    )


@app.command()
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
    raise typer.Exit(show_command.show(_settings(config, output, None, True, False, None).output, folded, form))


@app.command()
def forget(
    session_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SESSION_ID]...", help="Ids to erase; they stay in the shell's history."),
    ] = None,
    id_file: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="File with one id per line; - is standard input.")
    ] = None,
    output: OutputOption = None,
    with_source_images: Annotated[
        bool,
        typer.Option(
            "--with-source-images", help="Also the S3 objects that AWS wrote, in the buckets of images.source_buckets."
        ),
    ] = False,
    expired: Annotated[
        bool, typer.Option("--expired", help="Instead of ids: what is older than the configured retention_days.")
    ] = False,
    config: ConfigOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Erase sessions for good from landing, tables and stored images, and say what that does not reach."""
    from liveness_etl import forget_command, pipeline, upkeep

    found = forget_command.read_ids(session_ids or [], id_file)
    if expired and (found or with_source_images):
        raise UsageError("--expired erases by age: give it alone, or ids without it")
    if not expired and not found:
        raise UsageError("no session ids: give them as arguments or with --from FILE (or --expired)")
    settings = _settings(config, output, None, quiet, verbose, log_format)
    if expired:
        forget_command.show_expired(upkeep.expire(settings))
        return
    if not pipeline.landed_partitions(settings, None, None):
        logs.say("Nothing has been landed there.")
    options = {} if quiet else {"progressed": forget_command.partitions_done()}
    forget_command.show_forgotten(upkeep.forget(settings, found, with_source_images=with_source_images, **options))


@app.command()
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
    settings = _settings(config, output, None, quiet, verbose, log_format)
    if manifest is None and run_date is not None:
        raise UsageError("--date is the date of a manifest's run: give it with --manifest")
    job = None
    if manifest is not None:
        job = Job("verify", manifest, settings, settings.sources_or_default(), _date("--date", run_date))
    verified = upkeep.verify(settings, job, hash_images=not sizes_only, on_partition=display.verified_observer(quiet))
    display.show_verified(verified, form)
    raise typer.Exit(verified.exit_code)


@app.command()
def report(
    output: OutputOption = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="YYYY-MM-DD", help="First day; default: 29 days with data.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="YYYY-MM-DD", help="Last day; default: the last.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write the page to this file.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the same figures to this file.")] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="CSV or Parquet of session_id and label (bona_fide or attack).")
    ] = None,
    config: ConfigOption = None,
    quiet: QuietOption = False,
) -> None:
    """Report on completeness, confidence and quality, as one self-contained page; a summary on standard output."""
    from liveness_etl.analysis.write_report import write_report
    from liveness_etl.job import report_options

    settings = _settings(config, output, None, quiet, False, None)
    options = report_options(
        settings,
        first=_date("--from", first),
        last=_date("--to", last),
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

    catalog_command.print_ddl(_settings(config, output, None, True, False, None), database)


@catalog.command("sync")
def catalog_sync(
    output: OutputOption = None,
    database: DatabaseOption = "liveness",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what differs, and change nothing.")] = False,
    config: ConfigOption = None,
) -> None:
    """Make the tables and views in Glue, or change what differs; never drops a column. Prints what it changes."""
    from liveness_etl import catalog_command

    catalog_command.sync(_settings(config, output, None, True, False, None), database, dry_run=dry_run)


@app.command()
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
    settings = _settings(config, output, allow_endpoint, True, False, None)
    sources = settings.sources_or_default(region, endpoint_url, None, tuple(allow_endpoint or ()))
    job = Job("doctor", "", settings, sources)
    raise typer.Exit(doctor_command.show_findings(list(examine(job, os.environ)), form))


@app.command("local-rekognition")
def local_rekognition(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8181,
    sessions: Annotated[
        str | None, typer.Option("--config-json", metavar="JSON", help='Its settings, such as {"limit_tps": 25}.')
    ] = None,
) -> None:
    """Run the built-in stand-in for Rekognition alone, on loopback; it answers for any UUID."""
    from liveness_etl.local import LocalConfig, serve
    from liveness_etl.local.config import changes_from_json

    try:
        changes = {"answer_any": True} | changes_from_json(json.loads(sessions or "{}"))
        serve(LocalConfig(**changes), "127.0.0.1", port, lambda url: typer.echo(f"LocalRekognition answers at {url}"))
    except (ValueError, TypeError) as error:
        raise UsageError(f"--config-json: {error}") from None
    except OSError as error:
        raise UsageError(f"cannot listen on port {port}: {error.strerror or error}; try another --port") from None


@app.command()
def demo(
    sessions: Annotated[int, typer.Option("--sessions", min=1, help="How many.")] = 2000,
    output: Annotated[Path, typer.Option("--output", help="Folder for the manifest and the tables.")] = Path(
        "liveness-demo"
    ),
    quiet: QuietOption = False,
) -> None:
    """Do the whole job against the built-in local Rekognition, and say what to look at next."""
    from liveness_etl import display
    from liveness_etl.demo import demo_job

    logs.start("WARNING", logs.form_of((), os.environ))
    with demo_job("run", sessions, output) as job:
        report = run_shown(job, quiet)
    display.show_demo(report, output)
    raise typer.Exit(report.exit_code)


def _settings(
    config: Path | None,
    output: str | None,
    allow_endpoint: list[str] | None,
    quiet: bool,
    verbose: bool,
    log_format: str | None,
) -> "Settings":
    from liveness_etl.settings import load_settings

    level = "DEBUG" if verbose else "WARNING" if quiet else None
    overrides = {"output.uri": output, "log.level": level, "log.format": log_format}
    settings = load_settings(config, overrides, allow_endpoints=tuple(allow_endpoint or ()))
    logs.start(settings.log.level, settings.log.format)
    return settings


def _job(
    command: str,
    manifest: str | None,
    settings: "Settings",
    run_date: str | None,
    endpoint_url: str | None,
    region: str | None,
    max_tps: float | None,
    share: float,
    ask_again: list[str] | None,
    allow_endpoint: list[str] | None,
) -> "Job":
    from liveness_etl.job import Job

    manifest = manifest or settings.manifest.uri
    if manifest is None:
        raise UsageError("no manifest: name a file, a glob or an s3:// address, or set manifest.uri")
    return Job(
        command=command,
        manifest_uri=manifest,
        settings=settings,
        sources=settings.sources_or_default(region, endpoint_url, max_tps, tuple(allow_endpoint or ())),
        run_date=_date("--date", run_date),
        share=share,
        ask_again=tuple(ask_again or ()),
    )


def _date(option: str, text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} must be a date such as 2026-01-31") from None


def _say_error(error: LivenessError) -> None:
    logs.say(f"error: {error}", logging.ERROR)
