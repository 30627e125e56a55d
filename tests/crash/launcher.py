"""The command line in a process that something happens to, or nothing.

A server process imports the program once and forks one child for each run (`multiprocessing`'s forkserver): every run
is a real process that is really killed, and none pays for the imports.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from liveness_etl import cli

Mishap = Callable[[], Callable[[], None] | None]
"""Sets up what shall happen to the process; what it returns is called when the command is done."""

AT_ONCE = 3
"""So many runs may go on at the same time."""

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    [__name__, "tests.crash.mishaps", "pandas", "liveness_etl.display", "liveness_etl.storage_s3"]
)
_one_at_a_time = threading.Lock()  # multiprocessing's own list of children knows no threads


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code (minus the signal's number if one killed it), and what it said."""

    code: int | None
    said: str


class Running:
    """`liveness-etl ARGUMENTS` in a process of its own."""

    def __init__(
        self, arguments: tuple[str, ...], environment: Mapping[str, str], mishap: Mishap | None = None
    ) -> None:
        self._said = b""
        here, there = _forks.Pipe(duplex=False)
        self._process = _forks.Process(target=_run, args=(arguments, dict(environment), there, mishap))
        with _one_at_a_time:
            self._process.start()
        there.close()
        self._listening = threading.Thread(target=self._listen, args=(here,), daemon=True)
        self._listening.start()

    def said(self) -> str:
        """What it has said so far."""
        return self._said.decode(errors="replace")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def is_paused(self) -> bool:
        """Whether a SIGSTOP holds it (Linux)."""
        try:
            return Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except FileNotFoundError:
            return False

    def ended(self, seconds: float) -> bool:
        """Whether it ends within this time."""
        return bool(wait([self._process.sentinel], seconds))

    def wait(self, seconds: float = 120) -> Ended:
        """Its end. A process that does not end in time is killed, and its exit code is None."""
        wait([self._process.sentinel], seconds)
        with _one_at_a_time:
            self._process.join(0)
            code = self._process.exitcode
            if code is None:
                self._process.kill()
        self._listening.join(10)
        return Ended(code, self.said())

    def _listen(self, here: Connection) -> None:
        with here:
            while said := os.read(here.fileno(), 65_536):
                self._said += said


def _run(arguments: tuple[str, ...], environment: dict[str, str], there: Connection, mishap: Mishap | None) -> None:
    os.environ.update(environment)
    os.dup2(there.fileno(), 1)
    os.dup2(there.fileno(), 2)
    there.close()
    sys.argv = ["liveness-etl", *arguments]
    at_end = mishap() if mishap is not None else None
    try:
        cli.main()
    finally:
        if at_end is not None:
            at_end()
