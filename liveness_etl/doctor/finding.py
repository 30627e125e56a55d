"""What an examination finds."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. What is not `ok` says how to mend it; `fail` is what a run could not do without."""

    status: Literal["ok", "warn", "fail"]
    check: str
    what: str
    mend: str = ""


def failed(check: str, error: Exception, mend: str) -> Finding:
    """An error as a finding; its own advice, after a semicolon (or "found:"), comes before `mend`."""
    what, _, advice = str(error).replace(" found: ", " found; ").partition("; ")
    return Finding("fail", check, what, advice or mend)
