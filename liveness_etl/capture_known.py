"""What a sweep of a growing manifest knows from one round to the next."""

import logging
import math
import time
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from liveness_etl.extract.governor import Governor
from liveness_etl.extract.growing import GrowingFile, Listing, Sorted, Version, sort_files
from liveness_etl.extract.manifest_files import Inputs
from liveness_etl.load.manifest_memory import ManifestMemory

log = logging.getLogger(__name__)

_FIRST_REST_SECONDS: Final = 2.0
_LONGEST_REST_SECONDS: Final = 60.0


@dataclass
class Known:
    """What a process knows from one round to the next. `handed` are objects whose ids were all handed to sweeps, and
    whose sessions have expired; `broken` objects cannot be read, each with a sentence."""

    memory: ManifestMemory
    inputs: Inputs | None
    files: tuple[GrowingFile, ...] = ()
    listed_at: float = -math.inf
    first_day: date = date.min
    handed: set[Version] = field(default_factory=set)
    broken: dict[Version, str] = field(default_factory=dict)
    rests: dict[str, tuple[float, float]] = field(default_factory=dict)
    governors: dict[tuple[str, float], Governor] = field(default_factory=dict)

    def take(self, listing: Listing, first_day: date) -> None:
        """What was listed; objects before `first_day` are left alone."""
        there = {each.version for each in listing.files}
        for problem in listing.problems:
            if problem not in self.broken.values():
                log.error("%s", problem)
        self.files, self.first_day = listing.files, first_day
        self.handed &= there
        self.broken = {version: problem for version, problem in self.broken.items() if version in there}
        self.broken |= {problem.encode(): problem for problem in listing.problems}

    def sorted(self, ttl_seconds: float) -> Sorted:
        """The objects that are not done, as they were listed last."""
        known = self.memory.done | self.handed | self.broken.keys()
        return sort_files(self.files, known, now=time.time(), ttl_seconds=ttl_seconds, first_day=self.first_day)

    def is_resting(self, source: str) -> bool:
        """Whether a source that failed is left alone for now."""
        return self.rests.get(source, (0.0, 0.0))[0] > time.monotonic()

    def rest(self, source: str, *, for_ever: bool) -> float:
        """Leave a source alone: twice as long as the last time, up to a minute; returns the seconds."""
        before = self.rests.get(source, (0.0, _FIRST_REST_SECONDS / 2))[1]
        seconds = math.inf if for_ever else min(before * 2, _LONGEST_REST_SECONDS)
        self.rests[source] = (time.monotonic() + seconds, seconds)
        return seconds
