"""HTTP as it may arrive: in pieces, in bunches, malformed."""

import http.client
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from liveness_etl.local import LocalConfig, LocalRekognition, session_ids
from tests.local import raw

IDS = list(session_ids(4, 20))
CONFIG = LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 1.0}, image_mode="none")


@pytest.fixture(scope="module")
def rekognition() -> Iterator[LocalRekognition]:
    with LocalRekognition(CONFIG) as rekognition:
        yield rekognition


def session_id_of(answer: tuple[int, bytes]) -> str:
    status, body = answer
    assert status == 200
    return str(json.loads(body)["SessionId"])


def test_boto3_keeps_one_connection_for_many_calls(connect: Callable[[str], Any]) -> None:
    """Keep-alive: a sweep does not open a connection for each id."""
    with LocalRekognition(CONFIG) as rekognition:
        client = connect(rekognition.endpoint_url)
        for session_id in IDS:
            client.get_face_liveness_session_results(SessionId=session_id)
        assert rekognition.stats()["connections"] == 1


@pytest.mark.parametrize("latency_seconds", [0.0, 0.002])
def test_pipelined_requests_are_answered_in_order(rekognition: LocalRekognition, latency_seconds: float) -> None:
    """Even where a later one would be quicker."""
    rekognition.configure(latency_seconds=latency_seconds)
    with raw.connect(rekognition.port) as connection:
        connection.sendall(b"".join(raw.get(session_id) for session_id in IDS))
        answers = raw.answers(connection)
        assert [session_id_of(next(answers)) for _ in IDS] == IDS
        answers.close()
    rekognition.configure(latency_seconds=0.0)


def test_a_request_in_single_bytes_is_read(rekognition: LocalRekognition) -> None:
    """Head and body may be split anywhere."""
    with raw.connect(rekognition.port) as connection:
        for byte in raw.get(IDS[0]) + raw.get(IDS[1]):
            connection.sendall(bytes([byte]))
        answers = raw.answers(connection)
        assert [session_id_of(next(answers)), session_id_of(next(answers))] == IDS[:2]
        answers.close()


def test_a_client_that_waits_for_100_continue_gets_it(rekognition: LocalRekognition) -> None:
    """The body comes only after it."""
    whole = raw.request(json.dumps({"SessionId": IDS[0]}).encode(), headers="Expect: 100-continue\r\n")
    head, _, body = whole.partition(b"\r\n\r\n")
    with raw.connect(rekognition.port) as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert session_id_of(next(raw.answers(connection))) == IDS[0]


def test_a_client_that_wants_to_close_is_left(rekognition: LocalRekognition) -> None:
    """`Connection: close` is honoured."""
    body = json.dumps({"SessionId": IDS[0]}).encode()
    with raw.connect(rekognition.port) as connection:
        connection.sendall(raw.request(body, headers="Connection: close\r\n"))
        assert len(list(raw.answers(connection))) == 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nX: " + b"x" * 70_000, 431),
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_closed(
    rekognition: LocalRekognition, sent: bytes, status: int
) -> None:
    """The server goes on."""
    with raw.connect(rekognition.port) as connection:
        connection.sendall(sent)
        assert [status for status, _ in raw.answers(connection)] == [status]
    assert [status for status, _ in raw.ask(rekognition.port, IDS[:1])] == [200]


@pytest.mark.parametrize(
    ("body", "target", "code"),
    [
        (b"{}", "RekognitionService.DetectFaces", "UnknownOperationException"),
        (b"{}", "GetFaceLivenessSessionResults", "UnknownOperationException"),
        (b"{", raw.GET, "SerializationException"),
        (b"", raw.GET, "SerializationException"),
        (b"[]", raw.GET, "SerializationException"),
        (b"\xff", raw.GET, "SerializationException"),
        (b"[" * 50_000, raw.GET, "SerializationException"),
        (b'{"SessionId": 5}', raw.GET, "SerializationException"),
        (b"{}", raw.GET, "InvalidParameterException"),
        (b'{"SessionId": ""}', raw.GET, "InvalidParameterException"),
        (b'{"SessionId": "%s"}' % IDS[0].upper().encode(), raw.GET, "InvalidParameterException"),
        (b'{"SessionId": "%s "}' % IDS[0].encode(), raw.GET, "InvalidParameterException"),
    ],
)
def test_a_wrong_target_or_body_gets_an_error_as_aws_words_it(
    rekognition: LocalRekognition, body: bytes, target: str, code: str
) -> None:
    """The connection stays open: it is a client's mistake, not a broken stream."""
    with raw.connect(rekognition.port) as connection:
        connection.sendall(raw.request(body, target) + raw.get(IDS[0]))
        answers = raw.answers(connection)
        status, error = next(answers)
        assert (status, json.loads(error)["__type"]) == (400, code)
        assert session_id_of(next(answers)) == IDS[0]
        answers.close()


def test_other_methods_and_paths_are_unknown_operations(rekognition: LocalRekognition) -> None:
    """There is one path."""
    for method, path in (("GET", "/"), ("POST", "/else")):
        client = http.client.HTTPConnection("127.0.0.1", rekognition.port, timeout=5)
        client.request(method, path)
        answer = client.getresponse()
        assert (answer.status, json.loads(answer.read())["__type"]) == (400, "UnknownOperationException")
        client.close()


def test_an_answer_is_aws_json_with_a_request_id(rekognition: LocalRekognition) -> None:
    """The headers that botocore and logs look for."""
    client = http.client.HTTPConnection("127.0.0.1", rekognition.port, timeout=5)
    seen = set()
    for _ in range(2):
        client.request("POST", "/", json.dumps({"SessionId": IDS[0]}), {"X-Amz-Target": raw.GET})
        answer = client.getresponse()
        answer.read()
        assert answer.getheader("Content-Type") == "application/x-amz-json-1.1"
        seen.add(answer.getheader("x-amzn-RequestId"))
    client.close()
    assert len(seen) == 2


def test_a_client_that_never_reads_does_not_fill_the_memory() -> None:
    """Answers wait until what was written before has gone; requests wait in the client's own socket."""
    config = LocalConfig(answer_any=True, image_mode="inline", image_bytes=200_000)
    with LocalRekognition(config) as rekognition, raw.connect(rekognition.port) as connection:
        connection.setblocking(False)
        bunch = b"".join(raw.get(session_id) for session_id in session_ids(1, 5000))
        sent = 0
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline and sent < 50_000_000:
            try:
                sent += connection.send(bunch)
            except BlockingIOError:
                time.sleep(0.01)
        assert sent < 50_000_000
        assert rekognition.stats()["answers"] < 200
