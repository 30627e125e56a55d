"""Reads a manifest the way the tests look at it: as plain rows."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from liveness_etl.extract.manifest import (
    IDS,
    REJECTS,
    InputFile,
    Inputs,
    ManifestOptions,
    ManifestReader,
    find_manifest,
)
from liveness_etl.extract.manifest_check import Rules

RUN_DATE = date(2026, 3, 1)
NOW = datetime(2026, 3, 2, tzinfo=UTC)
BLOCK_BYTES = 4 << 20


def session_id(number: int) -> str:
    """A session id that a reader can tell from others."""
    return f"{number:08x}-a111-4b22-8c33-d444e555f666"


@dataclass(frozen=True)
class Read:
    """All chunks of a manifest, as dictionaries, and its hash."""

    ids: list[dict[str, Any]]
    rejects: list[dict[str, Any]]
    lines: int
    sha256: str

    @property
    def reasons(self) -> list[tuple[int, str]]:
        return [(reject["line_number"], reject["reason"]) for reject in self.rejects]

    @property
    def numbers(self) -> list[int]:
        return [row["line_number"] for row in self.ids]


def read_files(
    files: Sequence[InputFile],
    options: ManifestOptions | None = None,
    *,
    run_date: date | None = RUN_DATE,
    sources: tuple[str, ...] = ("eu",),
    inputs: Inputs | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Read:
    """Read files to the end; every chunk must have the promised types and account for its lines."""
    rules = Rules(run_date, sources, sources[0] if len(sources) == 1 else None, NOW)
    reader = ManifestReader(files, options or ManifestOptions(), rules, inputs, block_bytes)
    ids: list[dict[str, Any]] = []
    rejects: list[dict[str, Any]] = []
    lines = 0
    for chunk in reader:
        chunk.ids.validate(full=True)
        chunk.rejects.validate(full=True)
        assert chunk.ids.schema.equals(IDS)
        assert chunk.rejects.schema.equals(REJECTS)
        assert chunk.lines == chunk.ids.num_rows + chunk.rejects.num_rows
        ids += chunk.ids.to_pylist(maps_as_pydicts="strict")
        rejects += chunk.rejects.to_pylist()
        lines += chunk.lines
    return Read(ids, rejects, lines, reader.sha256)


def read_path(path: Path | str, options: ManifestOptions | None = None, **settings: Any) -> Read:
    """Find and read a local manifest."""
    return read_files(find_manifest(str(path), RUN_DATE, None), options, **settings)


class Objects:
    """Objects in memory behind s3:// URIs; notes which were opened."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self._contents = contents
        self.opened: list[str] = []

    def find(self, uri: str) -> list[InputFile]:
        return [
            InputFile(name, len(content), "etag")
            for name, content in sorted(self._contents.items())
            if name == uri or (uri.endswith("/") and name.startswith(uri))
        ]

    def open(self, uri: str) -> Any:
        self.opened.append(uri)
        return io.BytesIO(self._contents[uri])
