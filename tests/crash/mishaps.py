"""What may happen to a run: set up inside its process, before the command line starts.

Each is a value that travels to the process (see `launcher`); called there, it sets itself up, and may return what is
to be done when the command has ended.
"""

import ctypes
import os
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, ClassVar

from liveness_etl import job, run_report
from liveness_etl.extract import planned
from liveness_etl.load import landing_writer
from liveness_etl.load.landing_writer import LandingWriter
from liveness_etl.storage_folder import LocalStore
from tests.crash import boundaries


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
    """SIGKILL at the boundary `name`, when it is reached after so many times."""

    place: Place
    name: str
    after: int

    def __call__(self) -> Callable[[], None]:
        lock, times = threading.Lock(), Counter[str]()

        def reach(name: str, first: Callable[[], object]) -> None:
            with lock:
                if name == self.name:
                    times[name] += 1
                    if times[name] == self.after + 1:
                        first()
                        os.kill(os.getpid(), signal.SIGKILL)

        self.place.watch(reach)
        return lambda: reach("end", lambda: None)


@dataclass(frozen=True)
class PausedAt:
    """SIGSTOP at the boundary `name`, when it is reached for the first time."""

    place: Place
    name: str

    def __call__(self) -> Callable[[], None]:
        lock, paused = threading.Lock(), threading.Event()

        def reach(name: str, first: object) -> None:
            with lock:
                if name == self.name and not paused.is_set():
                    paused.set()
                    os.kill(os.getpid(), signal.SIGSTOP)

        self.place.watch(reach)
        return lambda: reach("end", None)


@dataclass(frozen=True)
class FullDisk:
    """From the boundary `name` on, no file of this process can grow. The kernel refuses it (RLIMIT_FSIZE), so that a
    write may be half done. The run does not wait a minute for better times, but a second."""

    place: Place
    name: str

    def __call__(self) -> None:
        be_impatient()
        self.place.watch(lambda name, first: limit_files(100) if name == self.name else None)


@dataclass(frozen=True)
class FullOutput:
    """From the boundary `name` on, the disk of the output is full, and that of the state folder is not."""

    place: Place
    name: str

    def __call__(self) -> None:
        be_impatient()
        full, one_at_a_time, real_put = threading.Event(), threading.RLock(), LocalStore.put

        def put(*arguments: Any, **options: Any) -> str:
            with one_at_a_time:
                limit_files(100 if full.is_set() else resource.RLIM_INFINITY)
                try:
                    return real_put(*arguments, **options)
                finally:
                    limit_files(resource.RLIM_INFINITY)

        def reach(name: str, first: object) -> None:
            if name == self.name:
                full.set()
                limit_files(100)

        LocalStore.put = put  # type: ignore[method-assign]
        self.place.watch(reach)


@dataclass(frozen=True)
class ReadOnlyOutput:
    """From the boundary `name` on (from the start without one), no folder of the output can be written, by root
    neither."""

    place: Place
    name: str | None = None

    def __call__(self) -> None:
        be_impatient()
        give_up_capabilities()
        if self.name is None:
            self.close()
        else:
            self.place.watch(lambda name, first: self.close() if name == self.name else None)

    def close(self) -> None:
        """Take away the permission to write."""
        self._permit(0o555)

    def open(self) -> None:
        """Give it back."""
        self._permit(0o755)

    def _permit(self, mode: int) -> None:
        for folder in [Path(self.place.uri), *Path(self.place.uri).rglob("*")]:
            if folder.is_dir():
                folder.chmod(mode)


def be_impatient() -> None:
    """Wait a second for an output that fails, where the program waits a minute."""
    close = LandingWriter.close
    landing_writer._PATIENCE_SECONDS = 1.0  # type: ignore[misc]
    LandingWriter.close = lambda self, **_: close(self, 1.0)  # type: ignore[method-assign]


def limit_files(size: int) -> None:
    """No file of this process may grow beyond so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def give_up_capabilities() -> None:
    """From now on permissions count for this process even if it is root's."""
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()  # linux/capability.h, version 3
    if ctypes.CDLL(None, use_errno=True).capset(header, none) != 0:
        raise OSError(ctypes.get_errno(), "capset")


@dataclass(frozen=True)
class ClockGoesBack:
    """From the boundary `name` on (from the start without one), the clock on the wall is an hour behind."""

    place: Place
    name: str | None = None

    def __call__(self) -> None:
        real, back = time.time, threading.Event()

        class Datetime(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Any:
                return datetime.fromtimestamp(time.time(), tz)

        time.time = lambda: real() - (3600 if back.is_set() else 0)
        planned.read_asks.__kwdefaults__["clock"] = time.time
        for module in (job, run_report):
            module.datetime = Datetime  # type: ignore[attr-defined]
        if self.name is None:
            back.set()
        else:
            self.place.watch(lambda name, first: back.set() if name == self.name else None)


@dataclass(frozen=True)
class Stalled:
    """At the boundary `name`, a write to the output takes a minute; with `for_good`, so does every one that follows."""

    SAYS: ClassVar[str] = "(stalled)"

    place: Place
    name: str
    seconds: float = 60.0
    for_good: bool = False

    def __call__(self) -> None:
        stalled = threading.Event()

        def reach(name: str, first: object) -> None:
            if name == self.name and not stalled.is_set():
                stalled.set()
                os.write(2, f"{self.SAYS}\n".encode())
            elif not (self.for_good and stalled.is_set()) or name.endswith("rescue"):
                return
            time.sleep(self.seconds)

        self.place.watch(reach)
