"""HTTP/1.1 on one connection, as much of it as an AWS client speaks, written for speed.

Requests of one connection are answered one after the other, in order (pipelined ones wait in the buffer);
connections do not wait for each other. Known: keep-alive, Content-Length, `Expect: 100-continue`, heads and
bodies split over packets. Not known: chunked request bodies (501).
"""

import asyncio
import struct
from collections.abc import Callable, Mapping
from http import HTTPStatus
from socket import SO_LINGER, SOL_SOCKET
from typing import NamedTuple, cast

AWS_JSON = "application/x-amz-json-1.1"
MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_ABORT_ON_CLOSE = struct.pack("ii", 1, 0)


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    """By lower-case name; the last one of a name wins."""
    body: bytes


class _Head(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body_bytes: int


class _RefusedError(Exception):
    """A request that cannot be read: answered with `status`, then the connection is closed."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Connection(asyncio.Protocol):
    """Reads requests and hands each to `handle(request, connection)`, which answers exactly once, now or
    later: by `reply`, `cut` or `reset`.

    `number` makes its request ids; `open_connections` holds this connection while it is open.
    """

    def __init__(
        self,
        number: int,
        handle: Callable[[Request, "Connection"], None],
        open_connections: set["Connection"],
    ) -> None:
        self._number = number
        self._answers = 0
        self._handle = handle
        self._open_connections = open_connections
        self._received = bytearray()
        self._head: _Head | None = None
        self._answering = False
        self._advancing = False
        self._writable = True
        self._keep_alive = True

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    def reply(
        self, status: int, body: bytes, content_type: str = AWS_JSON, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answers the current request. `headers` win over those that belong to the answer."""
        self._answers += 1
        fields = {
            "content-type": content_type,
            "content-length": str(len(body)),
            "x-amzn-requestid": f"00000000-0000-4000-8000-{self._number:06x}{self._answers:06x}",
        }
        # After headers that may not fit the body, no further answer would be understood.
        close = not self._keep_alive or headers is not None
        if close:
            fields["connection"] = "close"
        for name, value in (headers or {}).items():
            fields[name.lower()] = value
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}"]
        lines.extend(f"{name}: {value}" for name, value in fields.items())
        head = "\r\n".join(lines) + "\r\n\r\n"
        self._transport.write(head.encode("latin-1", "replace") + body)
        if close:
            self._transport.close()
        self._answering = False
        if self._received and not self._advancing:
            self._advance()

    def cut(self, status: int, body: bytes) -> None:
        """Announces the whole body, sends half of it and closes."""
        self.reply(status, body[: len(body) // 2], headers={"content-length": str(len(body))})

    def reset(self) -> None:
        """Ends the connection with a TCP reset."""
        self._transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, _ABORT_ON_CLOSE)
        self._transport.abort()

    def abort(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open_connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_connections.discard(self)
        self._received.clear()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._advance()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._advance()

    def _advance(self) -> None:
        self._advancing = True
        try:
            while not self._answering and self._writable and self.is_open:
                request = self._next_request()
                if request is None:
                    break
                self._answering = True
                self._handle(request, self)
        except _RefusedError as refused:
            self._keep_alive = False
            self.reply(refused.status, b"{}")
        finally:
            self._advancing = False
        if self.is_open:
            self._throttle_reading()

    def _throttle_reading(self) -> None:
        """A client that sends on while it is being answered must not fill the memory."""
        if (self._answering or not self._writable) and len(self._received) > MAX_HEAD_BYTES:
            self._transport.pause_reading()
        elif not self._transport.is_reading():
            self._transport.resume_reading()

    def _next_request(self) -> Request | None:
        head = self._head
        if head is None:
            end = self._received.find(b"\r\n\r\n")
            if end > MAX_HEAD_BYTES or (end < 0 and len(self._received) > MAX_HEAD_BYTES):
                raise _RefusedError(431)
            if end < 0:
                return None
            head = _parse_head(bytes(self._received[:end]))
            del self._received[: end + 4]
            self._keep_alive = head.headers.get("connection", "").lower() != "close"
            waits = head.headers.get("expect", "").lower() == "100-continue"
            if waits and len(self._received) < head.body_bytes:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if len(self._received) < head.body_bytes:
            self._head = head
            return None
        self._head = None
        body = bytes(self._received[: head.body_bytes])
        del self._received[: head.body_bytes]
        return Request(head.method, head.path, head.headers, body)


def _parse_head(raw: bytes) -> _Head:
    lines = raw.decode("latin-1").split("\r\n")
    method, _, rest = lines[0].partition(" ")
    path, _, version = rest.partition(" ")
    if not method or version not in ("HTTP/1.1", "HTTP/1.0"):
        raise _RefusedError(400)
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            raise _RefusedError(400)
        headers[name.lower()] = value.strip()
    if version == "HTTP/1.0":
        headers["connection"] = "close"
    if "transfer-encoding" in headers:
        raise _RefusedError(501)
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise _RefusedError(400)
    if len(length) > 12 or int(length) > MAX_BODY_BYTES:
        raise _RefusedError(413)
    return _Head(method, path, headers, int(length))
