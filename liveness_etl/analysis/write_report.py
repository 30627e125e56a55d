"""The command `report`: its files, and what it says on standard output."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from liveness_etl.analysis.figure import Report
from liveness_etl.analysis.page import charting_library, page
from liveness_etl.analysis.report import ReportOptions, make_report
from liveness_etl.errors import LivenessError, UsageError

__all__ = ["ReportOptions", "write_report"]


def write_report(output: Any, options: ReportOptions, html: Path | None, json_file: Path | None) -> Iterator[str]:
    """Make the report on `output` (the settings' [output]), write the files, and yield lines that sum it up.

    Raises LivenessError where a file cannot be written, UsageError where the output or an option is wrong.
    """
    if output.uri is None:
        raise UsageError("no output: give --output with a folder or an s3:// address")
    if options.first and options.last and options.first > options.last:
        raise UsageError("--from is later than --to")
    if html is not None:
        charting_library()  # what is missing is said before minutes of reading
    s3_options = {
        "endpoint_url": output.endpoint_url,
        "region": output.region,
        "profile": output.profile,
        "expected_bucket_owner": output.expected_bucket_owner,
    }
    report = make_report(output.uri, options, **s3_options)
    if html is not None:
        _write(html, page(report))
    if json_file is not None:
        _write(json_file, json.dumps(report.as_json(), indent=1, allow_nan=False) + "\n")
    yield from _summary(report)
    if html is None and json_file is None:
        yield "For the figures: --html FILE writes the page, --json FILE the same as data."
    for file in (html, json_file):
        if file is not None:
            yield f"Written: {file}"


def _summary(report: Report) -> Iterator[str]:
    yield report.headline.sentence
    for section in report.sections:
        if section.id in ("confidence", "drift"):
            yield section.notes[0]
    explorer = report.explorer
    if explorer and explorer["requested"]:
        place = min(
            range(len(explorer["thresholds"])),
            key=lambda index: abs(explorer["thresholds"][index] - explorer["default"]),
        )
        share = explorer["passed"][place] / explorer["requested"]
        yield f"At the threshold {explorer['thresholds'][place]:g}, {share:.1%} of the requested sessions pass."


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LivenessError(f"cannot write {file}: {error.strerror or error}") from None
