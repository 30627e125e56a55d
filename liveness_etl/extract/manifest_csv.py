"""CSV as RFC 4180 has it: a header, commas, double quotes, line ends within quotes.

A block whose every line is a record of its own goes through Arrow's reader; any other block is read record by
record. Both give the same fields. A record over several lines has the number of its first one.

A stray quote must not swallow the ids behind it: where a quoted field does not end so that it makes a whole
record within `max_line_bytes`, its first line alone is rejected, and reading goes on with the next line.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from liveness_etl.errors import ManifestError
from liveness_etl.extract.manifest_lines import Block, Layout, Lines, Malformed, is_blank, unreadable

BAD_QUOTES = "has quotes that make no CSV record"

_FIELD = '(?:"(?:[^"]|"")*"|[^",]*)'
_RECORD_ON_ONE_LINE = f"^{_FIELD}(?:,{_FIELD})*\r?\n?$"
_ID_START = re.compile(r"\s*[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-")
_SHOWN_NAME = re.compile(r"[\w .:;|-]{1,80}")


@dataclass(frozen=True)
class _Header:
    """The number of columns, and the positions of those that are read."""

    width: int
    positions: dict[str, int]


def split_csv(blocks: Iterator[Block], layout: Layout) -> Iterator[Lines]:
    """The records of a CSV file. Raises ManifestError for a header that cannot be used."""
    limit = layout.options.max_line_bytes
    header: _Header | None = None
    rest = Block(b"", 1)
    for block in _with_end(blocks):
        if block is not None:
            rest = Block(rest.data + block.data, rest.first_line if rest.data else block.first_line)
        if header is None:
            records = _Records(rest, None, limit, final=block is None)
            record = next(iter(records), None)
            rest = records.unread()
            if record is None:
                continue
            header = _read_header(record[1], layout)
        if not rest.data:
            continue
        lines = _split_plain(rest, header, limit)
        if lines is not None:
            rest = Block(b"", 1)
        else:
            records = _Records(rest, header.width, limit, final=block is None)
            lines = _split_any(records, header)
            rest = records.unread()
        if len(lines.numbers) or lines.malformed:
            layout.require(header.positions)
        yield lines


def _with_end(blocks: Iterator[Block]) -> Iterator[Block | None]:
    yield from blocks
    yield None


def _read_header(record: list[str] | str, layout: Layout) -> _Header:
    if isinstance(record, str):
        raise ManifestError(f"The header of {layout.name} {record}: the first line must name the columns.")
    names = [name.strip() for name in record]
    columns = layout.options.columns
    for column in columns:
        if names.count(column) > 1:
            raise ManifestError(f"{layout.name} has {names.count(column)} columns named {column!r}: keep one.")
    positions = {column: names.index(column) for column in columns if column in names}
    if layout.options.session_id_column not in positions:
        # A file without a header has ids in its first line, and those belong in no message.
        if any(_ID_START.match(name) for name in names):
            raise ManifestError(f"{layout.name} has no header: its first line must name the columns.")
        shown = ", ".join(name for name in names[:20] if _SHOWN_NAME.fullmatch(name))
        layout.require(positions, f" among its comma-separated ones ({shown})")
    return _Header(len(names), positions)


def _split_plain(block: Block, header: _Header, max_line_bytes: int) -> Lines | None:
    """The block's records by Arrow's reader, or None where some line needs a closer look."""
    if not block.is_plain(max_line_bytes):
        return None
    starts, ends = block.spans
    if b'"' in block.data:
        texts = pc.match_substring_regex(block.texts(), _RECORD_ON_ONE_LINE)
        if not pc.all(texts).as_py():
            return None
    filled = ends > starts
    if b"\r" in block.data:
        filled &= np.frombuffer(block.data, np.uint8)[starts] != ord("\r")
    names = [str(position) for position in header.positions.values()]
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(block.data),
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False,
                block_size=len(block.data) + 1,
                column_names=[str(position) for position in range(header.width)],
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                check_utf8=False,
                include_columns=names,
                column_types={name: pa.string() for name in names},
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        # A line has too many fields or too few.
        return None
    columns = [column.combine_chunks() for column in table.columns]
    if header.width == 1 and pc.any(pc.equal(pc.ascii_trim_whitespace(columns[0]), "")).as_py():
        # A blank line, which is no record, looks like a record of one empty field.
        return None
    numbers = pa.array(np.flatnonzero(filled) + block.first_line, pa.int64())
    return _as_lines(numbers, columns, header, [])


def _split_any(records: "_Records", header: _Header) -> Lines:
    malformed: Malformed = []
    numbers: list[int] = []
    rows: list[list[str]] = []
    for number, record in records:
        if isinstance(record, str):
            malformed.append((number, record))
        else:
            numbers.append(number)
            rows.append([record[position] for position in header.positions.values()])
    columns = [pa.array([row[i] for row in rows], pa.string()) for i in range(len(header.positions))]
    return _as_lines(pa.array(numbers, pa.int64()), columns, header, malformed)


def _as_lines(numbers: pa.Array, columns: list[pa.Array], header: _Header, malformed: Malformed) -> Lines:
    # CSV has no other way to say that a value is missing.
    fields = [pc.if_else(pc.equal(column, ""), None, column) for column in columns]
    return Lines(numbers, dict(zip(header.positions, fields, strict=True)), malformed)


class _Records:
    """Reads a block record by record: (number of the first line, fields or the reason why there are none).

    Stops early where the last record may go on in the next block, unless this one is `final`; `unread()` is
    what then remains. With `width`, a record of any other number of fields is malformed.
    """

    def __init__(self, block: Block, width: int | None, max_line_bytes: int, *, final: bool) -> None:
        self._block, self._lines = block, block.lines()
        self._width, self._limit, self._final = width, max_line_bytes, final
        self._at = 0

    def unread(self) -> Block:
        """The lines that no record was made of so far."""
        if self._at == len(self._lines):
            return Block(b"", 1)
        return Block(self._block.data[self._block.spans[0][self._at] :], self._block.first_line + self._at)

    def __iter__(self) -> Iterator[tuple[int, list[str] | str]]:
        # Lines before this one were within a quote that led nowhere: each of them is read by itself, so that
        # no line is gone over again and again.
        alone_until = 0
        while self._at < len(self._lines):
            at, line = self._at, self._lines[self._at]
            number = self._block.first_line + at
            if is_blank(line, self._limit):
                self._at += 1
            elif reason := unreadable(line, self._limit):
                self._at += 1
                yield number, reason
            elif b'"' not in line:
                self._at += 1
                fields = line.decode().split(",")
                yield number, self._wrong_width(fields) or fields
            else:
                taken: list[bytes] = []
                until = at + 1 if at < alone_until else len(self._lines)
                try:
                    fields = next(csv.reader(self._take(at, until, taken), strict=True))
                    wrong = self._wrong_width(fields)
                except csv.Error:
                    if not self._final and at + len(taken) == len(self._lines) and at >= alone_until:
                        return
                    wrong = BAD_QUOTES
                if wrong is None:
                    self._at += len(taken)
                    yield number, fields
                else:
                    alone_until = max(alone_until, at + len(taken) - 1)
                    self._at += 1
                    yield number, wrong

    def _take(self, at: int, until: int, taken: list[bytes]) -> Iterator[str]:
        """The lines from `at` on, noted in `taken`, up to the longest record that is allowed."""
        size = 0
        for line in self._lines[at:until]:
            size += len(line)
            if size > self._limit:
                return
            taken.append(line)
            if unreadable(line, self._limit):
                raise csv.Error
            yield f"{line.decode()}\n"

    def _wrong_width(self, fields: list[str]) -> str | None:
        if self._width in (None, len(fields)):
            return None
        return f"has {len(fields)} field{'s' * (len(fields) > 1)} where the header has {self._width}"
