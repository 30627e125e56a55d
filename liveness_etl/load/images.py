"""Inline image bytes → stored objects and references; nothing of an image goes anywhere else.

`<images.uri>/dt=D/<session_id>/reference.jpg` or `audit-<index>.jpg`. The extension follows the first bytes.
"""

import functools
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from typing import Final

from tenacity import Retrying, retry_if_exception_type, wait_random_exponential

from liveness_etl.errors import Conflict, Missing, StoreError, Unavailable
from liveness_etl.storage import ABSENT, Purged, Store
from liveness_etl.transform.result import Answer, Image, KeepImages, SessionResult

log = logging.getLogger(__name__)

ImagePlace = tuple[Store, str]
"""Where images are stored: a store, and a prefix in it that is empty or ends in `/`."""

_PARTITIONS_AT_ONCE: Final = 8
_PATIENCE_SECONDS: Final = 60.0


def discard_images(answer: Answer, dt: date) -> tuple[SessionResult, bool]:
    """Keep only size and hash of inline bytes (`images.mode = "discard"`)."""
    images = tuple(
        _measured(image, content) for image, content in zip(answer.result.images, answer.image_bytes, strict=True)
    )
    return replace(answer.result, images=images), True


def store_images(store: Store, prefix: str) -> KeepImages:
    """A KeepImages that writes inline bytes below `prefix` of the store (`images.mode = "store"`).

    A failed write never raises: the image stays without a reference, and the second value is False. A store that
    is out of reach is asked again for a minute an answer: hardly any image can be fetched a second time.
    """
    warned = threading.Event()
    held_before: dict[str, bool] = {}

    def stored_sizes(partition: str, folder: str) -> dict[str, int]:
        """Images of a session by path. A partition without any at this run's first look needs no other: that saves a
        request an answer, where there are most answers."""
        if partition not in held_before:
            held_before.setdefault(partition, next(store.list(partition), None) is not None)
        return {entry.path: entry.size for entry in store.list(folder)} if held_before[partition] else {}

    def keep(answer: Answer, dt: date) -> tuple[SessionResult, bool]:
        if not any(answer.image_bytes):
            return answer.result, True
        partition = f"{prefix}dt={dt.isoformat()}/"
        folder = f"{partition}{answer.result.session_id}/"
        session = _SessionImages(store, folder, functools.partial(stored_sizes, partition, folder))
        images, all_kept = [], True
        for image, content in zip(answer.result.images, answer.image_bytes, strict=True):
            measured = _measured(image, content)
            if content:
                try:
                    measured = replace(measured, image_uri=session.put(measured, content))
                except StoreError as error:
                    all_kept = False
                    if not warned.is_set():
                        warned.set()
                        reason = str(error).replace(answer.result.session_id, "…")
                        log.warning("an image is lost unless a rerun can fetch it again: %s", reason)
            images.append(measured)
        return replace(answer.result, images=tuple(images)), all_kept

    return keep


def erase_images(store: Store, prefix: str, session_ids: Collection[str], dt: date | None = None) -> Purged:
    """Erase what is stored below `prefix` of these ids, in one partition or in all, with all old versions.

    Found by its place, so images without a row go too. Raises StoreError, which names no id.
    """
    partitions = image_partitions(store, prefix) if dt is None else [f"dt={dt.isoformat()}"]
    below = sorted(session_ids)
    with ThreadPoolExecutor(_PARTITIONS_AT_ONCE) as pool:
        erased = pool.map(lambda name: store.purge(f"{prefix}{name}/", below=below, current=True), partitions)
        return sum(erased, Purged())


def image_partitions(store: Store, prefix: str) -> Sequence[str]:
    """The folders `dt=D` below `prefix`, those with nothing but old versions too."""
    return [name for name in store.folders(prefix) if name.startswith("dt=")]


class _SessionImages:
    """Where one session's images are stored; what an earlier run has stored already is not sent again."""

    def __init__(self, store: Store, folder: str, stored_sizes: Callable[[], dict[str, int]]) -> None:
        self._store, self._folder, self._stored_sizes = store, folder, stored_sizes
        self._sizes: dict[str, int] | None = None
        give_up_at = time.monotonic() + _PATIENCE_SECONDS
        self._retrying = Retrying(
            retry=retry_if_exception_type(Unavailable),
            wait=wait_random_exponential(0.2, max=5.0),
            stop=lambda _: time.monotonic() >= give_up_at,
            reraise=True,
        )
        self._given_up: StoreError | None = None

    def put(self, image: Image, content: bytes) -> str:
        """The address of these bytes, stored now or before. Raises StoreError."""
        if self._given_up is not None:
            raise self._given_up
        try:
            return self._retrying(self._put, image, content)
        except Unavailable as error:
            self._given_up = error
            raise

    def _put(self, image: Image, content: bytes) -> str:
        if self._sizes is None:
            self._sizes = self._stored_sizes()
        assert image.image_sha256 is not None
        name = "reference" if image.image_type == "reference" else f"audit-{image.image_index}"
        extension = _extension(content)
        for candidate in (f"{name}{extension}", f"{name}-{image.image_sha256[:8]}{extension}"):
            path = f"{self._folder}{candidate}"
            if path not in self._sizes:
                try:
                    self._store.put(path, content, expect=ABSENT, sha256=bytes.fromhex(image.image_sha256))
                    return self._store.uri_of(path)
                except Conflict:  # another run, or our own first try, whose answer was lost
                    self._sizes[path] = len(content)
            if self._sizes[path] == len(content) and self._holds(path, content):
                return self._store.uri_of(path)
        raise StoreError(f"{self._store.uri_of(self._folder)} holds other images under all names of this one")

    def _holds(self, path: str, content: bytes) -> bool:
        try:
            with self._store.open(path) as stored:
                return bytes(stored.read()) == content
        except Missing:
            return False


def _measured(image: Image, content: bytes | None) -> Image:
    if not content:
        return image
    return replace(image, image_sha256=hashlib.sha256(content).hexdigest(), image_size_bytes=len(content))


def _extension(content: bytes) -> str:
    if content.startswith(b"\xff\xd8\xff"):
        return ".jpg"
    return ".png" if content.startswith(b"\x89PNG\r\n\x1a\n") else ".bin"
