"""The command line in a process that something happens to, or nothing.

A server process imports the program once and forks one child for each run (`multiprocessing`'s forkserver): every run
is a real process that is really killed, and none pays for the imports.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

import pandas  # noqa: F401 - what every child needs is imported before the fork

from liveness_etl import cli, display, pipeline  # noqa: F401
from liveness_etl.local import LocalRekognition  # noqa: F401
from liveness_etl.storage_s3 import s3_client  # noqa: F401
from tests.crash import boundaries

Mishap = Callable[[], Callable[[], None] | None]
"""Sets up what shall happen to the process; what it returns is called when the command is done."""

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload([__name__])
_one_at_a_time = threading.Lock()  # multiprocessing's own list of children knows no threads


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code (minus the signal's number if one killed it), and what it said."""

    code: int | None
    said: str


class Running:
    """`liveness-etl ARGUMENTS` in a process of its own."""

    def __init__(
        self, arguments: tuple[str, ...], environment: Mapping[str, str], said: Path, mishap: Mishap | None = None
    ) -> None:
        self._said = said
        said.write_text("")
        self._process = _forks.Process(target=_run, args=(arguments, dict(environment), said, mishap))
        with _one_at_a_time:
            self._process.start()

    def said(self) -> str:
        """What it has said so far."""
        return self._said.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def wait(self, seconds: float = 120) -> Ended:
        """Its end. A process that does not end in time is killed, and its exit code is None."""
        wait([self._process.sentinel], seconds)
        with _one_at_a_time:
            self._process.join(0)
            code = self._process.exitcode
            if code is None:
                self._process.kill()
        return Ended(code, self.said())


def _run(arguments: tuple[str, ...], environment: dict[str, str], said: Path, mishap: Mishap | None) -> None:
    os.environ.update(environment)
    handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.argv = ["liveness-etl", *arguments]
    at_end = mishap() if mishap is not None else None
    try:
        cli.main()
    finally:
        if at_end is not None:
            at_end()


# What may happen


@dataclass(frozen=True)
class Place:
    """Where the output of a run stands: `uri` is a folder or an s3:// prefix; `state` is the state folder."""

    uri: str
    state: Path
    s3_endpoint: str = ""

    def watch(self, reach: boundaries.Reach) -> None:
        """Tell `reach` every boundary."""
        if self.s3_endpoint:
            boundaries.watch_s3(self.s3_endpoint, self.uri.removeprefix("s3://") + "/", reach)
        else:
            boundaries.watch_folder(Path(self.uri), self.state, reach)


@dataclass(frozen=True)
class Recorded:
    """Every boundary is written down, a line each."""

    place: Place
    into: Path

    def __call__(self) -> Callable[[], None]:
        lock = threading.Lock()

        def reach(name: str, first: object) -> None:
            with lock, self.into.open("a") as file:
                file.write(f"{name}\n")

        self.place.watch(reach)
        return lambda: reach("end", None)


@dataclass(frozen=True)
class KilledAt:
    """SIGKILL at the boundary `name`, when it is reached for the `time`th time (from 0)."""

    place: Place
    name: str
    time: int

    def __call__(self) -> Callable[[], None]:
        lock, times = threading.Lock(), Counter[str]()

        def reach(name: str, first: Callable[[], object]) -> None:
            with lock:
                if name == self.name:
                    times[name] += 1
                    if times[name] == self.time + 1:
                        first()
                        os.kill(os.getpid(), signal.SIGKILL)

        self.place.watch(reach)
        return lambda: reach("end", lambda: None)
