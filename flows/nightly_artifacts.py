"""What a flow run leaves in Prefect beside its state and its log: artifacts. Counts, never an id.

An artifact that cannot be saved costs a warning: the output is the truth, and the run itself is not held up by
Prefect's server.
"""

import contextvars
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import httpx
from nightly_figures import figures, progress_line, run_table
from prefect import get_run_logger
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectException

from liveness_etl.run_report import Progress, RunReport

SHOW_SECONDS = 5.0
END_SECONDS = 1.0
"""So long a sweep that is over waits for its last progress to be saved."""

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]


def save_figures(report: RunReport) -> None:
    """The artifacts `liveness-run` (Markdown) and `liveness-outcomes` (a table) of a run."""
    run = f"run {report.row['run_id']}"
    saved(lambda: create_markdown_artifact(figures(report), "liveness-run", f"Figures of {run}"))
    if rows := run_table(report):
        saved(lambda: create_table_artifact(rows, "liveness-outcomes", f"What the ids that {run} asked came to"))


def save_report_link(page: Path, lines: Sequence[str]) -> None:
    """The artifact `liveness-report`: a link to the page, and what sums it up."""
    saved(lambda: create_link_artifact(page.as_uri(), str(page), "liveness-report", "\n\n".join(lines)))


def saved(save: Callable[[], object]) -> None:
    """Saves an artifact, or warns that it could not be saved."""
    try:
        save()
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning(f"an artifact could not be saved ({type(error).__name__})")


@contextmanager
def progress_shown(logger: Logger) -> Iterator[Callable[[Progress], None]]:
    """Shows where sweeps stand, in the log and as a progress artifact for each source: every five seconds, and at the
    end. From a thread of its own: who reports progress must not wait for Prefect's server."""
    latest: dict[str, Progress] = {}
    over = threading.Event()
    shown = _Shown(logger)

    def show() -> None:
        while not over.wait(1.0):
            shown.show(latest, at_end=False)
        shown.show(latest, at_end=True)

    def note(progress: Progress) -> None:
        latest[progress.source] = progress

    context = contextvars.copy_context()  # tells Prefect which run it is
    showing = threading.Thread(target=lambda: context.run(show), name="progress", daemon=True)
    showing.start()
    try:
        yield note
    finally:
        over.set()
        showing.join(END_SECONDS)


class _Shown:
    """What has been shown of each source, and when."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._started = time.monotonic()
        self._shown: dict[str, tuple[float, int]] = {}
        self._artifacts: dict[str, UUID] = {}

    def show(self, latest: dict[str, Progress], *, at_end: bool) -> None:
        now = time.monotonic()
        for source, progress in list(latest.items()):
            shown_at, finished = self._shown.get(source, (self._started, -1))
            over = at_end or progress.finished == progress.to_ask
            if progress.finished != finished if over else now - shown_at >= SHOW_SECONDS:
                self._shown[source] = (now, progress.finished)
                line = progress_line(progress, progress.finished / (now - self._started))
                self._logger.info(line)
                saved(lambda: self._save(progress, line))  # noqa: B023 - called at once

    def _save(self, progress: Progress, line: str) -> None:
        percent = 100 * progress.finished / max(1, progress.to_ask)
        if (artifact := self._artifacts.get(progress.source)) is not None:
            update_progress_artifact(artifact, percent, line)
            return
        name = re.sub("[^a-z0-9]+", "-", progress.source.lower()).strip("-")  # all that a key may hold
        made = create_progress_artifact(percent, f"liveness-progress-{name}", line)
        self._artifacts[progress.source] = made  # type: ignore[assignment]  # no coroutine: this is no event loop
