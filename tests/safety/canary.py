"""A pattern of bytes that stands in every image, and a search for it in whatever was written, in every disguise."""

import base64
import gzip
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

MARKER = b"\x00\xfe\x9aface-of-somebody-7f3c91\xff\x01"
"""27 bytes: LocalRekognition puts it where its base64 stands in the answer's too."""

_CORE = MARKER[3:-2]


def _encodings() -> Iterator[tuple[str, bytes]]:
    yield "raw", _CORE
    yield "UTF-16", _CORE.decode().encode("utf-16-le")
    yield "hex", _CORE.hex().encode()
    yield "HEX", _CORE.hex().upper().encode()
    yield "escaped", "".join(f"\\x{byte:02x}" for byte in _CORE).encode()
    yield "JSON", "".join(f"\\u{byte:04x}" for byte in _CORE).encode()
    yield "numbers", ", ".join(map(str, _CORE)).encode()
    yield "URL", "".join(f"%{byte:02X}" for byte in _CORE).encode()
    for shift in range(3):
        # What of it does not depend on its neighbours: whole groups of three bytes.
        whole = _CORE[(3 - shift) % 3 :]
        inner = base64.b64encode(whole[: len(whole) // 3 * 3])
        yield f"base64 +{shift}", inner
        yield f"base64 of base64 +{shift}", base64.b64encode(inner)[4:-4]
        yield f"hex of base64 +{shift}", inner.hex().encode()


ENCODINGS = dict(_encodings())


def sightings(content: bytes) -> list[str]:
    """The disguises in which the pattern stands in some bytes."""
    return [name for name, needle in ENCODINGS.items() if needle in content]


def search(root: Path, besides: Iterable[Path] = ()) -> dict[str, list[str]]:
    """Where below a folder the pattern was written: paths with disguises. Files are searched as they are, and
    Parquet, SQLite and gzip also for what is packed in them."""
    found: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and not any(path.is_relative_to(folder) for folder in besides):
            seen = sightings(str(path).encode())
            for content in (path.read_bytes(), *_unpacked(path)):
                seen += sightings(content)
            if seen:
                found[str(path.relative_to(root))] = seen
    return found


def _unpacked(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith(b"PAR1"):
        with suppress(pa.ArrowException), pq.ParquetFile(path) as parquet:
            yield str(parquet.metadata.to_dict()).encode()
            yield str(parquet.schema_arrow.metadata).encode()
            for batch in parquet.iter_batches():
                for column in batch.columns:
                    yield str(column.to_pylist()).encode()
                    yield from (buffer.to_pybytes() for buffer in column.buffers() if buffer is not None)
    elif start.startswith(b"SQLite format 3"):
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            database.text_factory = bytes
            tables = [row[0].decode() for row in database.execute("SELECT name FROM sqlite_master WHERE type='table'")]
            for table in tables:
                for row in database.execute(f'SELECT * FROM "{table}"'):  # a name out of the file itself
                    yield b"\n".join(cell if isinstance(cell, bytes) else str(cell).encode() for cell in row)
    elif start.startswith(b"\x1f\x8b"):
        with suppress(OSError, EOFError):
            yield gzip.decompress(path.read_bytes())
