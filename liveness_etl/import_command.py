"""What the command `import` prints: how far it is, and what has landed."""

import logging
import time
from collections.abc import Callable, Sequence

from liveness_etl.importing import ImportCounts, ImportReport
from liveness_etl.logs import say

_LINE_SECONDS = 5.0


def name_of_all(files: Sequence[str]) -> str:
    """One name for the record of a run that read several files."""
    return files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1:,} more"


def answers_done() -> Callable[[ImportCounts], None]:
    """Says on standard error every few seconds how far it is."""
    last = time.monotonic()

    def progressed(counts: ImportCounts) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_SECONDS:
            last = time.monotonic()
            say(f"import: {counts.accepted:,} answers, {counts.rejected:,} rejected")

    return progressed


def show_imported(output: str, report: ImportReport) -> None:
    """The import's figures, what was wrong with which lines, and what to do next, on standard error."""
    row, counts = report.row, report.counts
    seconds = (row["finished_at"] - row["started_at"]).total_seconds()
    say(
        f"import {row['run_id']}: {row['lines']:,} lines, {row['landed']:,} landed, {row['rejected']:,} rejected, "
        f"{row['forgotten']:,} of erased sessions; {seconds:.1f} s"
    )
    if row["by_outcome"]:
        say("outcomes: " + ", ".join(f"{name} {count:,}" for name, count in row["by_outcome"]))
    for reason, count in counts.reasons.most_common():
        say(f"rejected: {count:,} (the first: {counts.first[reason]}): {reason}")
    if counts.unstored:
        say(
            f"incomplete: {counts.unstored:,} answers without all of their images; import the same files again",
            logging.WARNING,
        )
    if not row["completed"]:
        say("stopped: import the same files again; what has landed twice counts once", logging.WARNING)
    if row["landed"]:
        say(f"the tables do not have them yet: liveness-etl publish --output {output}")
