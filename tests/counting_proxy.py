"""A server in front of an S3 that counts what it passes on, and does something just before one of the requests."""

import http.client
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.http_services import Service, serving

_OWN = ("connection", "content-length", "date", "server", "transfer-encoding")


@dataclass
class Counting:
    """Where it listens, and the requests that came (`GET /bucket/key`) since `start`."""

    url: str
    seen: list[str] = field(default_factory=list)
    status_of_objects: int | None = None
    """What every request for a Parquet file gets in place of its answer."""
    _act_before: int = 0
    _act: Callable[[], object] = lambda: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, act_before: int = 0, act: Callable[[], object] = lambda: None) -> None:
        """Count from one again; the request of this number waits until `act` is done."""
        self.seen, self._act_before, self._act = [], act_before, act

    def note(self, request: str) -> None:
        """A request has come."""
        with self._lock:
            self.seen.append(request)
            if len(self.seen) == self._act_before:
                self._act()


@contextmanager
def counting(endpoint_url: str, context: ssl.SSLContext | None = None) -> Iterator[Counting]:
    """One in front of this address, over TLS as `localhost` with a `context`. It changes no header that is signed."""

    class Passing(Service):
        protocol_version = "HTTP/1.1"

        def reply(self) -> None:
            proxied.note(f"{self.command} {self.path.partition('?')[0]}")
            if proxied.status_of_objects and ".parquet" in self.path:
                self.answer(proxied.status_of_objects)
                return
            back = http.client.HTTPConnection(urlsplit(endpoint_url).netloc)
            back.request(self.command, self.path, self.content, dict(self.headers.items()))
            answer = back.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _OWN:
                    self.send_header(name, value)
            length = answer.headers["Content-Length"] if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.wfile.write(content)
            back.close()

    with serving(Passing, context) as url:
        proxied = Counting(url)
        yield proxied
