"""What SIGINT and SIGTERM do to a flow run: drain it. No Prefect here, but for the server that it may have started."""

import os
import sys
import threading
from contextlib import AbstractContextManager
from typing import NoReturn

from liveness_etl import signals

STOP_SECONDS = 9.5
"""From the first signal to the end of the process, at most. The sweeps' drain_seconds are 8."""


def draining() -> AbstractContextManager[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets. A second one ends the process at once, and so does the end of
    STOP_SECONDS: publishing or a dead Prefect server could take longer, and neither needs to be waited for.

    Entered inside the flow, over Prefect's own handler, which would drop what is in flight. A flow that does not run
    in the main thread hears no signals.
    """
    return signals.draining(STOP_SECONDS, leave_at_once)


def leave_at_once() -> NoReturn:
    """End the process with exit code 3, and a server that Prefect started: os._exit alone would leave that behind."""
    prefect_server = sys.modules.get("prefect.server.api.server")
    for server in prefect_server.SubprocessASGIServer._instances.values() if prefect_server else ():
        if server.server_process is not None:
            server.server_process.kill()
    os._exit(3)
