"""From what a person fills into Prefect's form to a job: a configuration by its name, a manifest where it may be.

Roles, endpoints and addresses come from the configuration alone, which whoever can start a run cannot write. No Prefect
here.
"""

import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

from liveness_etl.errors import LeaseHeld, UsageError
from liveness_etl.job import Job, open_output
from liveness_etl.load.lease import read_holders
from liveness_etl.run_report import RunReport
from liveness_etl.settings import Settings, load_settings

CONFIG_FOLDER_VARIABLE = "LIVENESS_ETL_CONFIG_FOLDER"

CONFIG_NAME = "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
"""A name that can be no path."""

MANIFEST = r"^(?!.*(^|/)\.\.(/|$))[^\u0000-\u001f]{1,1024}$"
"""One line without `..`. Where it may be is the configuration's to say: `allowed_manifest`."""

DATE = "^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"
"""For Prefect's API, which does not look at the schema's format."""

WAIT_SECONDS = 12 * 3600.0
LOOK_SECONDS = 2.0


def config_folder() -> Path:
    """Where the configurations are: the environment says, else it is `config/` of this checkout."""
    return Path(os.environ.get(CONFIG_FOLDER_VARIABLE) or Path(__file__).parents[1] / "config")


def named_settings(name: str) -> Settings:
    """The configuration NAME.toml of the folder. Raises UsageError."""
    file = config_folder() / f"{name}.toml"
    if not re.fullmatch(CONFIG_NAME, name) or not file.is_file():
        there = ", ".join(sorted(found.stem for found in config_folder().glob("*.toml"))) or "none"
        raise UsageError(f"there is no such configuration in {config_folder()} (there: {there}): make a file NAME.toml")
    return load_settings(file, {})


def allowed_manifest(manifest: str | None, settings: Settings) -> str:
    """The manifest to read: `manifest.uri`, or another one in the same place. Raises UsageError.

    The same place is below what of manifest.uri stands before its first part with `{date}` or a wildcard, or before
    its last part.
    """
    configured = settings.manifest.uri
    if configured is None:
        raise UsageError("the configuration has no manifest: set manifest.uri, and runs may read what is beside it")
    if manifest is None or manifest == configured:
        return configured
    on_s3 = configured.startswith("s3://")
    fixed = re.split(r"\{date\}" if on_s3 else r"\{date\}|[*?\[]", configured)[0]
    place = fixed[: fixed.rfind("/") + 1]
    if not re.fullmatch(MANIFEST, manifest):
        allowed = False
    elif on_s3:
        allowed = place.count("/") > 2 and manifest.startswith(place)
    else:
        allowed = "://" not in manifest and Path(manifest).resolve().is_relative_to(Path(place).resolve())
    if not allowed:
        raise UsageError(f"the manifest may only be below {place or 'the working directory'}, where manifest.uri is")
    return manifest


def configured_job(command: str, config: str, manifest: str | None, run_date: date, flow_run_id: str | None) -> Job:
    """The job that a deployment's parameters mean. Raises UsageError."""
    settings = named_settings(config)
    return Job(
        command=command,
        manifest_uri=allowed_manifest(manifest, settings),
        settings=settings,
        sources=settings.sources_or_default(),
        run_date=run_date,
        flow_run_id=flow_run_id,
    )


def run_when_free(
    run: Callable[[Job, threading.Event], RunReport], job: Job, stop: threading.Event, say: Callable[[str], None]
) -> RunReport:
    """Let `run` do the job. While another run sweeps one of its sources wait for that, up to half a day.

    Raises LivenessError.
    """
    give_up_at = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return run(replace(job, started_at=datetime.now(UTC)), stop)
        except LeaseHeld as held:
            say(f"{held}; this run waits for it")
            while any(read_holders(open_output(job.settings)).values()):
                if time.monotonic() >= give_up_at or stop.wait(LOOK_SECONDS):
                    raise
