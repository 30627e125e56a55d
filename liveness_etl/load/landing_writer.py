"""Makes answers durable within seconds: a buffer of rows that a thread of its own lands.

No row is lost: rows leave the buffer only when they are durable, in the landing zone or, where the store cannot be
written, in a rescue part in this user's state folder, which the next run lands.

An id that was erased does not come back, also where its answer was in flight meanwhile: `append_rows` looks for
tombstones when a part is durable, which costs one listing a part. An answer that is left out still counts as landed
in the run's record: it was asked for, and no row tells of it.
"""

import contextlib
import math
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import date
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liveness_etl.errors import StoreError
from liveness_etl.load.append import EraseImages, append_rows, look_for_tombstones, no_images
from liveness_etl.load.landing import Row, append_part, check_version, part_bytes
from liveness_etl.storage import Store, rescue_folder

MOST_UNLANDED: Final = 5_000
"""Rows. No new call starts while more than these are unlanded."""

_PATIENCE_SECONDS: Final = 60.0
_HURRY_SECONDS: Final = 4.0  # for landing the last rows, from a stop on; half of what the process has left to live
_LEAST_SECONDS: Final = 1.0  # for that, where calls in flight took longer
_START_SHARE: Final = 0.75  # of checkpoint_seconds: the rest is for the write itself


class LandingWriter:
    """Lands rows every `checkpoint_seconds` or 5,000 rows, whichever is first.

    Part names start with `run_id` and `tag`, and are always new. `by_outcome` and `partitions` tell of the
    rows that are durable in the landing zone.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        tag: str,
        *,
        checkpoint_seconds: float,
        erase_images: EraseImages = no_images,
    ) -> None:
        self._store, self._stem, self._erase_images = store, f"{run_id}-{tag}", erase_images
        self._checkpoint_seconds = checkpoint_seconds
        self._period = checkpoint_seconds * _START_SHARE
        self.by_outcome: Counter[str] = Counter()
        self.partitions: set[date] = set()
        self._rows: list[tuple[date, Row]] = []
        self._writing: list[tuple[date, Row]] = []
        self._oldest = 0.0  # when the first of _rows came
        self._oldest_writing = 0.0
        self._give_up_at: float | None = None  # set by close
        self._failing_since: float | None = None
        self.failure: StoreError | None = None
        self.gave_up = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name=f"landing-{tag}", daemon=True)
        self._thread.start()

    def land(self, dt: date, row: Row) -> None:
        """Take a row; it is durable within `checkpoint_seconds`."""
        with self._changed:
            if not self._rows:
                self._oldest = time.monotonic()
            self._rows.append((dt, row))
            if len(self._rows) in (1, MOST_UNLANDED):
                self._changed.notify_all()

    def wait_for_room(self, timeout_seconds: float) -> bool:
        """True as soon as another answer may be fetched; False if the store still fails or lags."""
        if self._has_room():
            return True
        with self._changed:
            return self._changed.wait_for(self._has_room, timeout_seconds)

    def close(
        self, timeout_seconds: float = _PATIENCE_SECONDS, hurry_until: Callable[[], float | None] = lambda: None
    ) -> list[Path]:
        """Land what is left; what cannot be landed within the time is rescued, and its files are returned.

        `hurry_until` may bring the end nearer, as soon as it gives a time (of `time.monotonic`): see `hurry_after`.
        """
        self._give_up_in(timeout_seconds)
        hurrying = False
        while self._thread.is_alive() and time.monotonic() < (self._give_up_at or 0.0):
            if not hurrying and (until := hurry_until()) is not None:
                hurrying = True
                self._give_up_in(max(until - time.monotonic(), _LEAST_SECONDS))
            self._thread.join(0.05)
        with self._changed:
            left = self._writing + self._rows
            self._writing, self._rows = [], []
        if not left:
            return []
        folder = rescue_folder(self._store.uri)
        return [
            _write_private(folder / f"dt={dt.isoformat()}" / f"{self._name()}.parquet", part_bytes(rows))
            for dt, rows in _by_partition(left).items()
        ]

    def _give_up_in(self, seconds: float) -> None:
        with self._changed:
            self._give_up_at = min(time.monotonic() + seconds, self._give_up_at or math.inf)
            self._changed.notify_all()

    def _has_room(self) -> bool:
        if self._failing_since is not None or len(self._rows) + len(self._writing) >= MOST_UNLANDED:
            return False
        # A store that has not failed yet, but does not answer either, must not let more than a checkpoint pile up.
        return not self._writing or time.monotonic() - self._oldest_writing < self._checkpoint_seconds

    def _work(self) -> None:
        try:
            self._land_until_closed()
        finally:
            with self._changed:  # after a bug too: nobody shall wait for room that never comes
                self.gave_up = bool(self._writing or self._rows)
                self._changed.notify_all()

    def _land_until_closed(self) -> None:
        delay = 0.2
        while True:
            with self._changed:
                if not self._due():
                    self._changed.wait(self._seconds_left())
                    continue
                if not self._rows and not self._writing:
                    return
                self._oldest_writing = self._oldest_writing if self._writing else self._oldest
                self._writing += self._rows
                self._rows = []
            try:
                self._write()
            except StoreError as error:
                if self._give_up(error, delay):
                    return
                delay = min(delay * 2, 5.0)
                continue
            delay = 0.2
            with self._changed:
                self._failing_since = self.failure = None
                self._changed.notify_all()

    def _due(self) -> bool:
        if self._give_up_at is not None or len(self._rows) >= MOST_UNLANDED or self._writing:
            return True
        return bool(self._rows) and time.monotonic() - self._oldest >= self._period

    def _seconds_left(self) -> float | None:
        return max(0.0, self._oldest + self._period - time.monotonic()) if self._rows else None

    def _write(self) -> None:
        for dt, rows in _by_partition(self._writing).items():
            append_rows(self._store, dt, self._name(), rows, self._erase_images)
            self.by_outcome.update(str(row["status"] or row["error_code"]) for row in rows)
            self.partitions.add(dt)
            with self._changed:
                self._writing = [pair for pair in self._writing if pair[0] != dt]
                self._changed.notify_all()

    def _give_up(self, error: StoreError, delay: float) -> bool:
        """Wait a little before the next try; True when the store has failed for too long."""
        with self._changed:
            self.failure = error
            now = time.monotonic()
            self._failing_since = self._failing_since or now
            give_up_at = self._give_up_at or self._failing_since + _PATIENCE_SECONDS
            if now >= give_up_at:
                return True
            self._changed.wait(min(delay, give_up_at - now))
            return False

    def _name(self) -> str:
        return f"{self._stem}-{uuid.uuid4().hex[:12]}"


def hurry_after(stop: threading.Event) -> Callable[[], float | None]:
    """For `LandingWriter.close`: None, and once it is seen that `stop` is set, the time four seconds from then."""
    until: float | None = None

    def hurry_until() -> float | None:
        nonlocal until
        if until is None and stop.is_set():
            until = time.monotonic() + _HURRY_SECONDS
        return until

    return hurry_until


def land_rescued(store: Store, erase_images: EraseImages = no_images) -> int:
    """Land the parts that an earlier run had to rescue for this store; returns how many there were.

    Raises StoreError, and NewerContract for a part that a newer version rescued.
    """
    parts = rescued_parts(store.uri)
    for part in parts:
        dt = date.fromisoformat(part.parent.name.removeprefix("dt="))
        with contextlib.suppress(FileNotFoundError):  # another run lands them at the same time
            content = part.read_bytes()
            session_ids = _rows(part, content).column("session_id").to_pylist()
            append_part(store, dt, f"{part.stem}-{uuid.uuid4().hex[:12]}", content)
            look_for_tombstones(store, dt, session_ids, erase_images)
            part.unlink()
    return len(parts)


def forget_rescued(store: Store, session_ids: Collection[str]) -> int:
    """Take the rows of these ids out of the rescue parts of this user for this store; returns how many they were."""
    forgotten = 0
    for part in rescued_parts(store.uri):
        with contextlib.suppress(FileNotFoundError):  # a run lands it at this moment, and finds the tombstones
            rows = _rows(part, part.read_bytes())
            gone = pc.is_in(rows.column("session_id"), pa.array(sorted(session_ids), pa.string()))
            if pc.any(gone).as_py():
                if not pc.all(gone).as_py():
                    kept = pa.BufferOutputStream()
                    pq.write_table(rows.filter(pc.invert(gone)), kept, compression="zstd", write_page_checksum=True)
                    _write_private(part.with_stem(f"{part.stem}-{uuid.uuid4().hex[:12]}"), bytes(kept.getvalue()))
                part.unlink()
                forgotten += pc.sum(gone).as_py()
    return forgotten


def _rows(part: Path, content: bytes) -> pa.Table:
    try:
        rows = pq.read_table(pa.BufferReader(content))
    except pa.ArrowException as error:
        raise StoreError(f"the rescue part {part} cannot be read ({type(error).__name__}): move it away") from None
    check_version(rows.schema.metadata, f"the rescue part {part}")
    return rows


def rescued_parts(store_uri: str) -> list[Path]:
    """What runs of this user could not land in the store at `store_uri`, and the next one will."""
    return sorted(rescue_folder(store_uri).glob("dt=*/*.parquet"))


def _by_partition(pairs: Sequence[tuple[date, Row]]) -> dict[date, list[Row]]:
    found: dict[date, list[Row]] = {}
    for dt, row in pairs:
        found.setdefault(dt, []).append(row)
    return found


def _write_private(path: Path, content: bytes) -> Path:
    partial = path.with_suffix(".partial")  # land_rescued must not meet half a part
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return partial.rename(path)
    except OSError as error:
        raise StoreError(f"answers are lost: neither the output nor {path} can be written: {error.strerror}") from None
