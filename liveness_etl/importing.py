"""Answers that a backend has read itself, landed as if they had been swept: what is final is then not asked again.

Every good copy becomes a landing row, repeated ids too (a backend that polls keeps CREATED and SUCCEEDED): publish
takes the best row of an id as always, so importing a file twice changes no table. Nothing is asked, so no lease.
"""

import hashlib
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final

from liveness_etl.errors import ManifestError, StoreError, UsageError
from liveness_etl.extract import rekognition
from liveness_etl.extract.ask import Origin, answer_row
from liveness_etl.extract.copied_answers import Copies, Copy, copy_reader, read_copies
from liveness_etl.extract.manifest_check import Rules
from liveness_etl.extract.manifest_files import (
    Format,
    InputFile,
    Inputs,
    find_manifest,
    format_of,
    open_stored,
    read_pieces,
    without_query,
)
from liveness_etl.extract.plan import Plan
from liveness_etl.job import Job, image_eraser, inputs_for, keep_images, manifest_options, open_output, source_region
from liveness_etl.load import records, rewrite
from liveness_etl.load.landing_writer import LandingWriter, hurry_after
from liveness_etl.load.tombstones import read_tombstones
from liveness_etl.run_report import started_row
from liveness_etl.storage import Store
from liveness_etl.transform.result import KeepImages, SessionResult

STANDARD_INPUT: Final = "-"

_PIECE_BYTES: Final = 512 << 10
_STORED_AT_ONCE: Final = 16  # answers whose images are being stored: each holds about a MiB


@dataclass
class ImportCounts:
    """Where an import stands, in documents. `unstored` are those of `accepted` that lost an image to the store.

    `reasons` counts the rejects by reason, and `first` says where the first of each stands.
    """

    accepted: int = 0
    forgotten: int = 0
    unstored: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    @property
    def rejected(self) -> int:
        return self.reasons.total()


@dataclass(frozen=True)
class ImportReport:
    """What an import came to: its `runs` row, its counts, and the exit code."""

    row: Mapping[str, Any]
    counts: ImportCounts
    exit_code: int


def import_answers(
    job: Job,
    files: Sequence[str],
    *,
    source: str | None = None,
    stop: threading.Event | None = None,
    progressed: Callable[[ImportCounts], None] = lambda counts: None,
) -> ImportReport:
    """Land the copied answers in `files` (paths, globs, s3:// addresses; `-` is standard input), and record it.

    `source` is that of documents that name none. `stop`, once set, ends it early: then the same import again is
    right. Raises LivenessError.
    """
    stop = stop or threading.Event()
    store = open_output(job.settings)
    origins = {name: Origin(name, source_region(config), job.run_id) for name, config in job.sources.items()}
    if source is not None and source not in origins:
        raise UsageError(f"--source {source} is not one of [sources] ({', '.join(origins)})")
    inputs = inputs_for(files, job.settings)
    found = [file for name in files for file in _find(job, name, inputs)]
    counts, digest = ImportCounts(), hashlib.sha256()
    row = started_row(job, Plan(0, 0, 0, 0, 0, (), ()), None)
    records.write_run(store, row)
    rules = Rules(job.run_date, tuple(origins), source or _only(origins), job.started_at)
    with store.scratch() as folder, records.rejects_file(folder, job.run_id) as rejects:
        copies = _accepted(store, _read(job, found, inputs, rules, digest), counts, rejects, stop)
        writer = _land(job, store, origins, copies, counts, stop, progressed)
        rejects.put(store, job.started_at)
    if job.settings.publish.fold and not stop.is_set():
        rewrite.fold_crowded(store, writer.partitions)
    landed = writer.by_outcome.total()
    row |= {
        "finished_at": max(datetime.now(UTC), job.started_at),  # a clock may be set back meanwhile
        "manifest_sha256": None if stop.is_set() else digest.hexdigest(),
        "lines": landed + counts.rejected + counts.forgotten,
        "requested": landed,
        "rejected": counts.rejected,
        "forgotten": counts.forgotten,
        "landed": landed,
        "by_outcome": sorted(writer.by_outcome.items()),
        "completed": not stop.is_set(),
    }
    records.write_run(store, row)
    if counts.rejected and not (landed or counts.forgotten or stop.is_set()):
        reason, where = next(iter(counts.first.items()))
        raise UsageError(
            f"none of {counts.rejected:,} lines is an answer of GetFaceLivenessSessionResults, nothing was landed; "
            f"the first, {where}: {reason}"
        )
    return ImportReport(row, counts, 3 if stop.is_set() or counts.unstored else 0)


def _land(
    job: Job,
    store: Store,
    origins: Mapping[str, Origin],
    copies: Iterable[Copy],
    counts: ImportCounts,
    stop: threading.Event,
    progressed: Callable[[ImportCounts], None],
) -> LandingWriter:
    writer = LandingWriter(
        store,
        job.run_id,
        "import",
        checkpoint_seconds=job.settings.sweep.checkpoint_seconds,
        erase_images=image_eraser(job.settings),
    )
    try:
        for copy, result, all_kept in _with_images(copies, keep_images(job.settings)):
            while not (writer.gave_up or stop.is_set() or writer.wait_for_room(1.0)):
                pass
            if writer.gave_up:
                break
            counts.unstored += not all_kept
            row = answer_row(
                origins[copy.source],
                copy.ask,
                result,
                all_kept=all_kept,
                fetched_at=copy.fetched_at,
                attempts=copy.attempts,
            )
            writer.land(copy.ask.dt, row)
            progressed(counts)
    finally:
        rescued = writer.close(hurry_until=hurry_after(stop))
    if rescued:
        raise StoreError(
            f"{writer.failure or 'the output did not take the last answers in time'}; what was read is safe in "
            f"{rescued[0].parent.parent}, and the next run lands it: import the same files again for the rest"
        )
    return writer


def _only(names: Mapping[str, object]) -> str | None:
    return next(iter(names)) if len(names) == 1 else None


def _find(job: Job, name: str, inputs: Inputs | None) -> list[InputFile]:
    if name == STANDARD_INPUT:
        return [InputFile(name, 0, "")]
    found = find_manifest(name, job.run_date, inputs)
    for file in found:
        if (form := format_of(file.uri)) is None or form.name != "json":
            raise UsageError(
                f"{without_query(file.uri)} is no JSON Lines: import reads .jsonl, .ndjson and .json, "
                "each also with .gz or .zst"
            )
    return found


def _read(
    job: Job, files: Sequence[InputFile], inputs: Inputs | None, rules: Rules, digest: "hashlib._Hash"
) -> Iterator[Copies]:
    options, read_members = manifest_options(job.settings), copy_reader(rekognition.answer_shape())
    for file in files:
        name = "standard input" if file.uri == STANDARD_INPUT else without_query(file.uri)
        form = format_of(file.uri) or Format("json")
        with _opened(file, inputs) as raw:
            pieces = read_pieces(raw, form.compression, name, digest, _PIECE_BYTES)
            yield from read_copies(_limited(pieces, name, options.max_bytes), name, options, rules, read_members)


def _opened(file: InputFile, inputs: Inputs | None) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if file.uri == STANDARD_INPUT else open_stored(file, inputs)


def _limited(pieces: Iterable[bytes], name: str, max_bytes: int) -> Iterator[bytes]:
    read = 0
    for piece in pieces:
        read += len(piece)
        if read > max_bytes:
            raise ManifestError(
                f"{name} has more than {max_bytes:,} bytes after decompression: split it, or raise manifest.max_bytes."
            )
        yield piece


def _accepted(
    store: Store,
    chunks: Iterable[Copies],
    counts: ImportCounts,
    rejects: records.RejectsFile,
    stop: threading.Event,
) -> Iterator[Copy]:
    """The copies to land; the others are counted, and end in `rejects`."""
    for copies in chunks:
        rejects.add(copies.rejects)
        for rejected in copies.rejects.to_pylist():
            counts.reasons[rejected["reason"]] += 1
            counts.first.setdefault(rejected["reason"], f"{rejected['manifest_uri']} line {rejected['line_number']}")
        erased = read_tombstones(store).among(copy.ask.session_id for copy in copies.found)
        for copy in copies.found:
            if stop.is_set():
                return
            if copy.ask.session_id in erased:
                counts.forgotten += 1
            else:
                counts.accepted += 1
                yield copy


def _with_images(copies: Iterable[Copy], keep: KeepImages) -> Iterator[tuple[Copy, SessionResult, bool]]:
    """Each copy with its result and whether all of its images are stored: several at a time, in their order."""
    with ThreadPoolExecutor(_STORED_AT_ONCE, "images") as pool:
        storing: deque[tuple[Copy, Future[tuple[SessionResult, bool]]]] = deque()
        for copy in copies:
            storing.append((copy, pool.submit(keep, copy.answer, copy.ask.dt)))
            if len(storing) == _STORED_AT_ONCE:
                first, kept = storing.popleft()
                yield first, *kept.result()
        for first, kept in storing:
            yield first, *kept.result()
