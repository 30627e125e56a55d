"""An HTTP server that does what it is told for each session id: any bytes, at any pace, with any end."""

import gzip
import json
import socket
import socketserver
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

Send = Callable[["Connection", str], None]
"""Answers one request for a session id; raises EndOfConnection to send no more."""


class EndOfConnection(Exception):
    """Close the connection."""


def answer(session_id: str, **members: Any) -> dict[str, Any]:
    """What a session answers; None leaves a member out."""
    whole = {"SessionId": session_id, "Status": "SUCCEEDED", "Confidence": 99.5} | members
    return {name: value for name, value in whole.items() if value is not None}


def http(body: bytes, status: str = "200 OK", *, length: object = None, headers: str = "") -> bytes:
    """An HTTP answer with that body; `length` is the announced one."""
    length = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n".encode() + body


def good(session_id: str) -> bytes:
    """An answer that is right in all."""
    return http(json.dumps(answer(session_id)).encode())


class Connection(socketserver.StreamRequestHandler):
    """Reads requests and lets the script of the id answer."""

    server: "Hostile"

    def handle(self) -> None:
        try:
            while (session_id := self._read_request()) is not None:
                self.server.asks[session_id] += 1
                script = self.server.scripts.get(session_id)
                if script is None:
                    self.send(good(session_id))
                else:
                    script(self, session_id)
        except (EndOfConnection, OSError):
            pass

    def send(self, content: bytes) -> None:
        self.server.sent[threading.current_thread().name] += len(content)
        self.connection.sendall(content)

    def trickle(self, content: Iterator[bytes], every_seconds: float) -> None:
        """Send piece after piece until the client is gone or the server closes."""
        for piece in content:
            self.send(piece)
            if self.server.closing.wait(every_seconds):
                raise EndOfConnection

    def _read_request(self) -> str | None:
        if not self.rfile.readline():
            return None
        length = 0
        while (line := self.rfile.readline()).strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        body = json.loads(self.rfile.read(length))
        return str(body["SessionId"])


class Hostile(socketserver.ThreadingTCPServer):
    """`scripts` by session id; every other id gets a good answer. `asks` counts requests by id."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, scripts: Mapping[str, Send]) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.scripts = dict(scripts)
        self.asks: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()  # bytes, by connection
        self.closing = threading.Event()

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        raise AssertionError("the hostile server itself failed")


@contextmanager
def hostile(scripts: Mapping[str, Send] | None = None) -> Iterator[Hostile]:
    """A running server."""
    with Hostile(scripts or {}) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


# Ways to answer


def raw(content: bytes) -> Send:
    """These bytes, and the connection stays open."""

    def send(connection: Connection, session_id: str) -> None:
        connection.send(content.replace(b"{id}", session_id.encode()))

    return send


def then_close(content: bytes) -> Send:
    """These bytes, and the end of the connection."""

    def send(connection: Connection, session_id: str) -> None:
        raw(content)(connection, session_id)
        raise EndOfConnection

    return send


def body(content: bytes | str, status: str = "200 OK", headers: str = "") -> Send:
    """This body in an answer that is right else; `{id}` in it becomes the session's id."""

    def send(connection: Connection, session_id: str) -> None:
        encoded = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        connection.send(http(encoded.replace(b"{id}", session_id.encode()), status, headers=headers))

    return send


def members(**changes: Any) -> Send:
    """A good answer but for these members."""

    def send(connection: Connection, session_id: str) -> None:
        connection.send(http(json.dumps(answer(session_id, **changes)).encode()))

    return send


def text(json_text: str) -> Send:
    """A good answer with this piece of JSON among its members."""
    return body('{"SessionId": "{id}", "Status": "SUCCEEDED", ' + json_text + "}")


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> Send:
    """A chunked answer; `end` is what comes after the last chunk."""

    def send(connection: Connection, session_id: str) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for chunk in chunks:
            content = chunk.replace(b"{id}", session_id.encode())
            connection.send(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        connection.send(end)

    return send


def huge(head: bytes, piece: bytes, count: int) -> Send:
    """A head, and a piece many times over: as much as the client takes."""

    def send(connection: Connection, session_id: str) -> None:
        connection.send(head)
        for _ in range(count):
            connection.send(piece)
        raise EndOfConnection

    return send


def zipped(content: bytes) -> Send:
    """A compressed body that nobody asked for."""
    return body(gzip.compress(content), headers="Content-Encoding: gzip\r\n")


def reset(content: bytes) -> Send:
    """These bytes, then a TCP reset."""

    def send(connection: Connection, session_id: str) -> None:
        connection.send(content)
        connection.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.connection.close()
        raise EndOfConnection

    return send


def trickling(head: bytes, pieces: Iterator[bytes], every_seconds: float) -> Send:
    """A head at once, then piece after piece, for ever: never silent for long."""

    def send(connection: Connection, session_id: str) -> None:
        connection.send(head)
        connection.trickle(pieces, every_seconds)

    return send
