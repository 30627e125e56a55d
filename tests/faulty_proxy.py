"""haproxy in front of an S3, with faults that are switched on and off while requests run."""

import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.processes import Processes, free_port

ROOMS = ("landing", "images", "tables", "other")
"""What an object is for, by its path: each has a fault of its own."""

_CONF = """\
global
    stats socket {folder}/admin level admin
defaults
    mode http
    timeout connect 5s
    timeout client 120s
    timeout server 120s
    timeout tarpit 120s
frontend s3
    bind 127.0.0.1:{port}
    http-request set-var(txn.room) str(other)
    http-request set-var(txn.room) str(landing) if {{ path_sub /landing/ }}
    http-request set-var(txn.room) str(images) if {{ path_sub /images/ }}
    http-request set-var(txn.room) str(tables) if {{ path_reg /(sessions|challenges|bounding_boxes|feedback)/ }}
    http-request set-var(txn.fault) var(txn.room),map({folder}/faults,none)
    http-request tarpit if {{ var(txn.fault) -m str stall }}
    http-request return status 503 content-type application/xml string "<Error><Code>SlowDown</Code></Error>" \
if {{ var(txn.fault) -m str slow_down }}
    default_backend real
backend real
    server s3 {host}
"""


class FaultyProxy:
    """`set("stall")` takes requests and never answers them, `set("slow_down")` answers 503, `set("none")` lets pass.

    A request that has met a stall stays without an answer, also after the stall.
    """

    def __init__(self, folder: Path, endpoint_url: str) -> None:
        self._folder, self._port = folder / "proxy", free_port()
        self._folder.mkdir()
        self._host = urlsplit(endpoint_url).netloc
        self.url = f"http://127.0.0.1:{self._port}"

    def set(self, fault: str, *rooms: str) -> None:
        """From now on, for some rooms or all."""
        for room in rooms or ROOMS:
            self._do(f"set map {self._folder}/faults {room} {fault}")

    def _do(self, command: str) -> None:
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self._folder / "admin"))
            admin.sendall(f"{command}\n".encode())
            answer = admin.recv(1000).strip()
        assert not answer, answer

    def __enter__(self) -> Self:
        (self._folder / "faults").write_text("".join(f"{room} none\n" for room in ROOMS))
        conf = self._folder / "haproxy.cfg"
        conf.write_text(_CONF.format(folder=self._folder, port=self._port, host=self._host))
        self._processes = Processes(self._folder).__enter__()
        self._processes.start("haproxy", "-db", "-f", str(conf))
        give_up_at = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                return self
            except OSError:
                self._processes.check()
                assert time.monotonic() < give_up_at
                time.sleep(0.02)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._processes.__exit__(kind, error, traceback)
