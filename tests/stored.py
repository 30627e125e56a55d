"""Short ways to look into a store."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from liveness_etl.storage import Store


def read(store: Store, path: str) -> bytes:
    """The bytes of one object."""
    with store.open(path) as file:
        return bytes(file.read())


def paths(store: Store, prefix: str = "") -> list[str]:
    """The paths that a listing gives, without the lock files that a folder needs."""
    return [entry.path for entry in store.list(prefix) if not entry.path.startswith("_state/locks/")]


@contextmanager
def requests_of(
    s3: Any, operation: str, act: Callable[[dict[str, Any]], None] | None = None
) -> Iterator[list[dict[str, Any]]]:
    """The requests of one operation as they are sent; `act` may break one off."""
    sent: list[dict[str, Any]] = []

    def note(params: dict[str, Any], **_: object) -> None:
        sent.append(params)
        if act is not None:
            act(params)

    s3.meta.events.register(f"before-call.s3.{operation}", note)
    try:
        yield sent
    finally:
        s3.meta.events.unregister(f"before-call.s3.{operation}", note)
