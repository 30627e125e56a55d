"""What the command `doctor` prints: all findings on standard output, how many of each on standard error."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from liveness_etl.doctor.finding import Finding

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def show_findings(findings: Sequence[Finding], form: str) -> int:
    """Print them; returns the exit code, 3 if a run could not do its work."""
    if form == "json":
        print(json.dumps([asdict(found) for found in findings], indent=2, ensure_ascii=False))
    else:
        _show_table(findings)
    counts = Counter(found.status for found in findings)
    print(f"ok: {counts['ok']}, warnings: {counts['warn']}, failed: {counts['fail']}", file=sys.stderr)
    return 3 if counts["fail"] else 0


def _show_table(findings: Sequence[Finding]) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(max_width=22)
    table.add_column(overflow="fold")
    for found in findings:
        table.add_row(Text(found.status, _STYLES[found.status]), Text(found.check), Text(_visible(found.what)))
        if found.mend:
            table.add_row("", "", Text(f"mend: {_visible(found.mend)}"))
    Console(highlight=False).print(table)


def _visible(text: str) -> str:
    """What others said, on a terminal that it must not steer."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
