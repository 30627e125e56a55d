"""The body of an answer, read within bounds: so many bytes, so many seconds, and from a connection in step.

botocore reads a body to its end, however long it is and however slowly it comes; its timeout holds for each
read of the socket alone. The bytes are those of the wire: botocore asks for no compression, and decodes none.
"""

import time
from collections.abc import Callable
from typing import Any, Final

import botocore.awsrequest
import urllib3
import urllib3.exceptions

from liveness_etl.extract.retry import CallFailed

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
"""Five images of 204,800 bytes, the most that the API returns, are 1.4 MB as base64; all else is a few KB."""

_CHUNK_BYTES: Final = 64 * 1024


_ONCE: Final = urllib3.Retry(False)


def send_within(pool: urllib3.HTTPConnectionPool, seconds: float) -> Callable[..., Any]:
    """A handler of botocore's event `before-send` that sends over the pool and reads the answer, which has to be
    complete `seconds` after the request started. The handler raises CallFailed.

    A connection whose answer is none is closed: what it brings next may be the answer to another request.
    """

    def send(request: Any, **_: Any) -> botocore.awsrequest.AWSResponse:
        give_up_at = time.monotonic() + seconds
        raw, in_step = _sent(pool, request), False
        release = raw.release_conn
        raw.release_conn = _later  # the next request may have the connection when it is known to be in step
        try:
            body = _read(raw, give_up_at)
            in_step = _in_step(request.body, raw.status, body)
        finally:
            if not in_step:
                raw.close()
            release()
        return botocore.awsrequest.AWSResponse(request.url, raw.status, raw.headers, _Body(body))

    return send


def _sent(pool: urllib3.HTTPConnectionPool, request: Any) -> Any:
    try:
        return pool.urlopen(
            request.method,
            "/" + request.url.split("/", 3)[3],
            body=request.body,
            headers=dict(request.headers.items()),
            retries=_ONCE,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
            enforce_content_length=False,  # a body that is cut is told by its JSON
        )
    except urllib3.exceptions.NewConnectionError as error:  # a timeout by its class
        raise CallFailed("ConnectionError", type(error).__name__) from None
    except urllib3.exceptions.TimeoutError:
        raise CallFailed("TimeoutError", "no answer in time") from None
    except urllib3.exceptions.HTTPError as error:
        raise CallFailed("ConnectionError", type(error).__name__) from None


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
