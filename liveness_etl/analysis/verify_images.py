"""Images that this program stored: each there, with the size and the SHA-256 that its row says.

Nothing is opened but what a listing of the image stores gave: an address in a row decides what an image is held
against, never what is read. Images that AWS wrote to a bucket (an S3Object, without a hash) are not looked at.
"""

import contextlib
import hashlib
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from liveness_etl.analysis.findings import EXAMPLES, Finding, finding
from liveness_etl.analysis.verify_rows import parquet_sql
from liveness_etl.engine import open_engine
from liveness_etl.errors import Missing, StoreError
from liveness_etl.load.images import ImagePlace
from liveness_etl.load.publish import table_path
from liveness_etl.storage import Store

_AT_ONCE: Final = 32
_WAITING: Final = 4 * _AT_ONCE
_CHUNK_BYTES: Final = 1024 * 1024
_LISTED_ROWS: Final = 10_000
_BATCH_ROWS: Final = 4_096
_SESSION_FOLDER: Final = re.compile(r"(/dt=[\d-]+/)[^/:]+")


@contextlib.contextmanager
def _errors_without_ids() -> Iterator[None]:
    """An image's path holds a session id; what is said about the image does not."""
    try:
        yield
    except StoreError as error:
        raise type(error)(_SESSION_FOLDER.sub(r"\1…", str(error))) from None


@_errors_without_ids()
def verify_images(
    boxes: Path,
    landed: Sequence[Path] | None,
    places: Sequence[ImagePlace],
    dt: date,
    scratch: Path,
    memory_limit: str,
    *,
    hash_images: bool,
) -> tuple[int, list[Finding]]:
    """How many images the rows of a partition refer to, and the findings. Raises StoreError.

    `boxes` is its `bounding_boxes` file; `landed` are its landing parts, or None where they are damaged.
    """
    with open_engine(scratch, memory_limit) as engine:
        listed = _list_images(engine, places, dt)
        engine.execute(
            "CREATE VIEW wanted AS "
            "SELECT session_id, image_uri AS uri, image_sha256 AS sha256, image_size_bytes AS size "
            f"FROM {parquet_sql(boxes)} WHERE image_uri IS NOT NULL AND (s3_name IS NULL OR image_sha256 IS NOT NULL)"
        )
        bases = [_base(place, dt) for place in places]
        within = " OR ".join("starts_with(uri, ?)" for _ in bases)
        counts = {
            "image-elsewhere": _ids_of(
                engine, f"SELECT session_id FROM wanted WHERE sha256 IS NULL OR NOT ({within})", bases
            ),
            "image-missing": _ids_of(
                engine,
                f"SELECT session_id FROM wanted ANTI JOIN listed USING (uri) WHERE sha256 IS NOT NULL AND ({within})",
                bases,
            ),
            "image-altered": _ids_of(
                engine,
                "SELECT session_id FROM wanted JOIN listed USING (uri) "
                "WHERE sha256 IS NOT NULL AND wanted.size IS DISTINCT FROM listed.size",
                [],
            ),
        }
        wanted = engine.execute("SELECT count(*) FROM wanted").fetchall()[0][0]
        if hash_images:
            for check, session_id in _wrong_hashes(engine, places):
                counts[check].add(session_id)
        where = table_path("bounding_boxes", dt)
        findings = [finding(check, where, ids.count, ids.first) for check, ids in counts.items() if ids.count]
        if listed and landed:
            findings += _unreferenced(engine, landed, dt)
    return wanted, findings


class _Ids:
    """Counts session ids and keeps the first few."""

    def __init__(self, count: int, first: Sequence[str]) -> None:
        self.count, self.first = count, list(first)

    def add(self, session_id: str) -> None:
        self.count += 1
        self.first = sorted([*self.first, session_id])[:EXAMPLES]


def _ids_of(engine: duckdb.DuckDBPyConnection, sql: str, values: Sequence[str]) -> _Ids:
    count, first = engine.execute(f"SELECT count(*), min(session_id, {EXAMPLES}) FROM ({sql})", values).fetchall()[0]
    return _Ids(count, first or ())


def _base(place: ImagePlace, dt: date) -> str:
    store, prefix = place
    return store.uri_of(f"{prefix}dt={dt}/x")[:-1]


def _list_images(engine: duckdb.DuckDBPyConnection, places: Sequence[ImagePlace], dt: date) -> int:
    """Fill the table `listed` with the partition's stored images; returns how many there are."""
    engine.execute("CREATE TABLE listed (uri VARCHAR, place INTEGER, path VARCHAR, size BIGINT)")
    count = 0
    for number, (store, prefix) in enumerate(places):
        entries = store.list(f"{prefix}dt={dt}/")
        while some := list(islice(entries, _LISTED_ROWS)):
            rows = {
                "uri": [store.uri_of(entry.path) for entry in some],
                "place": [number] * len(some),
                "path": [entry.path for entry in some],
                "size": [entry.size for entry in some],
            }
            engine.register("chunk", pa.table(rows))
            engine.execute("INSERT INTO listed FROM chunk")
            engine.unregister("chunk")
            count += len(some)
    return count


def _wrong_hashes(engine: duckdb.DuckDBPyConnection, places: Sequence[ImagePlace]) -> Iterator[tuple[str, str]]:
    """(check, session_id) of the images of the right size that are gone by now or have another hash."""
    rows = engine.execute(
        "SELECT session_id, place, path, sha256 FROM wanted JOIN listed USING (uri) "
        "WHERE sha256 IS NOT NULL AND wanted.size = listed.size"
    ).to_arrow_reader(_BATCH_ROWS)
    waiting: deque[tuple[str, str, Future[str | None]]] = deque()

    def judged() -> Iterator[tuple[str, str]]:
        session_id, sha256, hashing = waiting.popleft()
        found = hashing.result()
        if found != sha256:
            yield ("image-missing" if found is None else "image-altered"), session_id

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for batch in rows:
            for session_id, number, path, sha256 in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                waiting.append((session_id, sha256, pool.submit(_sha256, places[number][0], path)))
                if len(waiting) >= _WAITING:
                    yield from judged()
        while waiting:
            yield from judged()


def _sha256(store: Store, path: str) -> str | None:
    digest = hashlib.sha256()
    try:
        with store.open(path) as image:
            while chunk := image.read(_CHUNK_BYTES):
                digest.update(chunk)
    except Missing:
        return None
    return digest.hexdigest()


def _unreferenced(engine: duckdb.DuckDBPyConnection, landed: Sequence[Path], dt: date) -> list[Finding]:
    ((count,),) = engine.execute(
        "SELECT count(*) FROM listed ANTI JOIN "
        f"(SELECT unnest(images).image_uri AS uri FROM {parquet_sql(*landed)}) AS landed USING (uri)"
    ).fetchall()
    return [finding("image-unreferenced", f"images/dt={dt}/", count)] if count else []
