"""When a source is hopeless: decided from its first calls, so that a night is not spent on refusals."""

from dataclasses import dataclass
from typing import Final

from liveness_etl.extract.retry import CallFailed
from liveness_etl.transform.normalize import NO_SUCH_SESSION

FIRST: Final = 20
"""Calls after which a source that only refuses is stopped (contract, 'Pace')."""

_NO_CONNECTION: Final = ("ConnectionError", "TimeoutError")


@dataclass
class Breaker:
    """Watches one source. `answered` and `failed` return the reason to stop it, or None."""

    source: str
    region: str
    _denied: int = 0
    _unreachable: int = 0
    _unknown: int = 0
    _unknown_alive: bool = False
    _proven: bool = False

    def answered(self) -> None:
        """An answer came: the source works."""
        self._proven = True

    def failed(self, failure: CallFailed, *, alive: bool) -> str | None:
        """A call failed; `alive`: the session could not have expired yet."""
        where = f"source {self.source} ({self.region})"
        if failure.credentials:
            return f"{where}: AWS refuses the credentials ({failure.code}); renew them and run again"
        if self._proven or failure.throttled:
            return None
        if failure.denied:
            self._denied += 1
            if self._denied == FIRST:
                return (
                    f"{where}: its first {FIRST} calls were all denied ({failure.code}); "
                    "allow rekognition:GetFaceLivenessSessionResults and run again"
                )
        elif failure.code in NO_SUCH_SESSION:
            self._unknown += 1
            self._unknown_alive = self._unknown_alive or alive
            if self._unknown == FIRST and self._unknown_alive:
                return (
                    f"{where}: it knows none of the first {FIRST} sessions, live ones among them; "
                    "check the region and account of this source, and run again"
                )
        elif failure.code in _NO_CONNECTION:
            self._unreachable += 1
            if self._unreachable == FIRST:
                return (
                    f"{where}: no connection in its first {FIRST} calls; "
                    "check the endpoint, the region and the network, and run again"
                )
        else:
            self._proven = True  # an answer of another kind: the source can be reached
        return None
