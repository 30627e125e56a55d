"""An id between its first call and its landing, and the row that it becomes."""

import time
from dataclasses import dataclass
from typing import Final

from liveness_etl.extract.ask import Ask, Origin, Row, answer_row, failure_row
from liveness_etl.extract.retry import CallFailed
from liveness_etl.transform.result import SessionResult

_NO_ANSWER: Final = CallFailed("TimeoutError", "no answer before the run was over")


@dataclass(eq=False)
class Pending:
    """What a sweep knows of an id that it asks for. `first_called` and `called` are of `time.monotonic`."""

    ask: Ask
    first_called: float
    failures: int = 0
    throttles: int = 0
    last_failure: CallFailed | None = None
    called: float | None = None
    given_up: bool = False
    answered: tuple[SessionResult, float] | None = None  # with fetched_at, while its images are being stored

    @property
    def calls(self) -> int:
        return self.failures + self.throttles

    def answer_row(self, origin: Origin, result: SessionResult, fetched_at: float, *, all_kept: bool) -> Row:
        """The row of an answer; `all_kept` where all of its images are."""
        return answer_row(origin, self.ask, result, all_kept=all_kept, fetched_at=fetched_at, attempts=self.calls + 1)

    def failure_row(self, origin: Origin, failure: CallFailed) -> Row:
        """The row of an id that is given up."""
        return failure_row(
            origin,
            self.ask,
            code=failure.code,
            message=failure.message,
            fetched_at=time.time(),
            attempts=max(1, self.calls),
        )

    def late_row(self, origin: Origin) -> Row:
        """What is known at the end of the time: an answer whose images still hang is an answer all the same."""
        if self.answered is not None:
            return self.answer_row(origin, *self.answered, all_kept=False)
        return self.failure_row(origin, self.last_failure or _NO_ANSWER)
