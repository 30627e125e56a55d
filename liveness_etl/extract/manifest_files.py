"""Which files a manifest consists of, and their bytes."""

import glob
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import pyarrow as pa

from liveness_etl.errors import ManifestError, NoManifest

TEXT_FORMATS = {".csv": "csv", ".jsonl": "json", ".ndjson": "json", ".json": "json", ".txt": "text"}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


class InputFile(NamedTuple):
    """A file of the manifest: a local path or an s3:// URI, its bytes as stored, what tells its version, and when
    that was written (epoch seconds)."""

    uri: str
    size: int
    etag: str
    modified: float = 0.0


class Inputs(Protocol):
    """The objects behind s3:// URIs."""

    def find(self, uri: str) -> Sequence[tuple[str, int, str, float]]:
        """`InputFile`s: the object, or all below a prefix that ends in `/`, by name; none if there is none."""
        ...

    def open(self, uri: str) -> BinaryIO:
        """The object's bytes, seekable."""
        ...


@dataclass(frozen=True)
class Format:
    """`csv`, `json` (one object per line), `text` or `parquet`, and `gzip` or `zstd` where that is on top."""

    name: str
    compression: str | None = None


def without_query(uri: str) -> str:
    """A URI as it may be shown and kept: a query string could hold credentials. Local names may have a ?."""
    return uri.partition("?")[0] if "://" in uri else uri


def format_of(uri: str) -> Format | None:
    """The format that a file's name tells, or None if its extension is unknown."""
    suffixes = [suffix.lower() for suffix in Path(without_query(uri).rpartition("/")[2]).suffixes]
    last = suffixes[-1] if suffixes else ""
    if last == ".parquet":
        return Format("parquet")
    compression = COMPRESSIONS.get(last)
    if compression is not None:
        last = suffixes[-2] if len(suffixes) > 1 else ""
    return Format(TEXT_FORMATS[last], compression) if last in TEXT_FORMATS else None


def find_manifest(uri: str, run_date: date | None, inputs: Inputs | None) -> list[InputFile]:
    """The files behind a local path, a glob or an s3:// URI (an object, or a prefix ending in `/`), by name.

    `{date}` becomes `run_date` as YYYY-MM-DD. A prefix without objects gives [], unless `{date}` is in it.
    Raises ManifestError where nothing is found, and for names that do not tell their format.
    """
    dated = "{date}" in uri
    if dated:
        if run_date is None:
            raise ManifestError(f"The manifest {without_query(uri)} has {{date}} in it: give the run a --date.")
        uri = uri.replace("{date}", run_date.isoformat())
    if uri.startswith("s3://"):
        if inputs is None:
            raise ValueError("an s3:// manifest needs inputs")
        files = _find_objects(uri, inputs, dated)
    elif re.match(r"[a-z][a-z0-9+.-]*://", uri, re.IGNORECASE):
        raise ManifestError(
            f"The manifest {without_query(uri)} is neither a local path nor an s3:// URI: copy it to one."
        )
    else:
        try:
            files = _find_local(uri)
        except (OSError, ValueError) as problem:
            raise ManifestError(
                f"The manifest {uri!r} cannot be read ({_why(problem)}): check its name and rights."
            ) from problem
    for file in files:
        if format_of(file.uri) is None:
            raise ManifestError(unknown_extension(file.uri))
    return files


def unknown_extension(uri: str) -> str:
    """What to say of a file whose name does not tell its format."""
    name = without_query(uri)
    suffix = "".join(Path(name).suffixes[-2:])
    return (
        f"{name} has an unknown extension{f' ({suffix})' if suffix else ''}: it must end in .csv, .jsonl, .ndjson,"
        " .json or .txt (each also with .gz or .zst), or in .parquet."
    )


def _find_objects(uri: str, inputs: Inputs, dated: bool) -> list[InputFile]:
    files = [InputFile(*found) for found in inputs.find(uri)]
    shown = without_query(uri)
    if not files and not uri.endswith("/"):
        raise NoManifest(f"There is no object {shown}: check the name (a prefix must end in /, * is for local paths).")
    if not files and dated:
        raise NoManifest(f"There is no object below {shown}: check the --date, or wait for that day's manifest.")
    if not uri.endswith("/"):
        return files
    # Markers such as `folder/` and `_SUCCESS` are empty: no id is lost with them.
    return [file for file in files if file.size or format_of(file.uri)]


def _find_local(uri: str) -> list[InputFile]:
    path = Path(uri)
    if path.is_dir():
        raise ManifestError(f"The manifest {uri} is a folder: give a glob such as {path / '*.csv'}.")
    if path.exists() or not glob.has_magic(uri):
        found = [path]
    else:
        # Path.glob takes no absolute patterns.
        names = sorted(set(glob.glob(uri, recursive=True)))  # noqa: PTH207
        found = [Path(name) for name in names if not Path(name).is_dir()]
    if not found:
        raise NoManifest(f"No file matches {uri}: check the pattern (and the --date, if it has one).")
    for path in found:
        if not path.exists():
            raise NoManifest(f"There is no file {path}: check its name (and the --date, if it has one).")
        if not path.is_file():
            raise ManifestError(f"The manifest {path} is no regular file: give a file that can be read twice.")
        path.open("rb").close()
    return [_local_file(path) for path in found]


def _local_file(path: Path) -> InputFile:
    found = path.stat()
    return InputFile(str(path), found.st_size, str(found.st_mtime_ns), found.st_mtime)


def _why(problem: Exception) -> str:
    return problem.strerror if isinstance(problem, OSError) and problem.strerror else "no valid name"


def open_stored(file: InputFile, inputs: Inputs | None) -> BinaryIO:
    """A file's bytes as stored. Raises ManifestError if it has gone or cannot be read."""
    if "://" in file.uri:
        if inputs is None:
            raise ValueError("an s3:// manifest needs inputs")
        return inputs.open(file.uri)
    try:
        return Path(file.uri).open("rb")
    except OSError as problem:
        raise ManifestError(f"The manifest {file.uri} cannot be read ({_why(problem)}): check its rights.") from problem


class _Hashed(io.RawIOBase):
    """A stream that adds all that is read from it to a hash."""

    def __init__(self, raw: BinaryIO, digest: "hashlib._Hash") -> None:
        self._raw, self._digest = raw, digest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._raw.read(len(buffer))
        self._digest.update(data)
        buffer[: len(data)] = data
        return len(data)


def read_pieces(
    raw: BinaryIO, compression: str | None, name: str, digest: "hashlib._Hash", piece_bytes: int
) -> Iterator[bytes]:
    """The decompressed bytes of a stream, never more than `piece_bytes` at once, whatever they expand to.

    All bytes as stored go into `digest`. Concatenated gzip members and zstd frames are read as one. Raises
    ManifestError where the bytes end early or are none of this compression.
    """
    # Buffered, because Arrow asks for little at a time, and each read of an object is a request.
    stored = io.BufferedReader(_Hashed(raw, digest), piece_bytes)
    stream = pa.CompressedInputStream(pa.PythonFile(stored, "r"), compression) if compression else stored
    try:
        while piece := stream.read(piece_bytes):
            yield piece
    except OSError as problem:
        kind = f"as {compression} " if compression else ""
        raise ManifestError(f"{name} cannot be read {kind}to its end: it is damaged or incomplete.") from problem
