"""The labels file: which sessions were attacks, and which were real people in front of the camera."""

import csv
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liveness_etl.errors import UsageError

LABELS: Final = pa.schema(
    [
        pa.field("session_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("pai_species", pa.string()),
        pa.field("subject_id", pa.string()),
        pa.field("weight", pa.float64()),
    ]
)
KINDS: Final = ("bona_fide", "attack")


def read_labels(path: str) -> pa.Table:
    """The rows of a labels file as LABELS: `.csv` with a header, or `.parquet`; other columns are left out.

    session_id and label (`bona_fide` or `attack`) are required; pai_species (the kind of attack; not read where
    the label is bona_fide), subject_id (who it was) and weight (how many sessions this one stands for) are not.
    Ids are trimmed and folded to lower case, as in a manifest. Raises UsageError, with line numbers and never with
    a value: the first line of a CSV file is its header, the first row of a Parquet file is line 1.
    """
    file = Path(path)
    try:
        if file.suffix == ".csv":
            lines, columns = _read_csv(file)
        elif file.suffix == ".parquet":
            lines, columns = _read_parquet(file)
        else:
            raise UsageError("the labels file must end in .csv or .parquet")
    except FileNotFoundError:
        raise UsageError(f"no such labels file: {file}") from None
    except (PermissionError, IsADirectoryError):
        raise UsageError(f"cannot read the labels file {file}: it is a folder, or its mode forbids it") from None
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException):
        raise UsageError(f"cannot read the labels file {file.name}: it is damaged, or not what its name says") from None
    return _checked(columns, lines)


def _read_csv(file: Path) -> tuple[pa.Array, dict[str, pa.Array]]:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        header = [name.strip() for name in next(reader, [])]
        wanted = _positions(header)
        lines: list[int] = []
        values: dict[str, list[str]] = {name: [] for name in wanted}
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(header):
                raise UsageError(f"line {reader.line_num} of the labels has another number of fields than the header")
            lines.append(reader.line_num)
            for name, position in wanted.items():
                values[name].append(fields[position])
    return pa.array(lines, pa.int64()), {name: pa.array(column, pa.string()) for name, column in values.items()}


def _read_parquet(file: Path) -> tuple[pa.Array, dict[str, pa.Array]]:
    with pq.ParquetFile(file) as parquet:
        wanted = list(_positions(parquet.schema_arrow.names))
        table = parquet.read(columns=wanted)
    columns = {}
    for name in wanted:
        try:
            columns[name] = table[name].combine_chunks().cast(pa.string())
        except pa.ArrowNotImplementedError:
            raise UsageError(f"the column {name} of the labels file is {table[name].type}: it must be text") from None
    return pa.array(range(1, table.num_rows + 1), pa.int64()), columns


def _positions(header: list[str]) -> dict[str, int]:
    for name in LABELS.names:
        if header.count(name) > 1:
            raise UsageError(f"the labels file has several columns named {name}: keep one")
    missing = [name for name in ("session_id", "label") if name not in header]
    if missing:
        raise UsageError(f"the labels file has no column {' and none named '.join(missing)}")
    return {name: header.index(name) for name in LABELS.names if name in header}


def _checked(columns: dict[str, pa.Array], lines: pa.Array) -> pa.Table:
    nothing = pa.nulls(len(lines), pa.string())
    session_id, label, species, subject, weight = (_trimmed(columns.get(name, nothing)) for name in LABELS.names)
    session_id = pc.ascii_lower(session_id)
    _refuse(pc.is_null(session_id), lines, "no session_id")
    _refuse(pc.invert(pc.is_in(label, pa.array(KINDS))), lines, "a label that is neither bona_fide nor attack")
    _refuse(_repeated(session_id), lines, "a session id that an earlier line has")
    numbers = pa.array(map(_number, weight.to_pylist()), pa.float64())
    # NaN and what is no number at all fail the comparison too.
    usable = pc.and_(pc.greater_equal(numbers, 0), pc.less(numbers, float("inf")))
    _refuse(pc.and_(pc.is_valid(weight), pc.invert(usable)), lines, "a weight that is no number of 0 or more")
    if 0 < weight.null_count < len(weight):
        _refuse(pc.is_null(weight), lines, "no weight where others have one: weigh all or none")
    return pa.table([session_id, label, species, subject, numbers], schema=LABELS)


def _trimmed(values: pa.Array) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(values)
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed)


def _repeated(values: pa.Array) -> pa.Array:
    codes = np.asarray(values.dictionary_encode().indices)
    first = np.zeros(len(codes), bool)
    first[np.unique(codes, return_index=True)[1]] = True
    return pa.array(~first)


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _refuse(wrong: pa.Array, lines: pa.Array, what: str) -> None:
    found = lines.filter(wrong).to_pylist()
    if found:
        more = f" and {len(found) - 5:,} more" if len(found) > 5 else ""
        raise UsageError(f"the labels file has {what}: line {', '.join(map(str, found[:5]))}{more}")
