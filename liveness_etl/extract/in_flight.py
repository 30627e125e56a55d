"""How many calls of one source may be in flight: as many as help, and no more."""

import time
from typing import Final

MOST_IN_FLIGHT: Final = 512

_FEW: Final = 8
_SOME: Final = 32
_BUSY_SHARE: Final = 0.7  # of one core: above it, more threads would only wait for each other
_MEASURE_SECONDS: Final = 0.25


class InFlight:
    """Grows while more workers help, which they do not where they wait for the CPU (and Python's lock) already.

    Up to 32 workers the source's own use of it counts, so that a slow source gets its workers beside busy ones;
    beyond, that of the process. `most` fixes the number instead. Not for several threads at once.
    """

    def __init__(self, most: int | None) -> None:
        self._fixed = most is not None
        self._room = most or _FEW  # workers that may be started without a look at the CPU
        self._cpu_seconds = 0.0
        self._measured = (time.monotonic(), 0.0, time.process_time())

    def used(self, cpu_seconds: float) -> None:
        """A worker of the source used the CPU for so long."""
        self._cpu_seconds += cpu_seconds

    def may_grow(self, workers: int) -> bool:
        """Whether one more worker than these would help."""
        if workers < self._room:
            return True
        now, own, process = time.monotonic(), self._cpu_seconds, time.process_time()
        since, since_own, since_process = self._measured
        if self._fixed or workers >= MOST_IN_FLIGHT or now - since < _MEASURE_SECONDS:
            return False
        self._measured = (now, own, process)
        used = own - since_own if workers < _SOME else process - since_process
        if used >= _BUSY_SHARE * (now - since):
            return False
        self._room += self._room if self._room < _SOME else self._room // 8
        return True
