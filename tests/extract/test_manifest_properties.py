"""What holds for any manifest, however hostile."""

import gzip
import json
from unittest import mock

import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from liveness_etl.errors import ManifestError
from liveness_etl.extract.manifest import ManifestOptions
from liveness_etl.extract.manifest_lines import Block
from tests.extract.manifest_reading import Objects, Read, read_files, session_id

OPTIONS = ManifestOptions(attributes=("a",), max_line_bytes=120)
FORMATS = ["csv", "jsonl", "txt", "parquet", "csv.gz", "txt.zst"]

IDS = st.integers(0, 9).map(session_id).map(str.encode)
CELLS = (
    IDS
    | st.sampled_from([b"", b" ", b'"', b'""', b'"x"', b'"a,b"', b'"a\nb"', b'"a""b"', b"x\ry", b"\r", b"\0", b"\xff"])
    | st.sampled_from(["é\u00a0".encode(), b"2026-02-27", b"1772187630", b"{}", b"x" * 90, b" " * 121])
)
LINE_ENDS = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\n\n", b"\r", b"", b"\n \t\n"])
GOOD_LINES = st.builds(
    lambda i, a, end: i + b",2026-02-27," + a + end, IDS, st.sampled_from([b"", b"x", b'"q"']), LINE_ENDS
)
ANY_LINES = st.builds(lambda cells, end: b",".join(cells) + end, st.lists(CELLS, max_size=4), LINE_ENDS)
TABLES = st.lists(GOOD_LINES | ANY_LINES, max_size=12).map(b"".join)
HEADERS = st.sampled_from(
    [b"session_id,created_at,a\n", b"\xef\xbb\xbf\n a ,session_id\r\n", b"session_id\n", b'"session_id","a\n"\n']
)


def read_bytes(content: bytes, extension: str, block_bytes: int = 4 << 20) -> Read | None:
    """What a file of these bytes reads as, or None where it is refused as a whole."""
    objects = Objects({f"s3://b/ids.{extension}": content})
    try:
        return read_files(objects.find(f"s3://b/ids.{extension}"), OPTIONS, inputs=objects, block_bytes=block_bytes)
    except ManifestError:
        return None


@settings(deadline=None)
@given(st.binary(max_size=300) | st.builds(bytes.__add__, HEADERS, TABLES), st.sampled_from(FORMATS))
def test_any_bytes_are_read_or_refused(content: bytes, extension: str) -> None:
    """Nothing but ManifestError comes out, and every line is an id or a reject (checked while reading)."""
    read_bytes(content, extension)
    if extension.endswith("gz"):
        read_bytes(gzip.compress(content), extension)
    if extension.endswith("zst"):
        read_bytes(zstandard.compress(content), extension)


@settings(max_examples=400, deadline=None)
@given(HEADERS, TABLES, st.integers(1, 90))
@example(b"session_id,a\n", b'"\n' * 30 + b'x,"y\n', 1)
@example(b"session_id,a\n", b'a","b\n' * 30, 7)
def test_fast_and_exact_reading_agree_for_any_blocks(header: bytes, table: bytes, block_bytes: int) -> None:
    """Arrow's reader, the record-by-record reader and any cut into blocks give the same rows, CSV and text."""
    for content, extension in ((header + table, "csv"), (table, "txt")):
        fast = read_bytes(content, extension)
        assert fast is not None
        assert fast == read_bytes(content, extension, block_bytes)
        with mock.patch.object(Block, "is_plain", return_value=False):
            assert fast == read_bytes(content, extension)


UNQUOTED = st.lists(
    st.builds(
        lambda i, end: i + end, IDS | st.sampled_from([b"", b"  ", b"x", b"\xff"]), st.sampled_from([b"\n", b"\r\n"])
    ),
    max_size=20,
).map(b"".join)


@given(UNQUOTED, st.booleans())
def test_line_numbers_are_those_of_an_editor(lines: bytes, mark: bool) -> None:
    """Counted from 1 with blank lines and the header, as `sed -n 7p` counts."""
    start = b"\xef\xbb\xbf" if mark else b""
    for content, extension, header in ((lines, "txt", 0), (b"session_id\n" + lines, "csv", 1)):
        read = read_bytes(start + content, extension)
        assert read is not None
        numbered = list(enumerate(content.split(b"\n"), 1))[header:]
        filled = {number: line.strip() for number, line in numbered if line.strip()}
        assert {row["line_number"]: row["session_id"].encode() for row in read.ids} == {
            number: line for number, line in filled.items() if len(line) == 36
        }
        assert [number for number, _ in read.reasons] == [n for n, line in filled.items() if len(line) < 36]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(JSON | st.dictionaries(st.sampled_from(["session_id", "created_at", "source", "a"]), JSON), max_size=5))
def test_any_json_values_are_read_or_rejected_line_by_line(values: list[object]) -> None:
    """Whatever a line's columns hold, lone surrogates included, the good line after it is still read."""
    good = {"session_id": session_id(1), "source": "eu", "a": "\N{DUCK}"}
    read = read_bytes("".join(json.dumps(value) + "\n" for value in [*values, good]).encode(), "jsonl")
    assert read is not None
    assert read.lines == len(values) + 1
    assert read.ids[-1]["line_number"] == len(values) + 1
    assert read.ids[-1]["attributes"] == {"a": "\N{DUCK}"}
