"""Inline image bytes → stored objects and references; nothing of an image goes anywhere else.

`<images.uri>/dt=D/<session_id>/reference.jpg` or `audit-<index>.jpg`. The extension follows the first bytes.
"""

import hashlib
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from typing import Final

from liveness_etl.errors import Conflict, StoreError
from liveness_etl.storage import ABSENT, Purged, Store
from liveness_etl.transform.result import Answer, Image, KeepImages, SessionResult

_PARTITIONS_AT_ONCE: Final = 8


def discard_images(answer: Answer, dt: date) -> tuple[SessionResult, bool]:
    """Keep only size and hash of inline bytes (`images.mode = "discard"`)."""
    images = tuple(
        _measured(image, content) for image, content in zip(answer.result.images, answer.image_bytes, strict=True)
    )
    return replace(answer.result, images=images), True


def store_images(store: Store, prefix: str) -> KeepImages:
    """A KeepImages that writes inline bytes below `prefix` of the store (`images.mode = "store"`).

    A failed write never raises: the image stays without a reference, and the second value is False.
    """

    def keep(answer: Answer, dt: date) -> tuple[SessionResult, bool]:
        if not any(answer.image_bytes):
            return answer.result, True
        images, all_kept = [], True
        for image, content in zip(answer.result.images, answer.image_bytes, strict=True):
            measured = _measured(image, content)
            if content:
                folder = f"{prefix}dt={dt.isoformat()}/{answer.result.session_id}"
                try:
                    measured = replace(measured, image_uri=_put(store, folder, image, content))
                except StoreError:
                    all_kept = False
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


def _put(store: Store, folder: str, image: Image, content: bytes) -> str:
    name = "reference" if image.image_type == "reference" else f"audit-{image.image_index}"
    extension = _extension(content)
    digest = hashlib.sha256(content)
    path = f"{folder}/{name}{extension}"
    for candidate in (path, f"{folder}/{name}-{digest.hexdigest()[:8]}{extension}"):
        if _holds(store, candidate, content):
            return store.uri_of(candidate)
        try:
            store.put(candidate, content, expect=ABSENT, sha256=digest.digest())
        except Conflict:
            if not _holds(store, candidate, content):
                continue
        return store.uri_of(candidate)
    raise StoreError(f"{store.uri_of(path)} holds another image")


def _holds(store: Store, path: str, content: bytes) -> bool:
    """Whether these very bytes are stored there already."""
    found = store.head(path)
    if found is None or found.size != len(content):
        return False
    with store.open(path) as stored:
        return bytes(stored.read()) == content


def _measured(image: Image, content: bytes | None) -> Image:
    if not content:
        return image
    return replace(image, image_sha256=hashlib.sha256(content).hexdigest(), image_size_bytes=len(content))


def _extension(content: bytes) -> str:
    if content.startswith(b"\xff\xd8\xff"):
        return ".jpg"
    return ".png" if content.startswith(b"\x89PNG\r\n\x1a\n") else ".bin"
