"""JSON Lines: each line is an object, and the columns are its keys."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from liveness_etl.extract.manifest_lines import Block, Layout, Lines, Malformed, readable_lines

NOT_AN_OBJECT = "is not a JSON object"

# json.loads looks twice for white space, which is gone by then: half of the time of a short line.
_decode = json.JSONDecoder().raw_decode


class NoLineError(ValueError):
    """JSON that is no line of a manifest; the message is the reason."""


def split_json(blocks: Iterator[Block], layout: Layout) -> Iterator[Lines]:
    """The objects of a JSON Lines file.

    A required key that no object has is known only at the end: then ManifestError is raised.
    """
    options = layout.options
    # What an id or a source can only be as a string; other columns may be of any type.
    columns = {c: c in (options.session_id_column, options.source_column) for c in options.columns}
    seen: set[str] = set()
    objects = 0
    for block in blocks:
        malformed: Malformed = []
        numbers: list[int] = []
        rows: list[list[str | None]] = []
        for number, text in readable_lines(block, options.max_line_bytes, malformed):
            try:
                line, end = _decode(text)
                if type(line) is not dict or end < len(text):
                    raise NoLineError(NOT_AN_OBJECT)
                objects += 1
                if len(seen) < len(layout.required):
                    seen.update(layout.required & line.keys())
                row = read_row(line, columns, escaped="\\u" in text)
            except NoLineError as problem:
                malformed.append((number, str(problem)))
            except (ValueError, RecursionError):
                # ValueError is also a number of thousands of digits.
                malformed.append((number, NOT_AN_OBJECT))
            else:
                numbers.append(number)
                rows.append(row)
        values = zip(*rows, strict=True) if rows else ([] for _ in columns)
        arrays = [pa.array(column, pa.string()) for column in values]
        yield Lines(pa.array(numbers, pa.int64()), dict(zip(columns, arrays, strict=True)), malformed)
    if objects:
        layout.require(seen)


def read_row(line: dict[str, Any], columns: dict[str, bool], *, escaped: bool) -> list[str | None]:
    """The values of `columns` as text, null and missing as None; True says that a column must be a string."""
    row: list[str | None] = []
    for column, must_be_string in columns.items():
        value = line.get(column)
        if value is not None and type(value) is not str:
            if must_be_string:
                raise NoLineError(f"{column} is not a string")
            value = json.dumps(value, ensure_ascii=False)
        row.append(value)
    if escaped:
        try:
            "".join(filter(None, row)).encode()
        except UnicodeEncodeError:
            # Half of a surrogate pair: JSON's grammar allows it, no text holds it.
            raise NoLineError("has an escape that is no character") from None
    return row
