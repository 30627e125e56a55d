"""Servers that tests start, each in a process of its own: ended with the tests, however those end."""

import os
import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def need_programs(*programs: str) -> None:
    """Skip the test where a program is missing; in CI (environment CI=true) fail."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        reason = f"not installed: {', '.join(missing)}; .ci/run installs what the tests need"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(reason)
        pytest.skip(reason)


class Processes:
    """Starts servers, their output in files of `folder`, and kills them at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start one. It dies with the test process, even if that is killed."""
        with (self._folder / f"{program}.out").open("wb") as output:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", program, *arguments], stdout=output, stderr=subprocess.STDOUT
            )
        self._running.append((program, process))
        return process

    def check(self) -> None:
        """Raises RuntimeError, with its output, for a server that has ended."""
        for program, process in self._running:
            if process.poll() is not None:
                raise RuntimeError(f"{program} ended: {(self._folder / f'{program}.out').read_text()[-2000:]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for _, process in self._running:
            process.kill()
        for _, process in self._running:
            process.wait()
