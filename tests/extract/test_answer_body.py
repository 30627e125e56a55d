"""Bodies read within bounds, over connections that are in step."""

import gc
import itertools
import json
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from liveness_etl.extract.account import open_session
from liveness_etl.extract.answer_body import MAX_BODY_BYTES
from liveness_etl.extract.ask import Ask, Origin, answer_row
from liveness_etl.extract.governor import Governor
from liveness_etl.extract.rekognition import Fetch, fetch_with, rekognition_client
from liveness_etl.extract.retry import CallFailed, RetryPolicy
from liveness_etl.extract.sweep import Sweep
from liveness_etl.load.images import discard_images
from liveness_etl.load.landing import part_bytes
from liveness_etl.local import LocalConfig, LocalRekognition
from liveness_etl.local.answers import make_answer
from liveness_etl.transform.result import Answer
from tests.extract.test_sweep import LandedRows
from tests.hostile import Connection, EndOfConnection, Hostile, answer, good, hostile, http, then_close, trickling
from tests.running import DT, SUCCEEDING, ids

ONE, TWO, THREE = ids(3)
ORIGIN = Origin("default", "us-east-1", "run-1")


@pytest.fixture(scope="module")
def server() -> Iterator[Hostile]:
    with hostile() as running:
        yield running


@contextmanager
def fetching(endpoint_url: str, timeout_seconds: float = 2.0) -> Iterator[Fetch]:
    """A client of its own, with one connection."""
    session = open_session(region="us-east-1", profile=None)
    with closing(
        rekognition_client(session, endpoint_url=endpoint_url, connections=1, timeout_seconds=timeout_seconds)
    ) as client:
        yield fetch_with(client)


def failure_of(fetch: Fetch, session_id: str) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        fetch(session_id)
    return caught.value


def tried(fetch: Fetch, session_id: str) -> Answer | CallFailed:
    try:
        return fetch(session_id)
    except CallFailed as failure:
        return failure


def test_one_connection_serves_all_answers_and_errors() -> None:
    """To make one for each call would cost more than the call."""
    with LocalRekognition(SUCCEEDING) as rekognition, fetching(rekognition.endpoint_url) as fetch:
        rekognition.configure(faults={TWO: "throttle"})
        for _ in range(3):
            assert fetch(ONE).result.status == "SUCCEEDED"
            assert failure_of(fetch, TWO).throttled
        assert rekognition.stats()["connections"] == 1


@pytest.mark.parametrize(("spare", "outcome"), [(0, "SUCCEEDED"), (1, "UnreadableAnswer")])
def test_a_body_of_the_limit_is_read_and_a_longer_one_is_not(server: Hostile, spare: int, outcome: str) -> None:
    """To the byte."""

    def send(connection: Connection, session_id: str) -> None:
        whole = json.dumps(answer(session_id)).encode()
        connection.send(http(whole + b" " * (MAX_BODY_BYTES + spare - len(whole))))

    server.scripts = {ONE: send}
    with fetching(server.endpoint_url) as fetch:
        if outcome == "SUCCEEDED":
            assert fetch(ONE).result.status == outcome
        else:
            assert failure_of(fetch, ONE).code == outcome


def test_a_body_that_trickles_has_a_time_limit(server: Hostile) -> None:
    """Three timeouts, though no read of the socket ever reaches one."""
    server.scripts = {ONE: trickling(http(b"", length=9999), itertools.repeat(b" "), 0.05)}
    with fetching(server.endpoint_url, timeout_seconds=0.2) as fetch:
        started = time.monotonic()
        assert failure_of(fetch, ONE).code == "TimeoutError"
        assert time.monotonic() - started > 0.6


def test_a_connection_that_is_one_answer_behind_is_closed(server: Hostile) -> None:
    """An answer too many, and each request would get the one before's: only the first of them does."""

    def behind(connection: Connection, session_id: str) -> None:
        connection.send(good(ONE))
        while True:
            late = connection._read_request()
            connection.send(good(session_id) if late else b"")
            if late is None:
                raise EndOfConnection

    server.scripts = {ONE: behind}
    with fetching(server.endpoint_url) as fetch:
        assert fetch(ONE).result.session_id == ONE
        assert failure_of(fetch, TWO).code == "UnreadableAnswer"
        assert fetch(TWO).result.session_id == TWO
        assert fetch(THREE).result.session_id == THREE


def test_headers_that_never_end_hold_up_neither_the_other_ids_nor_the_end(server: Hostile) -> None:
    """The call is given up when an id's time is over, and another worker takes the place of the one that waits."""
    endless = trickling(b"HTTP/1.1 200 OK\r\n", itertools.repeat(b"X-A: b\r\n"), 0.2)
    some = ids(20, 5)
    server.scripts = dict.fromkeys(some[:3], endless)
    landed = LandedRows()
    with fetching(server.endpoint_url) as fetch:
        counts = Sweep(
            ORIGIN,
            (Ask(session_id, DT) for session_id in some),
            fetch,
            discard_images,
            landed,
            Governor(500),
            retry=RetryPolicy(attempts=2, seconds=0.5),
            ttl_seconds=180,
            max_in_flight=1,
        ).run(5.0)
    assert landed.count() == dict.fromkeys(some, 1)
    assert [landed.row_of(each)["error_code"] for each in some] == ["TimeoutError"] * 3 + [None] * 17
    assert (counts.finished, counts.incomplete, counts.stopped) == (20, 3, None)


def test_a_see_other_is_not_followed(server: Hostile) -> None:
    """urllib3 trips over botocore's headers on its way to follow it, and leaves the connection to Python."""
    with hostile() as elsewhere, fetching(server.endpoint_url) as fetch, warnings.catch_warnings():
        head = f"HTTP/1.1 303 See Other\r\nContent-Length: 0\r\nLocation: {elsewhere.endpoint_url}/\r\n\r\n"
        server.scripts = {ONE: then_close(head.encode())}
        assert failure_of(fetch, ONE).retryable
        assert not elsewhere.asks
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


CONFIG = LocalConfig(answer_any=True, image_mode="mixed", image_bytes=64)
WHOLE = [json.dumps(make_answer(CONFIG, session_id, "SUCCEEDED")).encode() for session_id in ids(8, 9)]
WORDS = (
    b"NaN",
    b"-1e999",
    b"null",
    b"[]",
    b"{}",
    b'""',
    b'"\\ud800"',
    b"\0",
    b"\xff",
    b"\r\n",
    b"{",
    b"]",
    b"0" * 5000,
)
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "repeat"]),
        st.integers(0, 4000),
        st.integers(0, 255),
        st.sampled_from(WORDS),
    ),
    min_size=1,
    max_size=3,
)


def changed(content: bytes, changes: list[tuple[str, int, int, bytes]]) -> bytes:
    """An HTTP answer with some bytes flipped, cut out, put in or repeated."""
    for kind, place, length, word in changes:
        at = place % (len(content) or 1)
        if kind == "flip":
            content = content[:at] + bytes([length]) + content[at + 1 :]
        elif kind == "cut":
            content = content[:at] + content[at + length :]
        elif kind == "insert":
            content = content[:at] + word + content[at:]
        else:
            content = content[: at + length] + content[at:]
    return content


@settings(max_examples=400, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 7), CHANGES, st.booleans())
def test_any_bytes_for_an_answer_are_an_answer_or_one_failed_call(
    fuzzed: tuple[Hostile, Fetch], which: int, changes: list[tuple[str, int, int, bytes]], in_head: bool
) -> None:
    """Through HTTP, botocore and our own checks: nothing else is raised, and what is taken can be landed."""
    server, fetch = fuzzed
    session_id = ids(8, 9)[which]
    content = changed(http(WHOLE[which]), changes) if in_head else http(changed(WHOLE[which], changes))

    def send(connection: Connection, session_id: str) -> None:
        connection.send(content)
        raise EndOfConnection

    server.scripts = {session_id: send}
    found = tried(fetch, session_id)
    if isinstance(found, CallFailed):
        assert found.retryable
        assert found.code.isidentifier()
        assert len(found.message) <= 500
        return
    assert found.result.session_id == session_id
    result, _ = discard_images(found, DT)
    row: dict[str, Any] = answer_row(
        ORIGIN, Ask(session_id, DT), result, all_kept=True, fetched_at=time.time(), attempts=1
    )
    assert part_bytes([row])


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[tuple[Hostile, Fetch]]:
    with hostile() as running, fetching(running.endpoint_url) as fetch:
        yield running, fetch
