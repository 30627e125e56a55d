"""When a session was created, in every spelling that a manifest may use.

A column of spellings becomes a column of milliseconds since 1970 (UTC). Whole columns in one usual spelling
are read by Arrow's own casts; anything else by `parse_created_at`, which defines what is a timestamp.
"""

import math
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

# Seconds reach this in the year 5138 and milliseconds passed it in 1973: it tells them apart.
_FIRST_MILLISECONDS = 10**11
_FARTHEST = Decimal(2**62)

# PostgreSQL, Athena and BigQuery write "2024-05-01 10:20:30 UTC": a space for the T, and one before the zone.
_ISO = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ](?P<time>[0-9]{2}(?::[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?)?)"
    r"(?: ?(?P<zone>[Zz]|UTC|[+-][0-9]{2}(?::?[0-9]{2})?))?)?"
)
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{0,30})?(?:[eE][+-]?[0-9]{1,3})?")
_DIGITS = "^[0-9]{1,18}$"


def parse_created_at(text: str) -> int | None:
    """Milliseconds since 1970 (rounded down) of one spelling, or None if it is no timestamp.

    ISO 8601 with Z, an offset, or none (UTC), a space or a T, down to nanoseconds, or the date alone; or
    epoch seconds or milliseconds, whole or decimal. A number is always an epoch: 20240501 is a day in 1970.
    """
    if _NUMBER.fullmatch(text):
        number = Decimal(text)
        if abs(number) < _FIRST_MILLISECONDS:
            number *= 1000
        return math.floor(max(-_FARTHEST, min(number, _FARTHEST)))
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    zone = match["zone"] or "Z"
    try:
        moment = datetime.fromisoformat(
            f"{match['date']}T{match['time'] or '00'}{'Z' if zone in ('z', 'UTC') else zone}"
        )
    except ValueError:
        return None
    return (moment - _EPOCH) // _MILLISECOND


def created_at_milliseconds(values: pa.Array) -> tuple[pa.Array, pa.Array]:
    """(milliseconds since 1970 as int64, which values are no timestamp as bool), both as long as `values`.

    NULL, NaN and blank text give NULL. Takes text, whole numbers, floats, decimals, dates and timestamps
    (those without a zone are UTC) of any width. Raises TypeError for any other Arrow type.
    """
    kind = values.type
    if pa.types.is_timestamp(kind):
        return _known(_from_unit(values.cast(pa.int64()), kind.unit))
    if pa.types.is_date32(kind):
        return _known(pc.multiply(values.cast(pa.int32()).cast(pa.int64()), 86_400_000))
    if pa.types.is_date64(kind):
        return _known(values.cast(pa.int64()))
    if pa.types.is_signed_integer(kind) or kind in (pa.uint8(), pa.uint16(), pa.uint32()):
        return _known(_from_epoch(values.cast(pa.int64())))
    if pa.types.is_floating(kind):
        return _from_floats(values.cast(pa.float64()))
    if pa.types.is_uint64(kind) or pa.types.is_decimal(kind):
        return _from_text(values.cast(pa.string()))
    if pa.types.is_string(kind):
        return _from_text(values)
    if pa.types.is_null(kind):
        return _known(values.cast(pa.int64()))
    raise TypeError(f"{kind} is no type for a timestamp")


def _known(milliseconds: pa.Array) -> tuple[pa.Array, pa.Array]:
    return milliseconds, pa.repeat(False, len(milliseconds))


def _from_epoch(numbers: pa.Array) -> pa.Array:
    # A lowest int64 has no absolute value, hence two comparisons.
    seconds = pc.and_(pc.less(numbers, _FIRST_MILLISECONDS), pc.greater(numbers, -_FIRST_MILLISECONDS))
    return pc.if_else(seconds, pc.multiply(numbers, 1000), numbers)


def _from_unit(numbers: pa.Array, unit: str) -> pa.Array:
    if unit == "s":
        # Kept from overflowing into a plausible time.
        return pc.multiply(pc.max_element_wise(pc.min_element_wise(numbers, 10**15), -(10**15)), 1000)
    return pc.divide(numbers, {"ms": 1, "us": 1000, "ns": 1_000_000}[unit])


def _from_floats(values: pa.Array) -> tuple[pa.Array, pa.Array]:
    # pandas turns whole numbers into floats, and missing ones into NaN, as soon as one of them is missing.
    numbers = pc.if_else(pc.is_nan(values), None, values)
    try:
        return _known(_from_epoch(numbers.cast(pa.int64())))
    except pa.ArrowInvalid:
        return _one_by_one([None if number is None else repr(number) for number in numbers.to_pylist()])


def _from_text(values: pa.Array) -> tuple[pa.Array, pa.Array]:
    trimmed = pc.utf8_trim_whitespace(values)
    texts = pc.if_else(pc.equal(trimmed, ""), None, trimmed)
    for usual in (pa.timestamp("us", "UTC"), pa.timestamp("us")):
        try:
            # A cast spends as long on each value that fails as on a hundred others: a few go first.
            texts[:64].cast(usual)
            microseconds = texts.cast(usual).cast(pa.int64())
        except pa.ArrowInvalid:
            continue
        # Before 1970 the two ways differ: Arrow knows a year 0, and divides towards zero.
        earliest = pc.min(microseconds).as_py()
        if earliest is None or earliest >= 0:
            return _known(pc.divide(microseconds, 1000))
    if pc.all(pc.match_substring_regex(texts, _DIGITS)).as_py():
        return _known(_from_epoch(texts.cast(pa.int64())))
    return _one_by_one(texts.to_pylist())


def _one_by_one(texts: list[str | None]) -> tuple[pa.Array, pa.Array]:
    parsed = [None if text is None else parse_created_at(text) for text in texts]
    wrong = [text is not None and number is None for text, number in zip(texts, parsed, strict=True)]
    return pa.array(parsed, pa.int64()), pa.array(wrong, pa.bool_())
