"""Parquet: each row is a line, numbered from 1, and only the columns that are needed are read."""

import json
from collections.abc import Callable, Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liveness_etl.errors import ManifestError
from liveness_etl.extract.manifest_lines import NOT_UTF8, TOO_LONG, Layout, Lines, too_many_bytes
from liveness_etl.extract.manifest_time import created_at_milliseconds

ROWS_PER_BATCH = 65_536
# Column chunks are streamed in pieces of this size, and never held: one of 10 million ids has 400 MB.
_READ_BYTES = 8 << 20
_BATCH_BYTES = 64 << 20


def split_parquet(stream: BinaryIO, layout: Layout, count: Callable[[int], None]) -> Iterator[Lines]:
    """The rows of a Parquet file; `stream` must be seekable, `count` is told the bytes of every batch's columns.

    Ids and sources are text, also in dictionaries or as bytes; 16 bytes are a UUID. Attributes of any other
    type are turned into text. Raises ManifestError for a damaged file or columns that cannot be used.
    """
    try:
        file = pq.ParquetFile(stream, buffer_size=_READ_BYTES, pre_buffer=False)
        columns = _usable_columns(file, layout)
        first = 1
        for batch in file.iter_batches(_rows_per_batch(stream, file, layout), columns=columns, use_threads=False):
            yield _split_batch(batch, first, layout, count)
            first += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as problem:
        raise ManifestError(f"{layout.name} cannot be read as Parquet: the file is damaged or incomplete.") from problem


def _usable_columns(file: pq.ParquetFile, layout: Layout) -> list[str]:
    options, schema = layout.options, file.schema_arrow
    for column in options.columns:
        if schema.names.count(column) > 1:
            raise ManifestError(f"{layout.name} has several columns named {column!r}: keep one.")
    if file.metadata.num_rows or options.session_id_column not in schema.names:
        layout.require(schema.names, f" among its {len(schema.names)} columns")
    for column in (options.session_id_column, options.source_column):
        if column in schema.names and not _is_text(_plain_type(schema.field(column).type)):
            kind = schema.field(column).type
            raise ManifestError(f"The column {column!r} of {layout.name} is {kind}: it must be text.")
    if options.created_at_column in schema.names:
        kind = _plain_type(schema.field(options.created_at_column).type)
        try:
            created_at_milliseconds(pa.array([], pa.string() if _is_text(kind) else kind))
        except TypeError:
            column = options.created_at_column
            raise ManifestError(f"The column {column!r} of {layout.name} is {kind}: it must be a timestamp.") from None
    return [column for column in options.columns if column in schema.names]


def _rows_per_batch(stream: BinaryIO, file: pq.ParquetFile, layout: Layout) -> int:
    """So many rows that a batch stays small, whatever the file expands to.

    A file of a kilobyte can repeat one value of a megabyte a million times: values that are repeated stand in the
    dictionary of a column chunk, and their length is looked up there. Raises ManifestError where the file itself
    says that it has too many bytes.
    """
    needed = set(layout.options.columns)
    leaves = [leaf for leaf in map(file.schema.column, range(len(file.schema))) if leaf.path.split(".")[0] in needed]
    text = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY" and leaf.name == leaf.path]
    positions = [file.schema.names.index(leaf.name) for leaf in leaves]
    longest, most = 1.0, 0
    dictionaries = pq.ParquetFile(stream, read_dictionary=text, buffer_size=1 << 20, pre_buffer=False)
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        size = sum(group.column(position).total_uncompressed_size for position in positions)
        most += size
        if most > layout.options.max_bytes:
            raise too_many_bytes(layout.options.max_bytes)
        longest = max(longest, size / max(1, group.num_rows))
        for one_row in dictionaries.iter_batches(1, row_groups=[number], columns=text, use_threads=False):
            for values in one_row.columns:
                if pa.types.is_dictionary(values.type) and _is_text(values.type.value_type):
                    longest = max(longest, pc.max(pc.binary_length(values.dictionary)).as_py() or 0)
            break
    return max(1, min(ROWS_PER_BATCH, int(_BATCH_BYTES / longest)))


def _split_batch(batch: pa.RecordBatch, first: int, layout: Layout, count: Callable[[int], None]) -> Lines:
    options = layout.options
    fields: dict[str, pa.Array] = {}
    sizes = pa.repeat(0, batch.num_rows)
    not_utf8 = pa.repeat(False, batch.num_rows)
    for column, values in zip(batch.schema.names, batch.columns, strict=True):
        values = _plain(values)
        if _is_text(values.type):
            values, wrong = _decoded(values)
            not_utf8 = pc.or_(not_utf8, wrong)
        elif column != options.created_at_column:
            values = _spelled_out(values)
        if pa.types.is_string(values.type):
            sizes = pc.add(sizes, pc.fill_null(pc.binary_length(values), 0).cast(pa.int64()))
        fields[column] = values
    count(sum(values.nbytes for values in fields.values()))
    too_long = pc.greater(sizes, options.max_line_bytes)
    numbers = pa.array(range(first, first + batch.num_rows), pa.int64())
    bad = pc.or_(not_utf8, too_long)
    if not pc.any(bad).as_py():
        return Lines(numbers, fields)
    reasons = pc.if_else(not_utf8, NOT_UTF8, TOO_LONG).filter(bad).to_pylist()
    malformed = list(zip(numbers.filter(bad).to_pylist(), reasons, strict=True))
    good = pc.invert(bad)
    return Lines(numbers.filter(good), {column: values.filter(good) for column, values in fields.items()}, malformed)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """What values of a type are once extension and dictionary are taken off."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain_type(kind.storage_type)
    return _plain_type(kind.value_type) if pa.types.is_dictionary(kind) else kind


def _plain(values: pa.Array) -> pa.Array:
    if isinstance(values, pa.ExtensionArray):
        return _plain(values.storage)
    return _plain(values.dictionary_decode()) if pa.types.is_dictionary(values.type) else values


def _is_text(kind: pa.DataType) -> bool:
    tests = (
        pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null,
        pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary,
    )  # fmt: skip
    return any(test(kind) for test in tests)


def _decoded(values: pa.Array) -> tuple[pa.Array, pa.Array]:
    """(text, which values are not UTF-8): Parquet promises UTF-8 in a string column, but nobody checks."""
    fine = pa.repeat(False, len(values))
    if pa.types.is_fixed_size_binary(values.type) and values.type.byte_width == 16:
        return pa.array([None if v is None else _uuid(v) for v in values.to_pylist()], pa.string()), fine
    encoded = values.cast(pa.binary())
    try:
        return encoded.cast(pa.string()), fine
    except pa.ArrowInvalid:
        texts = [None if v is None else _utf8(v) for v in encoded.to_pylist()]
        return pa.array(texts, pa.string()), pc.and_(pc.is_valid(values), pc.is_null(pa.array(texts, pa.string())))


def _uuid(value: bytes) -> str:
    digits = value.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _utf8(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _spelled_out(values: pa.Array) -> pa.Array:
    """Attributes of other types, as text: numbers and times as Arrow spells them, nested ones as JSON."""
    try:
        return values.cast(pa.string())
    except pa.ArrowNotImplementedError:
        texts = [None if v is None else json.dumps(v, ensure_ascii=False, default=str) for v in values.to_pylist()]
        return pa.array(texts, pa.string())
