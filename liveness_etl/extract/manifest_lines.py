"""What every manifest format is split into: the fields of its lines, and the lines that have none."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from liveness_etl.errors import ManifestError

# What bytes.strip() and Arrow's ascii_trim_whitespace take away.
_SPACE = " \t\n\r\v\f"

NOT_UTF8 = "is not UTF-8"
HAS_NUL = "has a NUL byte"
TOO_LONG = "is longer than manifest.max_line_bytes"

Positions = npt.NDArray[np.int64]
Malformed = list[tuple[int, str]]
"""Line numbers and reasons."""


@dataclass(frozen=True)
class ManifestOptions:
    """The `[manifest]` section as far as reading is concerned.

    `max_bytes` counts all files together, decompressed; `max_line_bytes` one line without its end (all lines of
    a CSV record that has several).
    """

    session_id_column: str = "session_id"
    created_at_column: str = "created_at"
    source_column: str = "source"
    attributes: tuple[str, ...] = ()
    max_bytes: int = 4 << 30
    max_line_bytes: int = 65_536

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all columns that are read, each once."""
        named = (self.session_id_column, self.created_at_column, self.source_column, *self.attributes)
        return tuple(dict.fromkeys(named))


def too_many_bytes(max_bytes: int) -> ManifestError:
    """The error of a manifest that is longer than the configuration allows."""
    return ManifestError(
        f"The manifest has more than {max_bytes:,} bytes after decompression: split it, or raise manifest.max_bytes."
    )


@dataclass(frozen=True)
class Layout:
    """What a file has to offer: its name for messages, the columns to read, and those it must have."""

    name: str
    options: ManifestOptions
    required: frozenset[str]

    def require(self, present: Collection[str], found: str = "") -> None:
        """Raise ManifestError for the first required column that is not among `present`."""
        options = self.options
        missing = next((c for c in options.columns if c in self.required and c not in present), None)
        if missing is None:
            return
        column = f"{self.name} has no column {missing!r}{found}"
        if missing == options.session_id_column:
            raise ManifestError(f"{column}: set manifest.session_id_column to the one that holds the ids.")
        if missing == options.created_at_column:
            raise ManifestError(
                f"{column}: give the run a --date, or set manifest.created_at_column to the one that has the times."
            )
        raise ManifestError(
            f"{column}: with several [sources] every line must name one;"
            " set manifest.source_column to the column that does."
        )


@dataclass(frozen=True)
class Lines:
    """Some non-blank lines of one file.

    `numbers` (int64) and the arrays of `fields` are equally long: one item per line that has fields. `fields`
    holds the columns that the file has, by name: text with NULL where a line lacks it, but for created_at, which
    may be of any type that `manifest_time` takes. `malformed` are the other lines.
    """

    numbers: pa.Array
    fields: dict[str, pa.Array]
    malformed: Malformed = field(default_factory=list)


@dataclass(frozen=True)
class Block:
    """Complete lines of a text file, as bytes, and the number of the first one."""

    data: bytes
    first_line: int

    def lines(self) -> list[bytes]:
        """The lines without their ends."""
        lines = self.data.split(b"\n")
        if not lines[-1]:
            lines.pop()
        return [line.removesuffix(b"\r") for line in lines]

    @cached_property
    def spans(self) -> tuple[Positions, Positions]:
        """Where each line starts and ends (before its line feed) in `data`."""
        ends = np.flatnonzero(np.frombuffer(self.data, np.uint8) == ord("\n"))
        if not self.data.endswith(b"\n"):
            ends = np.append(ends, len(self.data))
        return np.concatenate(([0], ends[:-1] + 1)), ends

    def texts(self) -> pa.Array:
        """The lines with their ends, as a string array; only for blocks that are plain."""
        starts, _ = self.spans
        offsets = np.append(starts, len(self.data)).astype(np.int32)
        return pa.StringArray.from_buffers(len(starts), pa.py_buffer(offsets), pa.py_buffer(self.data))

    def is_plain(self, max_line_bytes: int) -> bool:
        """Whether every line is fit to be read: UTF-8, no NUL, no lone carriage return, none too long."""
        starts, ends = self.spans
        if b"\0" in self.data or (ends - starts).max() > max_line_bytes:
            return False
        if b"\r" in self.data and self.data.count(b"\r") != self.data.count(b"\r\n"):
            return False
        try:
            self.data.decode()
        except UnicodeDecodeError:
            return False
        return True


def read_blocks(pieces: Iterable[bytes], max_line_bytes: int) -> Iterator[Block]:
    """The lines of a text, in blocks. Lines end with LF or CRLF; a byte order mark at the start is dropped.

    Holds a piece and one longest line: of a longer line just so much is handed on that its length shows.
    """
    number, rest, mark = 1, b"", b"\xef\xbb\xbf"
    for piece in pieces:
        data = rest + piece
        cut = data.rfind(b"\n") + 1
        if cut:
            block = Block(data[:cut].removeprefix(mark) if number == 1 else data[:cut], number)
            yield block
            number += len(block.spans[0])
        # Two bytes more than allowed, as one may be the carriage return of the line's end.
        rest = data[cut : cut + len(mark) + max_line_bytes + 2]
    if rest and (rest := rest.removeprefix(mark) if number == 1 else rest):
        yield Block(rest, number)


def is_blank(line: bytes, max_line_bytes: int) -> bool:
    """Whether a line is nothing but white space (one that is too long may have been cut before its text)."""
    return len(line) <= max_line_bytes and not line.strip()


def unreadable(line: bytes, max_line_bytes: int) -> str | None:
    """Why a line cannot be read as text, if so."""
    if len(line) > max_line_bytes:
        return TOO_LONG
    if b"\0" in line:
        return HAS_NUL
    try:
        line.decode()
    except UnicodeDecodeError:
        return NOT_UTF8
    return None


def readable_lines(block: Block, max_line_bytes: int, malformed: Malformed) -> Iterator[tuple[int, str]]:
    """Number and trimmed text of the non-blank lines; those that are no text are added to `malformed`."""
    if block.is_plain(max_line_bytes):
        for number, text in enumerate(block.data.decode().split("\n"), block.first_line):
            if text := text.strip(_SPACE):
                yield number, text
        return
    for number, line in enumerate(block.lines(), block.first_line):
        if is_blank(line, max_line_bytes):
            continue
        if reason := unreadable(line, max_line_bytes):
            malformed.append((number, reason))
        else:
            yield number, line.decode().strip(_SPACE)


def split_text(blocks: Iterator[Block], layout: Layout) -> Iterator[Lines]:
    """Plain text: each line is a session id."""
    column, limit = layout.options.session_id_column, layout.options.max_line_bytes
    for block in blocks:
        lines = _split_plain_text(block, column) if block.is_plain(limit) else None
        lines = lines or _split_any_text(block, column, limit)
        if len(lines.numbers) or lines.malformed:
            layout.require({column}, " (plain text holds nothing but session ids)")
        yield lines


def _split_plain_text(block: Block, column: str) -> Lines:
    texts = pc.ascii_trim_whitespace(block.texts())
    numbers = pa.array(np.arange(block.first_line, block.first_line + len(texts)), pa.int64())
    filled = pc.not_equal(texts, "")
    if not pc.all(filled).as_py():
        numbers, texts = numbers.filter(filled), texts.filter(filled)
    return Lines(numbers, {column: texts})


def _split_any_text(block: Block, column: str, max_line_bytes: int) -> Lines:
    malformed: Malformed = []
    numbers, texts = [], []
    for number, text in readable_lines(block, max_line_bytes, malformed):
        numbers.append(number)
        texts.append(text)
    return Lines(pa.array(numbers, pa.int64()), {column: pa.array(texts, pa.string())}, malformed)
