# ruff: noqa: E402 - the environment is set before Prefect is imported.
"""`python flows/nightly.py`: runs the flow here, with a temporary server of Prefect's own or that of PREFECT_API_URL.

Imported by nightly.py when that is run, before it imports Prefect, which reads its environment then.
"""

import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

for variable, value in {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # a fresh database takes longer than the usual 20
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the terminal gets the flow's own lines alone, see _connect
}.items():
    os.environ.setdefault(variable, value)  # quiet and offline, except where the user has chosen otherwise

import httpx
import typer
from nightly import nightly
from nightly_alarms import IncompleteRun
from nightly_signals import leave_at_once
from prefect.client.orchestration import get_client
from prefect.exceptions import ParameterTypeError

from liveness_etl import cli_options as options
from liveness_etl import display, logs
from liveness_etl.errors import LivenessError, UsageError
from liveness_etl.run_report import RunReport
from liveness_etl.settings import ENV_PREFIX
from liveness_etl.signals import SIGNALS


def main(
    manifest: options.ManifestArgument = None,
    output: options.OutputOption = None,
    date: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD|today|yesterday", help="Partition of ids without created_at.")
    ] = None,
    config: options.ConfigOption = None,
    endpoint_url: options.EndpointOption = None,
    allow_endpoint: options.AllowOption = None,
    region: options.RegionOption = None,
    max_tps: options.TpsOption = None,
    share: options.ShareOption = 1.0,
    ask_again: options.AgainOption = None,
    demo: Annotated[bool, typer.Option("--demo", help="Run against the built-in local Rekognition.")] = False,
    sessions: Annotated[int, typer.Option(min=1, help="With --demo: how many.")] = 2000,
    quiet: options.QuietOption = False,
) -> None:
    """Run the flow liveness-nightly here, with a temporary server of Prefect's own unless PREFECT_API_URL is set."""
    parameters: dict[str, Any] = {
        "manifest": manifest,
        "date": date,
        "config": config,
        "region": region,
        "endpoint_url": endpoint_url,
        "allow_endpoint": allow_endpoint or (),
        "max_tps": max_tps,
        "ask_again": ask_again or (),
    }
    if (form := logs.form_of((), os.environ)) == "json":
        logs.start("INFO", form)
    for number in SIGNALS:
        signal.signal(number, lambda *_: sys.exit(3))  # before and after the flow nothing is in flight
    try:
        if demo:
            if any(parameters.values()):
                raise UsageError("--demo goes with --sessions, --output and --quiet alone")
            code = _demo(sessions, Path(output or "liveness-demo"), quiet)
        else:
            parameters |= {"output": output, "share": share}
            nightly.validate_parameters(parameters)
            _connect(quiet)
            code = _report(parameters).exit_code
    except (LivenessError, ParameterTypeError) as error:
        logs.say(f"error: {error}", logging.ERROR)
        code = getattr(error, "exit_code", UsageError.exit_code)
    except httpx.HTTPError:
        # As where a signal went to it too. What was landed and recorded is right.
        logs.say("error: Prefect's server is gone, and does not know how the run ended; run it again", logging.ERROR)
        leave_at_once()  # else Prefect tries for minutes to send it the last events
    raise typer.Exit(code)


def _demo(sessions: int, folder: Path, quiet: bool) -> int:
    from liveness_etl.demo import demo_job

    for name in [name for name in os.environ if name.upper().startswith(ENV_PREFIX)]:
        del os.environ[name]  # it brings its own configuration
    _connect(quiet)  # first, since the sessions are of the moment
    with demo_job("run", sessions, folder) as job:
        (source,) = job.sources.values()
        report = _report(
            {
                "manifest": job.manifest_uri,
                "output": job.settings.output.uri,
                "region": source.region,
                "endpoint_url": source.endpoint_url,
                "max_tps": source.max_tps,
            }
        )
    display.show_demo(report, folder)
    return report.exit_code


def _report(parameters: dict[str, Any]) -> RunReport:
    ended: Any = nightly(**parameters, return_state=True)
    try:
        report: RunReport = ended.result()
    except IncompleteRun as error:  # which display.show_report has said
        report = error.report
    return report


def _connect(quiet: bool) -> None:
    """Show the flow's own log lines, and have a Prefect server that answers: its own, or that of PREFECT_API_URL."""
    logging.raiseExceptions = False  # log lines that do not reach Prefect's server are no news for the terminal
    handler = logging.StreamHandler()
    if logs.is_json():
        handler.setFormatter(logs.JsonLines())
    handler.addFilter(lambda line: line.module.startswith("nightly") and line.levelno >= (30 if quiet else 20))
    logging.getLogger("prefect").addHandler(handler)

    def start() -> None:
        # The server inherits this: Ctrl-C is meant for the run, and the server should live to hear how that ended.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        with suppress(RuntimeError):
            get_client(sync_client=True)

    starting = threading.Thread(target=start, daemon=True)
    starting.start()
    starting.join()
    try:
        with get_client(sync_client=True) as client:
            problem = client.api_healthcheck()
    except RuntimeError:
        raise LivenessError("Prefect's server did not start in time; try again, or set PREFECT_API_URL") from None
    if problem is not None:
        raise UsageError(f"Prefect's server at {client.api_url} does not answer; start it, or unset PREFECT_API_URL")


def run() -> None:
    """The command line of `python flows/nightly.py`; ends the process."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(no_args_is_help=True)(main)
    app()
