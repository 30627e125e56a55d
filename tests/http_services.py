"""Small HTTP services, for answers that no stand-in gives."""

import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Service(BaseHTTPRequestHandler):
    """A service says in `reply` what it answers; `content` is what came with the request. It logs nothing."""

    content: bytes

    def reply(self) -> None:
        raise NotImplementedError

    def do_GET(self) -> None:
        self.content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.reply()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

    def answer(self, status: int, content: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """The whole of an answer."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class _Distrusted(ThreadingHTTPServer):
    """Over TLS, who does not trust it hangs up."""

    def handle_error(self, *_: object) -> None:
        pass


@contextmanager
def serving(service: type[Service], context: ssl.SSLContext | None = None) -> Iterator[str]:
    """The address of a service on loopback, without a slash at its end; over TLS, as `localhost`, with a `context`."""
    with (ThreadingHTTPServer if context is None else _Distrusted)(("127.0.0.1", 0), service) as server:
        server.daemon_threads = True
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=[0.02], daemon=True)
        thread.start()
        try:
            at = "http://127.0.0.1" if context is None else "https://localhost"
            yield f"{at}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
