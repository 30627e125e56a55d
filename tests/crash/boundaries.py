"""Every change that a run makes to what outlives it, told to a callback at the moment before it happens.

Installed inside a process of a test's own. Nothing here knows which changes a run makes: changes of the file system
come from Python's audit events, those in S3 from the HTTP requests that botocore sends. A write that is added to the
program tomorrow is told as well, under a name that no test knows yet.

Between two changes the disk stands still. So a process that is killed before each of them, and in the middle of each
write, has been killed in every state that it can leave behind.
"""

import os
import re
import socket
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import botocore.httpsession
import pyarrow.parquet as pq

from liveness_etl.storage_folder import LocalStore

Reach = Callable[[str, Callable[[], object]], None]
"""Is told a boundary's name, and what is to be done first in order to stand in its middle."""

_NAMES = (  # of what stands at a path below the output
    (r"\.tmp/\d{8}T[^/]+(/.*)?", "plan"),
    (r"\.tmp(/.*)?", "scratch"),
    (r"_state/leases(/.*)?", "lease"),
    (r"_state/manifests(/.*)?", "memory"),
    (r"_state(/locks(/.*)?)?", "lock"),
    (r"landing/dt=[^/]+/fold-.*", "fold"),
    (r"runs(/.*)?", "record of the start"),
    (r"(landing|sessions|challenges|bounding_boxes|feedback|rejects|images)(/.*)?", r"\1"),
    (r"", "output"),
)


class Names:
    """Names what is written, in the words of README's table."""

    def __init__(self) -> None:
        self._runs: set[str] = set()

    def of(self, path: str) -> str:
        """What stands at a path below the output."""
        for pattern, name in _NAMES:
            if found := re.fullmatch(pattern, path):
                return found.expand(name)
        return f"unknown {path}"

    def of_write(self, path: str, content: object) -> str:
        """What a write of this content to a path is: the two states of a record and of a lease are told apart."""
        name = self.of(path)
        if name == "record of the start":
            first = path not in self._runs
            self._runs.add(path)
            return name if first else "record of the end"
        if name == "lease":
            return "lease given back" if isinstance(content, bytes) and b'"holders": []' in content else "lease"
        return name


def watch_folder(root: Path, state: Path, reach: Reach) -> None:
    """Tell every change below the output folder `root` and the state folder `state`."""
    names, writing = Names(), threading.local()
    real_put, real_write = LocalStore.put, os.write

    def name_of(path: Path) -> str | None:
        if path.is_relative_to(state):
            return "rescue"
        if not path.is_relative_to(root):
            return None
        found = names.of("" if path == root else path.relative_to(root).as_posix())
        return getattr(writing, "name", found) if found == "scratch" and path.name.startswith("put-") else found

    def told(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS:
            return
        kind, target = _EVENTS[event](*arguments)
        if kind is not None and (name := name_of(target)) is not None:
            if kind == "rename" and getattr(writing, "target", None) == target:
                name = writing.name
            reach(f"{kind} {name}", _nothing)

    def put(self: LocalStore, path: str, content: bytes | Path, **options: Any) -> str:
        writing.target, writing.name = self.root / path, names.of_write(path, content)
        try:
            return real_put(self, path, content, **options)
        finally:
            del writing.target, writing.name

    def write(handle: int, content: Any) -> int:
        if hasattr(writing, "name") and stat.S_ISREG(os.fstat(handle).st_mode):
            reach(f"half of {writing.name}", lambda: real_write(handle, content[: len(content) // 2]))
        return real_write(handle, content)

    LocalStore.put = put  # type: ignore[method-assign]
    os.write = write
    _watch_builders(reach)
    sys.addaudithook(told)


def watch_s3(endpoint_url: str, prefix: str, reach: Reach) -> None:
    """Tell every request to S3 that changes something below `prefix` ("bucket/key/"), cut short, and done but with
    its answer lost."""
    names = Names()
    real_send = botocore.httpsession.URLLib3Session.send

    def send(self: Any, request: Any) -> Any:
        if request.method not in ("PUT", "POST", "DELETE") or not request.url.startswith(endpoint_url):
            return real_send(self, request)
        content = _content(request)
        path = unquote(urlsplit(request.url).path).lstrip("/")
        if found := re.search(rb"<Key>(.*?)</Key>", content):  # a request that deletes names its keys in its body
            path = f"{path}/{found[1].decode()}"
        below = path.partition(prefix)[2]
        verb = "PUT" if request.method == "PUT" else "DELETE"
        name = names.of_write(below, content) if verb == "PUT" else names.of(below)
        reach(f"{verb} {name}, cut", lambda: _send_half(request, content))
        answer = real_send(self, request)
        reach(f"{verb} {name}, unanswered", _nothing)
        return answer

    botocore.httpsession.URLLib3Session.send = send


def _watch_builders(reach: Reach) -> None:
    """Tell the rows of files that pyarrow writes in a scratch folder: its writes raise no audit events."""
    real = pq.ParquetWriter.write_table

    def write_table(self: Any, *arguments: Any, **options: Any) -> None:
        if isinstance(self.where, str | os.PathLike):
            reach(f"rows of {Path(self.where).name} in scratch", _nothing)
        real(self, *arguments, **options)

    pq.ParquetWriter.write_table = write_table


_Change = tuple[str | None, Path]


def _opened(path: Any, mode: str | None, flags: int) -> _Change:
    creates = isinstance(path, str | bytes | os.PathLike) and flags & os.O_CREAT and not os.path.lexists(path)
    return ("create" if creates else None), _path(path, -1)


def _changed(kind: str, *, present: bool) -> Callable[..., _Change]:
    def change(path: Any, *rest: Any) -> _Change:
        target = _path(path, rest[-1])
        return (kind if os.path.lexists(target) == present else None), target

    return change


_EVENTS: dict[str, Callable[..., _Change]] = {
    "open": _opened,
    "os.rename": lambda source, target, source_folder, folder: ("rename", _path(target, folder)),
    "os.remove": _changed("remove", present=True),
    "os.mkdir": _changed("mkdir", present=False),
    "os.rmdir": _changed("rmdir", present=True),
}


def _path(path: Any, folder: int) -> Path:
    if isinstance(path, int):
        return Path("/dev/fd") / str(path)
    base = Path.cwd() if folder == -1 else Path(f"/proc/self/fd/{folder}").readlink()
    return base / os.fsdecode(path)


def _content(request: Any) -> bytes:
    body = request.body
    if body is None or isinstance(body, bytes | bytearray):
        return bytes(body or b"")
    if isinstance(body, str):
        return body.encode()
    start = body.tell()
    content: bytes = body.read()
    body.seek(start)
    return content


def _send_half(request: Any, content: bytes) -> None:
    """The request as it comes to a server when its client dies half-way."""
    url = urlsplit(request.url)
    assert url.hostname is not None
    head = [f"{request.method} {url.path}{'?' * bool(url.query)}{url.query} HTTP/1.1", f"Host: {url.netloc}"]
    for name, value in request.headers.items():
        if name.lower() not in ("host", "expect"):
            head.append(f"{name}: {value.decode() if isinstance(value, bytes) else value}")
    connection = socket.create_connection((url.hostname, url.port or 80))
    connection.sendall("\r\n".join([*head, "", ""]).encode() + content[: len(content) // 2])


def _nothing() -> None:
    pass
