"""One run at a time sweeps a source: a lease in `_state/leases/`, on a folder as on S3.

The lease of a source is one small JSON object that lists its holders; every change is a conditional write. A
run holds its share of the pace (1 without `--share`), and all live shares together never exceed 1.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from liveness_etl.errors import Conflict, LeaseHeld, Missing, StoreError
from liveness_etl.storage import ABSENT, Store

LEASE_SECONDS: Final = 60.0
RENEW_SECONDS: Final = 20.0

_TRIES: Final = 20
_HURRIED_SECONDS: Final = 0.3
_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class Holder:
    """A run that sweeps the source. `process` tells a process of one host from all others, ever."""

    run_id: str
    host: str
    process: str
    pid: int
    share: float
    expires_at: float


@contextmanager
def held_leases(
    store: Store,
    sources: Sequence[str],
    run_id: str,
    share: float,
    on_lost: Callable[[], None],
    hurried: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Hold the leases of the sources, renewed meanwhile; `on_lost` is called if one could not be kept.

    A store that stalls at the end is not waited for if there is no time (`hurried`): the leases run out.
    Raises LeaseHeld, naming the holder, before anything is held.
    """
    taken: list[str] = []
    over = threading.Event()
    renewing = threading.Thread(
        target=_renew, args=(store, taken, run_id, share, on_lost, over), name="lease", daemon=True
    )

    def let_go() -> None:
        over.set()
        if renewing.ident is not None:
            renewing.join()
        for source in taken:
            _release(store, source, run_id)

    try:
        for source in sources:
            _change(store, source, run_id, share)
            taken.append(source)
        renewing.start()
        yield
    finally:
        letting_go = threading.Thread(target=let_go, name="lease-end", daemon=True)
        letting_go.start()
        letting_go.join(_HURRIED_SECONDS if hurried() else None)


def read_holders(store: Store) -> dict[str, bool]:
    """The runs that are named in any lease, and whether each may be alive. Raises StoreError."""
    found: dict[str, bool] = {}
    for entry in store.list("_state/leases/"):
        for holder in _read(store, PurePosixPath(entry.path).stem)[0]:
            found[holder.run_id] = found.get(holder.run_id, False) or _alive(holder)
    return found


def _renew(
    store: Store,
    sources: Sequence[str],
    run_id: str,
    share: float,
    on_lost: Callable[[], None],
    over: threading.Event,
) -> None:
    renewed_at = time.monotonic()
    while not over.wait(RENEW_SECONDS):
        try:
            for source in sources:
                _change(store, source, run_id, share)
            renewed_at = time.monotonic()
        except LeaseHeld:
            on_lost()
            return
        except StoreError:
            if time.monotonic() - renewed_at > LEASE_SECONDS - RENEW_SECONDS:
                on_lost()  # by the next try somebody else may hold it
                return


def _change(store: Store, source: str, run_id: str, share: float) -> None:
    """Take the lease, or renew it."""
    for _ in range(_TRIES):
        holders, tag = _read(store, source)
        others = [holder for holder in holders if holder.run_id != run_id and _alive(holder)]
        if sum(holder.share for holder in others) + share > 1 + _ROUNDING:
            first = others[0]
            raise LeaseHeld(
                f"source {source} is being swept by run {first.run_id} (process {first.pid} on {first.host}"
                f"{'' if first.share == 1 else f', share {first.share:g}'}): "
                "wait for it, or give both runs a --share of the pace"
            )
        if _write(store, source, [*others, _holder(run_id, share)], tag):
            return
    raise StoreError(f"the lease of source {source} changes too fast; try again")


def _release(store: Store, source: str, run_id: str) -> None:
    for _ in range(_TRIES):
        try:
            holders, tag = _read(store, source)
            if _write(store, source, [holder for holder in holders if holder.run_id != run_id], tag):
                return
        except StoreError:
            return  # it runs out by itself


def _path(source: str) -> str:
    return f"_state/leases/{source}.json"


def _read(store: Store, source: str) -> tuple[list[Holder], str]:
    found = store.head(_path(source))
    if found is None:
        return [], ABSENT
    try:
        with store.open(_path(source)) as file:
            holders = [Holder(**holder) for holder in json.loads(file.read())["holders"]]
    except Missing:
        return [], ABSENT
    except (ValueError, KeyError, TypeError):
        holders = []  # nobody's: a broken lease must not stop every run for good
    return holders, found.etag


def _write(store: Store, source: str, holders: Sequence[Holder], tag: str) -> bool:
    content = json.dumps({"holders": [asdict(holder) for holder in holders]}).encode()
    try:
        store.put(_path(source), content, expect=tag)
    except Conflict:
        return False
    return True


def _holder(run_id: str, share: float) -> Holder:
    pid = os.getpid()
    return Holder(run_id, socket.gethostname(), _process(pid), pid, share, time.time() + LEASE_SECONDS)


def _alive(holder: Holder) -> bool:
    if time.time() > holder.expires_at:
        return False
    mine = _process(os.getpid())
    if holder.process.rpartition("/")[0] != mine.rpartition("/")[0]:
        return True  # of another host: only time tells
    return holder.process == _process(holder.pid)


def _process(pid: int) -> str:
    """boot/pid-namespace/start time of a process of this host; its start is '' if it is dead."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # no Linux: every holder counts as another host's
        return f"{socket.gethostname()}-{os.getpid()}/"
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        start = "" if fields[0] in "ZX" else fields[19]  # a dead one stands there until its parent has noticed
    except (OSError, IndexError):
        start = ""
    return f"{boot}/{namespace}/{start}"
