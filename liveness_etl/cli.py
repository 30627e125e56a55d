"""The command line: parses, calls the pipeline, prints. Results go to standard output, all else to standard error.

Imports little, so that `--help` answers at once; what a command needs it imports itself.
"""

import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from liveness_etl import cli_reading, logs
from liveness_etl.cli_options import (
    AgainOption,
    AllowOption,
    ConfigOption,
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
    date_of,
    job_of,
    settings_of,
)
from liveness_etl.cli_runs import alarmed, drained, follow_shown, run_shown, write_summary
from liveness_etl.errors import LivenessError, UsageError
from liveness_etl.signals import signalled

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)

app = typer.Typer(
    help="Amazon Rekognition Face Liveness results, from a manifest of session ids to Parquet tables.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

app.add_typer(cli_reading.catalog, name="catalog")


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
    settings = settings_of(
        config, output, allow_endpoint=allow_endpoint, quiet=quiet, verbose=verbose, log_format=log_format
    )
    job = job_of(command, manifest, settings, run_date, endpoint_url, region, max_tps, share, ask_again, allow_endpoint)
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

    settings = settings_of(config, output, allow_endpoint=allow_endpoint, quiet=True)
    job = job_of("plan", manifest, settings, run_date, endpoint_url, region, max_tps, share, ask_again, allow_endpoint)
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

    settings = settings_of(config, output, quiet=quiet, verbose=verbose, log_format=log_format)
    start = date_of("--date", first)
    end = date_of("--to", last) or start
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

    settings = settings_of(config, output, quiet=quiet, verbose=verbose, log_format=log_format)
    sources = settings.sources_or_default(region)
    job = Job("import", import_command.name_of_all(files), settings, sources, date_of("--date", run_date))
    options = {} if quiet else {"progressed": import_command.answers_done()}
    logs.about(run_id=job.run_id)
    with drained() as stop, alarmed(job, stop):
        report = importing.import_answers(job, files, source=source, stop=stop, **options)
    import_command.show_imported(settings.output.uri or "", report)
    alarms.ended(job, report.row)
    write_summary(summary, report.row)
    raise typer.Exit(report.exit_code)


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
    settings = settings_of(config, output, quiet=quiet, verbose=verbose, log_format=log_format)
    if expired:
        forget_command.show_expired(upkeep.expire(settings))
        return
    if not pipeline.landed_partitions(settings, None, None):
        logs.say("Nothing has been landed there.")
    options = {} if quiet else {"progressed": forget_command.partitions_done()}
    forget_command.show_forgotten(upkeep.forget(settings, found, with_source_images=with_source_images, **options))


for command in (cli_reading.query, cli_reading.show, cli_reading.verify, cli_reading.report, cli_reading.doctor):
    app.command()(command)


@app.command("local-rekognition")
def local_rekognition(
    port: Annotated[int, typer.Option("--port", metavar="PORT", min=0, max=65535, help="0 takes a free one.")] = 8181,
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
    sessions: Annotated[int, typer.Option("--sessions", metavar="COUNT", min=1, help="How many.")] = 2000,
    output: Annotated[
        Path, typer.Option("--output", metavar="FOLDER", help="Folder for the manifest and the tables.")
    ] = Path("liveness-demo"),
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


def _say_error(error: LivenessError) -> None:
    logs.say(f"error: {error}", logging.ERROR)
