"""Rows into the landing zone, but none of an id that was erased, also where its answer was in flight meanwhile."""

import logging
from collections.abc import Callable, Collection, Sequence
from datetime import date

from liveness_etl.errors import NewerContract, StoreError
from liveness_etl.load.landing import Row, append_part, part_bytes
from liveness_etl.load.rewrite import erase_forgotten
from liveness_etl.load.tombstones import last_read, read_tombstones
from liveness_etl.storage import Store

log = logging.getLogger(__name__)

EraseImages = Callable[[Collection[str], date], object]
"""Erases the stored images of ids in a partition. Raises StoreError."""


def no_images(session_ids: Collection[str], dt: date) -> None:
    """Where no image was stored."""


def append_rows(store: Store, dt: date, name: str, rows: Sequence[Row], erase_images: EraseImages = no_images) -> None:
    """Land rows as one part under a new name, but none of an id that was erased. Raises StoreError.

    It looks for tombstones when the part is durable; `forget` writes its tombstone before it lists landing. So one of
    the two sees the other, whichever is first, and erases what was landed and the images that came before it.
    """
    session_ids = [str(row["session_id"]) for row in rows]
    known = last_read(store).among(session_ids)
    if kept := [row for row in rows if row["session_id"] not in known]:
        append_part(store, dt, name, part_bytes(kept))
    look_for_tombstones(store, dt, session_ids, erase_images)


def look_for_tombstones(store: Store, dt: date, session_ids: Sequence[str], erase_images: EraseImages) -> None:
    """Erase what a part, durable by now, holds of ids with a tombstone, and their images. Raises StoreError."""
    forgotten = read_tombstones(store).among(session_ids)
    if forgotten:
        try:
            erase_forgotten(store, dt, forgotten)
        except NewerContract as error:  # its publish erases these rows, too, and the part is durable
            log.warning("%s; then run the forget once more that erased sessions of %s", error, dt)
        try:
            erase_images(forgotten, dt)
        except StoreError as error:  # the other answers must not be lost for it
            log.warning("%s: run the forget once more that erased sessions of %s", error, dt)
