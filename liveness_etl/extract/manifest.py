"""The manifest: which session ids to ask for, and which of its lines cannot be asked.

A manifest file is read in chunks, so that ten million ids need no more memory than ten thousand:

    file ─► bytes (hashed, decompressed) ─► blocks of lines ─► fields as columns ─► ids and rejects
            manifest_files                  manifest_lines     manifest_csv         manifest_check
                                                               manifest_json        manifest_time
                                                               manifest_parquet
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa

from liveness_etl.errors import ManifestError
from liveness_etl.extract.manifest_check import IDS, REJECTS, Rules, check_lines
from liveness_etl.extract.manifest_csv import split_csv
from liveness_etl.extract.manifest_files import (
    InputFile,
    Inputs,
    find_manifest,
    format_of,
    open_stored,
    read_pieces,
    without_query,
)
from liveness_etl.extract.manifest_json import split_json
from liveness_etl.extract.manifest_lines import Layout, Lines, ManifestOptions, read_blocks, split_text, too_many_bytes
from liveness_etl.extract.manifest_parquet import split_parquet

__all__ = [
    "IDS",
    "REJECTS",
    "Chunk",
    "InputFile",
    "Inputs",
    "ManifestOptions",
    "ManifestReader",
    "find_manifest",
    "read_manifest",
]

# About 60,000 lines of an id and a time: enough for Arrow to be fast, little enough to be forgotten.
BLOCK_BYTES = 512 << 10

_SPLIT = {"csv": split_csv, "json": split_json, "text": split_text}


@dataclass(frozen=True)
class Chunk:
    """Some lines of one file: `ids` has the columns of `IDS`, `rejects` those of `REJECTS`, by line number.

    `lines` counts the non-blank lines (a CSV header is none): always as many as ids and rejects together.
    """

    file: InputFile
    ids: pa.RecordBatch
    rejects: pa.RecordBatch
    lines: int


class ManifestReader:
    """Iterates over a manifest as `Chunk`s; each iteration reads the files again.

    Raises ManifestError for what is wrong with a file as a whole. Some of that (an unknown source everywhere,
    a damaged end) shows only after the last chunk: nothing should be asked before the iteration is over.
    """

    def __init__(
        self,
        files: Sequence[InputFile],
        options: ManifestOptions,
        rules: Rules,
        inputs: Inputs | None,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self._files, self._options, self._rules = tuple(files), options, rules
        self._inputs, self._block_bytes = inputs, block_bytes
        self._required = {options.session_id_column}
        if rules.run_date is None:
            self._required.add(options.created_at_column)
        if rules.default_source is None:
            self._required.add(options.source_column)
        self._bytes = 0
        self._sha256: str | None = None

    @property
    def sha256(self) -> str:
        """The hash of all files as stored, one after the other, in hexadecimal. ValueError before the end."""
        if self._sha256 is None:
            raise ValueError("the manifest has not been read to its end")
        return self._sha256

    def __iter__(self) -> Iterator[Chunk]:
        digest = hashlib.sha256()
        self._bytes, self._sha256 = 0, None
        wrong_source = known_source = False
        for file in self._files:
            if not file.size:
                continue
            name = without_query(file.uri)
            for lines in self._split(file, name, digest):
                ids, rejects, known = check_lines(lines, name, self._options, self._rules)
                known_source |= known
                wrong_source |= len(lines.numbers) > 0 and not known
                if count := ids.num_rows + rejects.num_rows:
                    yield Chunk(file, ids, rejects, count)
        if wrong_source and not known_source:
            raise ManifestError(
                f"No line of the manifest names one of [sources] ({', '.join(self._rules.sources)}):"
                f" correct its column {self._options.source_column!r}, or set manifest.source_column."
            )
        self._sha256 = digest.hexdigest()

    def _split(self, file: InputFile, name: str, digest: "hashlib._Hash") -> Iterator[Lines]:
        layout = Layout(name, self._options, frozenset(self._required))
        file_format = format_of(file.uri)
        if file_format is None:
            raise ValueError("files come from find_manifest")
        with open_stored(file, self._inputs) as raw:
            if file_format.name != "parquet":
                pieces = self._counted(read_pieces(raw, file_format.compression, name, digest, self._block_bytes))
                blocks = read_blocks(pieces, self._options.max_line_bytes)
                yield from _SPLIT[file_format.name](blocks, layout)
            else:
                # Parquet is not read from front to end, hence a pass of its own for the hash.
                for _ in read_pieces(raw, None, name, digest, self._block_bytes):
                    pass
                raw.seek(0)
                yield from split_parquet(raw, layout, self._count)

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._count(len(piece))
            yield piece

    def _count(self, read: int) -> None:
        self._bytes += read
        if self._bytes > self._options.max_bytes:
            raise too_many_bytes(self._options.max_bytes)


def read_manifest(
    files: Sequence[InputFile],
    options: ManifestOptions,
    *,
    run_date: date | None,
    sources: tuple[str, ...],
    default_source: str | None,
    now: datetime,
    inputs: Inputs | None,
) -> ManifestReader:
    """Read what `find_manifest` found: a reader that yields `Chunk`s and then knows the manifest's `sha256`.

    `run_date` is the partition of lines without a plausible created_at. `sources` are the names under
    `[sources]`, `default_source` is the one of lines that name none (None where there are several). `now` is
    aware of its time zone.
    """
    return ManifestReader(files, options, Rules(run_date, sources, default_source, now), inputs)
