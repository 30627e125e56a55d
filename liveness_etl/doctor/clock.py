"""This machine's clock, held against the Date that services put on their answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from liveness_etl.doctor.finding import Finding

_WARN_SECONDS: Final = 10.0  # a Date has whole seconds, and the answer took some time
_FAIL_SECONDS: Final = 300.0  # AWS refuses a request that was signed longer ago, or later
_CHECK: Final = "clock"
_MEND: Final = "let NTP (chrony, systemd-timesyncd) set this machine's clock"


@dataclass(frozen=True)
class HeardDate:
    """A service's Date, and what this machine's clock said when it came."""

    date: str
    at: datetime

    @property
    def ahead_seconds(self) -> float | None:
        """How far this machine's clock is ahead; None for a Date that cannot be read."""
        try:
            told = parsedate_to_datetime(self.date)
        except ValueError:
            return None
        return (self.at - (told if told.tzinfo else told.replace(tzinfo=UTC))).total_seconds()


def clock_finding(heard: Sequence[HeardDate]) -> Finding:
    """The worst of what was heard. A second is nothing: a Date is cut to whole ones."""
    ahead = [seconds for one in heard if (seconds := one.ahead_seconds) is not None]
    if not ahead:
        return Finding("ok", _CHECK, "not compared: no answer of a source told the time")
    worst = max(ahead, key=abs)
    if abs(worst) < _WARN_SECONDS:
        return Finding("ok", _CHECK, f"within {_WARN_SECONDS:g} s of the service's")
    what = f"{abs(worst):,.0f} s {'ahead of' if worst > 0 else 'behind'} the service's"
    if abs(worst) < _FAIL_SECONDS:
        return Finding("warn", _CHECK, f"{what}: sessions are taken for older or younger than they are", _MEND)
    return Finding("fail", _CHECK, f"{what}: AWS refuses requests that are signed more than 5 minutes off", _MEND)
