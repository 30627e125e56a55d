"""What several commands of the command line take, with the words of `--help`."""

from pathlib import Path
from typing import Annotated

import typer

ManifestArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="MANIFEST",
        help="File, glob or s3:// address with the session ids (.csv, .jsonl, .parquet, .txt; .gz, .zst); "
        "{date} in it is replaced by --date. Default: manifest.uri of the configuration.",
    ),
]
OutputOption = Annotated[str | None, typer.Option("--output", help="Folder or s3:// prefix of the tables.")]
DateOption = Annotated[
    str | None,
    typer.Option("--date", metavar="YYYY-MM-DD", help="The run's date: partition of ids without created_at."),
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file; see config/default.toml.")]
EndpointOption = Annotated[str | None, typer.Option("--endpoint-url", help="Rekognition endpoint, for tests.")]
AllowOption = Annotated[
    list[str] | None, typer.Option("--allow-endpoint", metavar="HOST", help="Allow an https endpoint outside AWS.")
]
RegionOption = Annotated[str | None, typer.Option("--region", help="AWS region of the sessions.")]
TpsOption = Annotated[float | None, typer.Option("--max-tps", help="Ceiling in calls a second.")]
AgainOption = Annotated[
    list[str] | None,
    typer.Option("--ask-again", metavar="CODE", help="Ask once more for ids with this outcome, though final."),
]
ShareOption = Annotated[
    float,
    typer.Option("--share", min=0.001, max=1, help="Of each source's pace, so that several runs can sweep it at once."),
]
FollowOption = Annotated[
    bool,
    typer.Option("--follow", help="sweep only: go on for ever, with a manifest that grows (a prefix or a glob)."),
]
SummaryOption = Annotated[Path | None, typer.Option("--summary", help="Write the run's record as JSON to this file.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress; errors and warnings only.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Log more (DEBUG; includes session ids).")]
LogFormatOption = Annotated[
    str | None, typer.Option("--log-format", metavar="text|json", help="Form of the log lines.")
]
DatabaseOption = Annotated[str, typer.Option("--database", metavar="NAME", help="Database in the Glue catalog.")]
