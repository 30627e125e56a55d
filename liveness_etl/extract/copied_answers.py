"""Copies of answers that a backend kept, as its SDK or the AWS CLI gave them: ids with answers, and rejects.

A document is one line, as `json.dumps` writes an answer of boto3; or several, as the AWS CLI prints one: a line that
is `{`, lines that are indented, a line that is `}`. So one that is broken ends at the next that begins. Beside the
answer's own members a document may have those that a manifest line has (created_at, source, attributes) under the
names configured for the manifest; `fetched_at`, when the answer came; and boto3's ResponseMetadata.

The AWS CLI leaves bytes base64, as they are on the wire (its customizations/scalarparse.py), and prints no
ResponseMetadata (its formatter.py). `json.dumps(answer, default=str)` makes a Python literal of bytes: "b'\\xff…'".
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any, Final

import pyarrow as pa

from liveness_etl.extract.ask import Ask
from liveness_etl.extract.manifest_check import Rules, check_lines, is_plausible
from liveness_etl.extract.manifest_json import NOT_AN_OBJECT, NoLineError, read_row
from liveness_etl.extract.manifest_lines import Block, Lines, Malformed, ManifestOptions, read_blocks, unreadable
from liveness_etl.extract.manifest_time import parse_created_at
from liveness_etl.extract.members import decoded, read_base64, read_text, reader_of
from liveness_etl.extract.retry import CallFailed
from liveness_etl.transform.result import Answer, UnreadableAnswer, parse_result

MAX_DOCUMENT_BYTES: Final = 8 * 1024 * 1024
"""Five images of 204,800 bytes are 1.4 MB as base64, and 5.1 MB at most as JSON of Python literals."""

_SESSION_ID: Final = "SessionId"
_FETCHED_AT: Final = "fetched_at"
_MOST_RETRIES: Final = 1_000
# As repr() writes bytes, and nothing else that Python would read: this text came from outside.
_ESCAPE: Final = r"\\(?:[\\'tnr]|x[0-9a-f]{2})"
_BYTES_LITERAL: Final = re.compile(rf"""b'((?:[ -&(-\[\]-~]|{_ESCAPE})*+)'|b"((?:[ !#-\[\]-~]|{_ESCAPE})*+)\"""")

ReadMembers = Callable[[Any], dict[str, Any]]
"""The members of an answer, bytes decoded. Raises CallFailed for one of a wrong type."""


@dataclass(frozen=True, slots=True, repr=False)
class Copy:
    """A copied answer. `fetched_at` is epoch seconds, None where the copy does not tell; has no repr."""

    ask: Ask
    source: str
    answer: Answer
    fetched_at: float | None
    attempts: int


@dataclass(frozen=True, repr=False)
class Copies:
    """Some documents of one file: the good ones, and the rest with the columns of `manifest_check.REJECTS`."""

    found: tuple[Copy, ...]
    rejects: pa.RecordBatch


def copy_reader(output_shape: Any) -> ReadMembers:
    """Reads members by botocore's model of an answer, as strictly as the answers of a call are read."""
    read = reader_of(output_shape, _read_bytes)
    return lambda document: read(document, "", set())


def read_copies(
    pieces: Iterable[bytes], uri: str, options: ManifestOptions, rules: Rules, read_members: ReadMembers
) -> Iterator[Copies]:
    """The copied answers in a file's decompressed bytes; `uri` names the file in rejects."""
    options = replace(options, session_id_column=_SESSION_ID)
    # What an id or a source can only be as a string; other columns may be of any type.
    columns = {name: name in (_SESSION_ID, options.source_column) for name in options.columns}
    for documents in _documents(read_blocks(pieces, MAX_DOCUMENT_BYTES)):
        malformed: Malformed = []
        answers: dict[int, tuple[Answer, float | None, int]] = {}
        rows: list[list[str | None]] = []
        for number, document in documents:
            try:
                members = _members(document)
                row = read_row(members, columns, escaped=b"\\u" in document)
                answers[number] = _answer(members, read_members), _fetched_at(members, rules), _attempts(members)
                rows.append(row)
            except NoLineError as problem:
                malformed.append((number, str(problem)))
            except UnreadableAnswer as problem:
                malformed.append((number, str(problem)))
            except CallFailed as failure:
                malformed.append((number, failure.message))
        values = zip(*rows, strict=True) if rows else ([] for _ in columns)
        arrays = (pa.array(column, pa.string()) for column in values)
        lines = Lines(pa.array(answers, pa.int64()), dict(zip(columns, arrays, strict=True)), malformed)
        ids, rejects, _ = check_lines(lines, uri, options, rules)
        yield Copies(tuple(_copies(ids, answers)), rejects)


def _documents(blocks: Iterable[Block]) -> Iterator[list[tuple[int, bytes]]]:
    """The documents that end in each block of lines: the number of the first line, and the text."""
    first, lines, size = 0, [b""], 0  # of the document that is under way, if first is not 0
    for block in blocks:
        ended = []
        for number, line in enumerate(block.lines(), block.first_line):
            text = line.rstrip()
            if not text and len(line) <= MAX_DOCUMENT_BYTES:
                continue
            if first and line.startswith((b" ", b"\t")):
                if size <= MAX_DOCUMENT_BYTES:  # of a longer one, just so much that its length shows
                    lines.append(line)
                size += len(line) + 1
                continue
            if first:
                closes = text == b"}"
                ended.append((first, b"\n".join([*lines, text] if closes else lines)))
                first = 0
                if closes:
                    continue
            if text == b"{":
                first, lines, size = number, [text], len(text)
            else:
                ended.append((number, line))
        yield ended
    if first:
        yield [(first, b"\n".join(lines))]


def _members(document: bytes) -> dict[str, Any]:
    if len(document) > MAX_DOCUMENT_BYTES:
        raise NoLineError(f"is longer than {MAX_DOCUMENT_BYTES:,} bytes")
    if reason := unreadable(document, MAX_DOCUMENT_BYTES):
        raise NoLineError(reason)
    members = decoded(document)
    if type(members) is not dict:
        raise NoLineError(NOT_AN_OBJECT)
    return members


def _answer(members: dict[str, Any], read_members: ReadMembers) -> Answer:
    known = read_members(members)
    session_id = known[_SESSION_ID] = known.get(_SESSION_ID, "").strip().lower()
    return parse_result(session_id, known)


def _read_bytes(value: Any, path: str, unmodelled: set[str]) -> bytes:
    text = read_text(value, path, unmodelled)
    literal = _BYTES_LITERAL.fullmatch(text)
    if literal is None:
        try:
            return read_base64(text, path, unmodelled)
        except CallFailed:
            raise CallFailed(
                "UnreadableAnswer", f"{path[:-1]} is neither base64 nor Python bytes (leave out what was not kept)"
            ) from None
    return (literal[1] or literal[2] or "").encode("ascii").decode("unicode_escape").encode("latin-1")


def _fetched_at(members: Mapping[str, Any], rules: Rules) -> float | None:
    """When the answer came: what the document says, else the date that AWS put on it. One second is its grain."""
    told = members.get(_FETCHED_AT)
    milliseconds = parse_created_at(str(told).strip()) if type(told) in (str, int, float) else None
    if milliseconds is None:
        headers = _mapping(_mapping(members.get("ResponseMetadata")).get("HTTPHeaders"))
        try:
            milliseconds = int(parsedate_to_datetime(str(headers.get("date"))).timestamp() * 1000)
        except (ValueError, OverflowError):
            return None
    return milliseconds / 1000 if is_plausible(milliseconds, rules.now) else None


def _attempts(members: Mapping[str, Any]) -> int:
    """The calls that the answer took: boto3 counts its retries."""
    retries = _mapping(members.get("ResponseMetadata")).get("RetryAttempts")
    return 1 + retries if type(retries) is int and 0 <= retries <= _MOST_RETRIES else 1


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _copies(ids: pa.RecordBatch, answers: Mapping[int, tuple[Answer, float | None, int]]) -> Iterator[Copy]:
    for row in ids.to_pylist():
        created_at, attributes = row["created_at"], row["attributes"]
        ask = Ask(
            row["session_id"],
            row["dt"],
            None if created_at is None else created_at.timestamp(),
            None if attributes is None else tuple(attributes),
        )
        yield Copy(ask, row["source"], *answers[row["line_number"]])
