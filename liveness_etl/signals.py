"""SIGINT and SIGTERM, heard by a thread of their own.

Python runs a signal's handler on the main thread, when that comes to it. A handler that sets an Event may then wait
for ever for the Event's lock, which the main thread holds; and a library may put a handler of its own in its place.
What `signal.set_wakeup_fd` writes is there at once, whatever the main thread does and whose handler it is.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from liveness_etl import logs

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

signalled: Final = threading.Event()
"""Set by the first signal that somebody drained for."""


def exit_at_once() -> None:
    """End the process with the exit code of a run that was stopped; nothing that was landed can be lost."""
    os._exit(3)


@contextmanager
def draining(seconds: float, leave: Callable[[], None] = exit_at_once) -> Iterator[threading.Event]:
    """An event, which the first SIGINT or SIGTERM sets. A second one ends the process through `leave`, and so does the
    end of `seconds`, even if this context is over by then.

    On another thread than the main one no signal is heard.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    hears, tells = socket.socketpair()
    tells.setblocking(False)
    threading.Thread(target=_listen, args=[hears, stop, seconds, leave], name="signals", daemon=True).start()
    told_before = signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
    before = {number: signal.signal(number, _heard) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(told_before)
        tells.close()


def _heard(number: int, frame: object) -> None:
    """In place of what Python would do."""


def _listen(hears: socket.socket, stop: threading.Event, seconds: float, leave: Callable[[], None]) -> None:
    with hears:
        if not _hear(hears):
            return
        leave_at = time.monotonic() + seconds
        signalled.set()
        stop.set()
        logs.say_at_once("stopping: finishing what is in flight, then landing it (again to stop at once)")
        hears.settimeout(seconds)
        try:
            again = _hear(hears)
        except TimeoutError:
            again = True
    if not again:
        time.sleep(max(0.0, leave_at - time.monotonic()))
    leave()


def _hear(hears: socket.socket) -> bool:
    """Wait for one of SIGNALS; False when the context is over. Raises TimeoutError."""
    while heard := hears.recv(1):
        if heard[0] in SIGNALS:
            return True
    return False
