"""Times: whole columns must read exactly as their values do one by one."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from liveness_etl.extract.manifest_time import created_at_milliseconds, parse_created_at

SEPARATORS = st.sampled_from(["T", " ", "t", "", "  "])
ZONES = st.sampled_from(["", "Z", "z", " UTC", "UTC", "+02:00", "-0330", "+05", " +0100", "+24:00", "-00:60", "GMT"])
CLOCKS = st.sampled_from(["10", "10:20", "10:20:30", "10:20:30.5", "10:20:30,25", "10:20:30.123456789", "24:00", "1:2"])
DATES = st.sampled_from(["2026-02-27", "2026-2-27", "20260227", "1969-12-31", "0000-01-01", "0001-01-01", "9999-12-31"])
ISO = st.builds("{}{}{}{}".format, DATES, SEPARATORS, CLOCKS, ZONES)
NUMBERS = (
    st.integers(-(10**19), 10**19).map(str)
    | st.floats().map(repr)
    | st.decimals(-(10**14), 10**14, places=4).map(str)
    | st.sampled_from(["99999999999", "100000000000", "1e3", "+5", "1.", ".5", "0x10", "1_0", "٣", "9" * 40, "1e999"])
)
SPELLINGS = DATES | ISO | NUMBERS | st.text(max_size=12)


@given(st.lists(st.none() | st.just(" ") | SPELLINGS, max_size=4) | st.lists(ISO, max_size=4))
@example(["2026-02-27T10:20:30Z", None])
@example(["2026-02-27", "2026-02-27T10:20"])
@example(["1772187630", "1772187630123", ""])
@example(["0000-01-01", "2026-02-27"])
def test_column_reads_as_its_values_do(texts: list[str | None]) -> None:
    """Arrow's casts and the one-by-one parser agree on what is a timestamp, and on which."""
    milliseconds, wrong = created_at_milliseconds(pa.array(texts, pa.string()))
    trimmed = [None if text is None else text.strip() or None for text in texts]
    assert milliseconds.to_pylist() == [text and parse_created_at(text) for text in trimmed]
    assert wrong.to_pylist() == [text is not None and parse_created_at(text) is None for text in trimmed]


@given(
    st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2900, 1, 1), timezones=st.timezones()),
    st.sampled_from(["T", " "]),
)
def test_what_python_writes_is_read_back(moment: datetime, separator: str) -> None:
    """isoformat() with any offset of whole minutes comes back to the millisecond."""
    text = moment.isoformat(separator)
    offset = moment.utcoffset()
    assert offset is not None
    if offset.seconds % 60 == 0:
        expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // (datetime.resolution * 1000)
        assert parse_created_at(text) == expected


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("99999999999", 99999999999000),
        ("100000000000", 100000000000),
        ("1772187630.9999", 1772187630999),
        ("-1.5", -1500),
        ("2026-02-27T10:20:30.9999999Z", 1772187630999),
    ],
)
def test_seconds_and_milliseconds_are_told_apart_by_magnitude(text: str, milliseconds: int) -> None:
    """Below 1e11 it is seconds; fractions of a millisecond are dropped."""
    assert parse_created_at(text) == milliseconds


def test_seconds_beyond_any_calendar_do_not_overflow_into_this_year() -> None:
    """2^61 seconds more would be the same number of milliseconds, in 64 bits."""
    far = pa.array([2**61 + 1772187630, -(2**61) + 1772187630], pa.timestamp("s"))
    milliseconds, _ = created_at_milliseconds(far)
    assert all(abs(number) > 10**17 for number in milliseconds.to_pylist())


def test_other_types_are_refused() -> None:
    """A truth value or a list is no time."""
    with pytest.raises(TypeError):
        created_at_milliseconds(pa.array([True]))
