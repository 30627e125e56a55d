"""What several commands of the command line take, with the words of `--help`, and what that comes to."""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from liveness_etl import logs
from liveness_etl.errors import UsageError

if TYPE_CHECKING:
    from liveness_etl.job import Job
    from liveness_etl.settings import Settings

ManifestArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="MANIFEST",
        help="File, glob or s3:// address with the session ids (.csv, .jsonl, .parquet, .txt; .gz, .zst); "
        "{date} in it is replaced by --date. Default: manifest.uri of the configuration.",
    ),
]
OutputOption = Annotated[
    str | None, typer.Option("--output", metavar="OUTPUT", help="Folder or s3:// prefix of the tables.")
]
DateOption = Annotated[
    str | None,
    typer.Option("--date", metavar="YYYY-MM-DD", help="The run's date: partition of ids without created_at."),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="TOML file; see config/default.toml.")
]
EndpointOption = Annotated[
    str | None, typer.Option("--endpoint-url", metavar="URL", help="Rekognition endpoint, for tests.")
]
AllowOption = Annotated[
    list[str] | None, typer.Option("--allow-endpoint", metavar="HOST", help="Allow an https endpoint outside AWS.")
]
RegionOption = Annotated[str | None, typer.Option("--region", metavar="REGION", help="AWS region of the sessions.")]
TpsOption = Annotated[float | None, typer.Option("--max-tps", metavar="TPS", help="Ceiling in calls a second.")]
AgainOption = Annotated[
    list[str] | None,
    typer.Option("--ask-again", metavar="CODE", help="Ask once more for ids with this outcome, though final."),
]
ShareOption = Annotated[
    float,
    typer.Option(
        "--share",
        metavar="SHARE",
        min=0.001,
        max=1,
        help="Of each source's pace, so that several runs can sweep it at once.",
    ),
]
FollowOption = Annotated[
    bool,
    typer.Option("--follow", help="sweep only: go on for ever, with a manifest that grows (a prefix or a glob)."),
]
SummaryOption = Annotated[
    Path | None, typer.Option("--summary", metavar="FILE", help="Write the run's record as JSON to this file.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress; errors and warnings only.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Log more (DEBUG; includes session ids).")]
LogFormatOption = Annotated[
    str | None, typer.Option("--log-format", metavar="text|json", help="Form of the log lines.")
]
DatabaseOption = Annotated[str, typer.Option("--database", metavar="NAME", help="Database in the Glue catalog.")]


def settings_of(
    config: Path | None,
    output: str | None,
    *,
    allow_endpoint: list[str] | None = None,
    quiet: bool = False,
    verbose: bool = False,
    log_format: str | None = None,
) -> "Settings":
    """The configuration under what the command line says; logs go by it from now on. Raises UsageError."""
    from liveness_etl.settings import load_settings

    level = "DEBUG" if verbose else "WARNING" if quiet else None
    overrides = {"output.uri": output, "log.level": level, "log.format": log_format}
    settings = load_settings(config, overrides, allow_endpoints=tuple(allow_endpoint or ()))
    logs.start(settings.log.level, settings.log.format)
    return settings


def job_of(
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
    """What `run`, `sweep` and `plan` are to do. Raises UsageError."""
    from liveness_etl.job import Job

    manifest = manifest or settings.manifest.uri
    if manifest is None:
        raise UsageError("no manifest: name a file, a glob or an s3:// address, or set manifest.uri")
    return Job(
        command=command,
        manifest_uri=manifest,
        settings=settings,
        sources=settings.sources_or_default(region, endpoint_url, max_tps, tuple(allow_endpoint or ())),
        run_date=date_of("--date", run_date),
        share=share,
        ask_again=tuple(ask_again or ()),
    )


def date_of(option: str, text: str | None) -> date | None:
    """A date that was given with an option, if it was. Raises UsageError."""
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} must be a date such as 2026-01-31") from None
