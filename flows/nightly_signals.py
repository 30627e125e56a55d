"""What SIGINT and SIGTERM do to a flow run: drain it. No Prefect here, but for the server that it may have started."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from liveness_etl import logs

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOP_SECONDS = 9.5
"""From the first signal to the end of the process, at most. The sweeps' drain_seconds are 8."""


@contextmanager
def draining() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set the event. A second one ends the process at once, and so does the end of STOP_SECONDS:
    publishing or a dead Prefect server could take longer, and neither needs to be waited for.

    Entered inside the flow, over Prefect's own handler, which would drop what is in flight. A flow that does not run
    in the main thread hears no signals.
    """
    stop, heard = threading.Event(), False

    def on_signal(number: int, frame: object) -> None:
        nonlocal heard
        if heard:
            leave_at_once()
        heard = True
        stop.set()
        signal.signal(signal.SIGALRM, on_signal)
        signal.setitimer(signal.ITIMER_REAL, STOP_SECONDS)
        logs.say_in_a_signal("stopping: finishing what is in flight, then landing it (again to stop at once)")

    in_main_thread = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, on_signal) for number in SIGNALS} if in_main_thread else {}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_at_once() -> NoReturn:
    """End the process with exit code 3, and a server that Prefect started: os._exit alone would leave that behind."""
    prefect_server = sys.modules.get("prefect.server.api.server")
    for server in prefect_server.SubprocessASGIServer._instances.values() if prefect_server else ():
        if server.server_process is not None:
            server.server_process.kill()
    os._exit(3)
