"""The confidence and quality report: reads the tables once, and puts the sections together."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np

from liveness_etl.analysis.completeness import completeness, headline
from liveness_etl.analysis.confidence import confidence, total_cuts
from liveness_etl.analysis.detection import detection
from liveness_etl.analysis.drift import BASELINE_DAYS, drift
from liveness_etl.analysis.facts import BINS, Facts, open_facts
from liveness_etl.analysis.figure import LEGEND, Headline, Report
from liveness_etl.analysis.images import boxes, feedback
from liveness_etl.analysis.tally import scored_bins, tally_sessions
from liveness_etl.analysis.thresholds import thresholds

DEFAULT_DAYS: Final = 29

TITLE: Final = "Face Liveness: completeness, confidence and quality"


@dataclass(frozen=True)
class ReportOptions:
    """What a report is to cover; days are UTC partitions, `threshold` is a confidence from 0 to 100."""

    first: date | None = None
    last: date | None = None
    labels: str | None = None
    threshold: float = 80
    subject_attribute: str | None = None
    min_cell: int = 10
    timezone: str = "UTC"
    ttl_seconds: float = 180
    memory_limit: str = "1GB"

    def shown(self) -> Mapping[str, Any]:
        """Those that a reader needs to read the figures."""
        return {
            "threshold": self.threshold,
            "min_cell": self.min_cell,
            "timezone": self.timezone,
            "subject_attribute": self.subject_attribute,
            "session_ttl_seconds": self.ttl_seconds,
        }


def make_report(output: str, options: ReportOptions, now: datetime | None = None, **s3_options: Any) -> Report:
    """The report on an output's tables. Raises StoreError, or UsageError for an unusable labels file or output."""
    zone = ZoneInfo(options.timezone)
    made_at = (now or datetime.now(UTC)).astimezone(zone).isoformat(timespec="seconds")
    with open_facts(
        output,
        options.first,
        options.last,
        default_days=DEFAULT_DAYS,
        days_before=BASELINE_DAYS,
        ttl_seconds=options.ttl_seconds,
        subject_attribute=options.subject_attribute,
        memory_limit=options.memory_limit,
        **s3_options,
    ) as facts:
        if facts is None:
            words = (
                "There are no sessions in these tables yet"
                if options.first is None and options.last is None
                else ("There are no sessions in these days")
            )
            nothing = Headline("empty", f"{words}: publish them with run or publish, or choose other days.")
            return Report(TITLE, made_at, None, None, options.shown(), nothing, [], [], None)
        return _filled(facts, options, zone, made_at)


def _filled(facts: Facts, options: ReportOptions, zone: ZoneInfo, made_at: str) -> Report:
    tally = tally_sessions(facts, options.min_cell)
    bins = sum(scored_bins(facts, tally).values(), start=np.zeros(BINS, np.int64))
    cuts = total_cuts(bins, options.threshold, options.min_cell)
    explored, explorer = thresholds(facts, tally, bins, cuts, options.threshold)
    sections = [
        completeness(facts, tally, zone, options.ttl_seconds),
        confidence(facts, tally, bins, cuts),
        explored,
        drift(facts, tally),
        feedback(facts, tally, cuts),
        boxes(facts, tally),
    ]
    if options.labels is not None:
        sections.insert(3, detection(facts, options.labels, options.threshold, options.min_cell))
    notes = [
        f"Sessions of the days {facts.first} to {facts.last} (UTC)"
        + ("." if options.first else f": the last {DEFAULT_DAYS} days with data; --from and --to choose others."),
        LEGEND.format(min_cell=options.min_cell),
        f"Times are {options.timezone}.",
    ]
    return Report(
        TITLE,
        made_at,
        facts.first.isoformat(),
        facts.last.isoformat(),
        options.shown(),
        headline(facts, tally, options.min_cell),
        notes,
        sections,
        explorer,
    )
