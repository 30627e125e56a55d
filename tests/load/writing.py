"""A landing writer, and stores that fail it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from liveness_etl.load.landing_writer import LandingWriter
from liveness_etl.storage import Store
from liveness_etl.storage_folder import LocalStore


@contextmanager
def writing(store: Store, checkpoint_seconds: float = 60.0) -> Iterator[LandingWriter]:
    """A writer that is closed whatever happens, and writes no more when this is over."""
    writer = LandingWriter(store, "run-1", "default-0", checkpoint_seconds=checkpoint_seconds)
    try:
        yield writer
    finally:
        writer.close(0.1)
        writer._thread.join(60)
        assert not writer._thread.is_alive()


def wait_until(happened: Callable[[], Any], seconds: float = 60.0) -> float:
    """The seconds that it took."""
    started = time.monotonic()
    while not happened():
        assert time.monotonic() - started < seconds
        time.sleep(0.005)
    return time.monotonic() - started


@contextmanager
def refusing(store: LocalStore) -> Iterator[None]:
    """A store whose landing zone cannot be written: a file stands in its place."""
    store.root.mkdir(exist_ok=True)
    (store.root / "landing").write_text("")
    try:
        yield
    finally:
        (store.root / "landing").unlink()


class Stalled(LocalStore):
    """A store whose writes hang until they are released."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.released = threading.Event()
        self.entered = threading.Event()

    def put(self, *args: Any, **options: Any) -> str:
        self.entered.set()
        self.released.wait(10)
        return super().put(*args, **options)
