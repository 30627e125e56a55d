"""The body of an answer, read within bounds: so many bytes, so many seconds, and from a connection in step.

botocore reads a body to its end, however long it is and however slowly it comes; its timeout holds for each
read of the socket alone. The bytes are those of the wire: botocore asks for no compression, and decodes none.
"""

import time
from collections.abc import Callable
from typing import Any, Final

import urllib3.exceptions

from liveness_etl.extract.retry import CallFailed

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
"""Five images of 204,800 bytes, the most that the API returns, are 1.4 MB as base64; all else is a few KB."""

_CHUNK_BYTES: Final = 64 * 1024


def send_within(http_session: Any, seconds: float) -> Callable[..., Any]:
    """A handler of botocore's event `before-send` that sends over its session and reads the answer, which has to be
    complete `seconds` after the request started. The handler raises CallFailed, and what the session raises.

    A connection whose answer is none is closed: what it brings next may be the answer to another request.
    """

    def send(request: Any, **_: Any) -> Any:
        request.stream_output = True  # leaves the body to be read here
        give_up_at = time.monotonic() + seconds
        response = http_session.send(request)
        raw, in_step = response.raw, False
        release = raw.release_conn
        raw.release_conn = _later  # the next request may have the connection when it is known to be in step
        try:
            body = _read(raw, give_up_at)
            in_step = _in_step(request.body, response.status_code, body)
        finally:
            if not in_step:
                raw.close()
            release()
        response.raw = _Body(body)
        return response

    return send


class _Body:
    """A body in memory, as botocore reads it."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> list[bytes]:
        return [self._body]


def _later() -> None:
    pass


def _read(raw: Any, give_up_at: float) -> bytes:
    chunks, size = [], 0
    try:
        while chunk := raw.read1(_CHUNK_BYTES):
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise CallFailed("UnreadableAnswer", f"the answer is longer than {MAX_BODY_BYTES:,} bytes")
            if time.monotonic() > give_up_at:
                raise CallFailed("TimeoutError", "the answer came too slowly")
    except urllib3.exceptions.ReadTimeoutError:
        raise CallFailed("TimeoutError", "the answer stopped in the middle") from None
    except urllib3.exceptions.HTTPError as error:
        raise CallFailed("ConnectionError", type(error).__name__) from None
    return b"".join(chunks)


def _in_step(asked: bytes, status: int, body: bytes) -> bool:
    """Whether this may be the answer to that request: a result names its session, an error is JSON."""
    if status >= 300:
        return body.startswith(b"{")
    session_id = asked.split(b'"')[3]  # {"SessionId": "…"}
    return session_id in body
