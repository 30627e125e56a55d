"""The fields of some lines, checked: ids to ask on one side, rejects with their reason on the other."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from liveness_etl.extract.manifest_lines import Lines, ManifestOptions
from liveness_etl.extract.manifest_time import created_at_milliseconds

IDS = pa.schema(
    [
        pa.field("session_id", pa.string(), nullable=False),
        pa.field("created_at", pa.timestamp("ms", "UTC")),
        pa.field("source", pa.string(), nullable=False),
        pa.field("dt", pa.date32(), nullable=False),
        pa.field("line_number", pa.int64(), nullable=False),
        pa.field("attributes", pa.map_(pa.string(), pa.string())),
    ]
)
REJECTS = pa.schema(
    [
        pa.field("manifest_uri", pa.string(), nullable=False),
        pa.field("line_number", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)

_SESSION_ID = "^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
# Face Liveness became generally available in April 2023.
_EARLIEST = datetime(2023, 1, 1, tzinfo=UTC)
_AHEAD = timedelta(days=1)


@dataclass(frozen=True)
class Rules:
    """What a line is held against: the run's date and sources, and the time it is."""

    run_date: date | None
    sources: tuple[str, ...]
    default_source: str | None
    now: datetime


def check_lines(
    lines: Lines, uri: str, options: ManifestOptions, rules: Rules
) -> tuple[pa.RecordBatch, pa.RecordBatch, bool]:
    """(ids as `IDS`, rejects as `REJECTS`, whether any line has a known source), both by line number."""
    count = len(lines.numbers)
    nothing = pa.nulls(count, pa.string())
    session_id = _trimmed(lines.fields.get(options.session_id_column, nothing))
    folded = pc.ascii_lower(session_id)
    source = _trimmed(lines.fields.get(options.source_column, nothing))
    if rules.default_source is not None:
        source = pc.fill_null(source, rules.default_source)
    milliseconds, no_timestamp = created_at_milliseconds(lines.fields.get(options.created_at_column, nothing))
    created_at = _plausible(milliseconds, rules.now)
    dt = created_at.cast(pa.date32())
    if rules.run_date is not None:
        dt = pc.fill_null(dt, pa.scalar(rules.run_date, pa.date32()))

    known = pc.is_in(source, value_set=pa.array(rules.sources, pa.string()))
    # The first that applies is the reason.
    problems = [
        (pc.is_null(session_id), "has no session id"),
        (pc.invert(pc.match_substring_regex(folded, _SESSION_ID)), "session id is not a UUID"),
        (pc.is_null(source), "has no source, and [sources] has several"),
        (pc.invert(known), "source is not one of [sources]"),
        (no_timestamp, "created_at is not a timestamp"),
        (pc.is_null(dt), "has no usable created_at, and the run has no date"),
    ]
    ids = pa.RecordBatch.from_arrays(
        [
            folded,
            created_at,
            source,
            dt,
            lines.numbers,
            _attributes(lines, options),
        ],
        schema=IDS,
    )
    rejected = list(lines.malformed)
    bad = pa.repeat(False, count)
    reasons = nothing
    for problem, reason in reversed(problems):
        if pc.any(problem).as_py():
            problem = pc.fill_null(problem, False)
            bad = pc.or_(bad, problem)
            reasons = pc.if_else(problem, reason, reasons)
    if pc.any(bad).as_py():
        rejected += zip(lines.numbers.filter(bad).to_pylist(), reasons.filter(bad).to_pylist(), strict=True)
        rejected.sort()
        ids = ids.filter(pc.invert(bad))
    rejects = pa.RecordBatch.from_arrays(
        [
            pa.repeat(uri, len(rejected)),
            pa.array([number for number, _ in rejected], pa.int64()),
            pa.array([reason for _, reason in rejected], pa.string()),
        ],
        schema=REJECTS,
    )
    return ids, rejects, pc.any(known).as_py() is True


def _trimmed(values: pa.Array) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(values)
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed)


def is_plausible(milliseconds: int, now: datetime) -> bool:
    """Whether anything of a session can have happened then (milliseconds since 1970)."""
    earliest, latest = _bounds(now)
    return earliest <= milliseconds <= latest


def _bounds(now: datetime) -> tuple[int, int]:
    return int(_EARLIEST.timestamp() * 1000), int((now + _AHEAD).timestamp() * 1000)


def _plausible(milliseconds: pa.Array, now: datetime) -> pa.Array:
    earliest, latest = _bounds(now)
    plausible = pc.and_(pc.greater_equal(milliseconds, earliest), pc.less_equal(milliseconds, latest))
    return pc.if_else(plausible, milliseconds, None).cast(pa.timestamp("ms", "UTC"))


def _attributes(lines: Lines, options: ManifestOptions) -> pa.Array:
    """One map per line, with the attributes that it has; NULL where none are configured."""
    count = len(lines.numbers)
    kind = IDS.field("attributes").type
    if not options.attributes:
        return pa.nulls(count, kind)
    names = [name for name in dict.fromkeys(options.attributes) if name in lines.fields]
    if not names or not count:
        return pa.array([[]] * count, kind)
    columns = [lines.fields[name] for name in names]
    # Line by line: which columns have a value there.
    present = np.stack([column.is_valid().to_numpy(zero_copy_only=False) for column in columns], axis=1)
    line, column = np.nonzero(present)
    offsets = np.concatenate(([0], present.sum(axis=1).cumsum()))
    values = pa.concat_arrays(columns).take(pa.array(column * count + line))
    return pa.MapArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(names, pa.string()).take(pa.array(column)), values
    )
