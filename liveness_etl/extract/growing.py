"""A manifest that grows: the objects below a prefix (or behind a glob), to which new ones are added all the time.

Which of them are worth a look is decided by their times alone, before any of them is opened.
"""

import glob
import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Final

from liveness_etl.errors import NoManifest
from liveness_etl.extract.manifest_files import InputFile, Inputs, format_of, unknown_extension, without_query

CLOCK_SLACK_SECONDS: Final = 60.0
"""By so much the clocks of a backend and of its store may differ."""

Version = bytes
"""Of an object: a digest of its address, ETag and size. The address itself may name a session."""


@dataclass(frozen=True)
class GrowingFile:
    """An object of a growing manifest; `date` is the partition of its lines without created_at."""

    file: InputFile
    date: date | None

    @cached_property
    def version(self) -> Version:
        """What it is remembered by."""
        told = f"{self.file.uri}\n{self.file.etag}\n{self.file.size}"
        return hashlib.blake2b(told.encode(errors="surrogateescape"), digest_size=16).digest()


@dataclass(frozen=True)
class Listing:
    """What is there: objects, and sentences on those that are no manifest by their names."""

    files: tuple[GrowingFile, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sorted:
    """Objects that are not done: those that may name living sessions, those whose sessions have all expired (the
    youngest first), and how many are left alone, since they have not changed for too long."""

    fresh: tuple[GrowingFile, ...]
    expired: tuple[GrowingFile, ...]
    left_alone: int


def is_growing(uri: str) -> bool:
    """Whether a manifest's address stands for objects that come and go: an s3:// prefix or a local glob."""
    if uri.startswith("s3://"):
        return uri.endswith("/")
    return "://" not in uri and glob.has_magic(uri) and not Path(uri).exists()


def considered_dates(run_date: date, lookback_days: int) -> list[date]:
    """The date and as many days before it, in their order."""
    return [run_date - timedelta(days=days) for days in range(lookback_days, -1, -1)]


def list_growing(uri: str, dates: Sequence[date | None], inputs: Inputs | None, *, must_exist: bool) -> Listing:
    """The objects behind the address, `{date}` in it being each of `dates` in turn.

    Raises ManifestError where a glob or a `{date}` matches nothing and `must_exist`, StoreError where S3 fails.
    """
    dated = "{date}" in uri
    found = [
        GrowingFile(file, day)
        for day in (dates if dated else dates[-1:])
        for file in _find(uri.replace("{date}", day.isoformat()) if dated and day else uri, inputs)
    ]
    if not found and must_exist and (dated or not uri.startswith("s3://")):
        raise NoManifest(f"Nothing matches {without_query(uri)}: check the pattern (and the --date, if it has one).")
    known = [each for each in found if format_of(each.file.uri) is not None]
    problems = [unknown_extension(each.file.uri) for each in found if format_of(each.file.uri) is None]
    return Listing(tuple(known), tuple(problems))


def sort_files(
    files: Iterable[GrowingFile], done: Collection[Version], *, now: float, ttl_seconds: float, first_day: date
) -> Sorted:
    """Sort objects that are not `done` by when they were written; nothing is known of what they hold."""
    oldest = datetime(first_day.year, first_day.month, first_day.day, tzinfo=UTC).timestamp()
    left = [each for each in files if each.version not in done]
    looked_at = [each for each in left if each.file.modified >= oldest]
    alive_since = now - ttl_seconds - CLOCK_SLACK_SECONDS
    return Sorted(
        fresh=tuple(each for each in looked_at if each.file.modified >= alive_since),
        expired=tuple(
            sorted(
                (each for each in looked_at if each.file.modified < alive_since),
                key=lambda each: each.file.modified,
                reverse=True,
            )
        ),
        left_alone=len(left) - len(looked_at),
    )


def first_chunk(files: tuple[GrowingFile, ...], *, most_bytes: int, most_files: int) -> tuple[GrowingFile, ...]:
    """The first objects up to a size, but at least one."""
    size = 0
    for number, each in enumerate(files[:most_files]):
        size += each.file.size
        if size > most_bytes:
            return files[: max(1, number)]
    return files[:most_files]


def _find(uri: str, inputs: Inputs | None) -> list[InputFile]:
    if uri.startswith("s3://"):
        if inputs is None:
            raise ValueError("an s3:// manifest needs inputs")
        # Markers such as `folder/` and `_SUCCESS` are empty: no id is lost with them.
        found = (InputFile(*each) for each in inputs.find(uri))
        return [file for file in found if file.size or format_of(file.uri)]
    files = []
    for name in sorted(set(glob.glob(uri, recursive=True))):  # noqa: PTH207 - Path.glob takes no absolute patterns
        try:
            status = Path(name).stat()
        except OSError:
            continue  # gone again
        if Path(name).is_file():
            files.append(InputFile(name, status.st_size, str(status.st_mtime_ns), status.st_mtime))
    return files
