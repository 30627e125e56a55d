"""What goes wrong and what is slow, as boto3 sees it."""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from liveness_etl.local import LocalConfig, LocalRekognition, session_ids
from liveness_etl.local.config import FAULT_KINDS, TRANSIENT_FAULTS
from liveness_etl.local.faults import delay_seconds, depends_on_ask, fault_at
from tests.local import raw

CONFIG = LocalConfig(seed=3, answer_any=True, outcome_shares={"SUCCEEDED": 1.0}, count_ids=True)
ONE, TWO, THREE = session_ids(3, 3)


@pytest.fixture(scope="module")
def running() -> Iterator[LocalRekognition]:
    with LocalRekognition(CONFIG) as rekognition:
        yield rekognition


@pytest.fixture
def rekognition(running: LocalRekognition) -> Iterator[LocalRekognition]:
    yield running
    running.configure(faults={}, fault_share=0.0, latency_seconds=0.0)


@pytest.fixture
def fetch(rekognition: LocalRekognition, connect: Callable[[str], Any]) -> Callable[[str], dict[str, Any]]:
    client = connect(rekognition.endpoint_url)
    return lambda session_id: client.get_face_liveness_session_results(SessionId=session_id)


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        ("500", "InternalServerError", 500),
        ("throttle", "ThrottlingException", 400),
        ("provisioned", "ProvisionedThroughputExceededException", 400),
        ("denied", "AccessDeniedException", 400),
        ("invalid", "InvalidParameterException", 400),
        ("not_found", "SessionNotFoundException", 400),
    ],
)
def test_every_modelled_error_reaches_boto3_by_its_code(
    rekognition: LocalRekognition, fetch: Any, fault: str, code: str, status: int
) -> None:
    """Throttles and client errors come as 400, the server's own as 500, each with a message."""
    rekognition.configure(faults={"*": fault})
    with pytest.raises(ClientError) as caught:
        fetch(ONE)
    assert type(caught.value).__name__ == code
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["Error"]["Message"]
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert caught.value.response["ResponseMetadata"]["RequestId"]


def test_a_denial_names_an_arn_as_the_real_one_does(rekognition: LocalRekognition, fetch: Any) -> None:
    """Whoever stores the message has an account number to mask."""
    rekognition.configure(faults={"*": "denied"})
    with pytest.raises(ClientError, match=r"arn:aws:iam::\d{12}:"):
        fetch(ONE)


def test_a_reset_connection_is_an_error_and_the_next_call_works(rekognition: LocalRekognition, fetch: Any) -> None:
    """The fault takes the connection, not the server."""
    rekognition.configure(faults={ONE: "reset"})
    with pytest.raises(ConnectionClosedError):
        fetch(ONE)
    assert fetch(TWO)["SessionId"] == TWO


def test_a_reset_is_a_real_tcp_reset(rekognition: LocalRekognition) -> None:
    """Not an orderly end of the connection."""
    rekognition.configure(faults={ONE: "reset"})
    with raw.connect(rekognition.port) as connection:
        connection.sendall(raw.get(ONE))
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


@pytest.mark.parametrize("fault", ["cut", "garbage", "empty"])
def test_an_unreadable_200_is_an_answer_without_a_status(rekognition: LocalRekognition, fetch: Any, fault: str) -> None:
    """botocore does not raise for these: only Status and the right SessionId make an answer."""
    rekognition.configure(faults={ONE: fault})
    answer = fetch(ONE)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert "Status" not in answer
    assert fetch(TWO)["Status"] == "SUCCEEDED"


def test_a_cut_answer_is_shorter_than_it_said(rekognition: LocalRekognition) -> None:
    """Half of the body, then the end of the connection."""
    rekognition.configure(faults={ONE: "cut"})
    with raw.connect(rekognition.port) as connection:
        connection.sendall(raw.get(ONE))
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
    assert len(body) == length // 2


def test_bytes_that_are_no_utf8_make_botocore_raise(rekognition: LocalRekognition, fetch: Any) -> None:
    """Its JSON parser decodes before it guards against nonsense."""
    rekognition.configure(faults={ONE: "binary"})
    with pytest.raises(UnicodeDecodeError):
        fetch(ONE)


def test_a_proxys_page_is_an_error_with_the_status_for_a_code(rekognition: LocalRekognition, fetch: Any) -> None:
    """HTML with status 503."""
    rekognition.configure(faults={ONE: "html503"})
    with pytest.raises(ClientError) as caught:
        fetch(ONE)
    assert caught.value.response["Error"]["Code"] == "503"


def test_a_wrong_id_is_a_complete_answer_of_another_session(rekognition: LocalRekognition, fetch: Any) -> None:
    """It must not be taken for the one that was asked."""
    rekognition.configure(faults={ONE: "wrong_id"})
    answer = fetch(ONE)
    assert answer["Status"] == "SUCCEEDED"
    assert answer["SessionId"] != ONE


def test_a_stalled_ask_is_silent_for_its_time_and_then_answers(rekognition: LocalRekognition, fetch: Any) -> None:
    """Longer than a client waits, if so set."""
    rekognition.configure(faults={ONE: "stall"}, stall_seconds=0.2)
    started = time.monotonic()
    assert fetch(ONE)["SessionId"] == ONE
    assert time.monotonic() - started >= 0.19


def test_a_client_that_gave_up_on_a_stall_is_not_counted_as_answered(rekognition: LocalRekognition) -> None:
    """Nothing was delivered."""
    rekognition.configure(faults={THREE: "stall"}, stall_seconds=0.1)
    with raw.connect(rekognition.port) as connection:
        connection.sendall(raw.get(THREE))
    deadline = time.monotonic() + 5
    while (stats := rekognition.stats())["in_flight"] or THREE not in stats["asks_by_id"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert THREE not in stats["answers_by_id"]


def test_a_custom_answer_is_sent_as_it_stands(rekognition: LocalRekognition) -> None:
    """Status, headers and body are the test's own."""
    fault = {"body": '{"SessionId": 5}', "status": 207, "headers": {"X-Odd": "yes"}}
    rekognition.configure(faults={ONE: fault})
    with raw.connect(rekognition.port) as connection:
        connection.sendall(raw.get(ONE))
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 207 ")
    assert b"x-odd: yes" in head
    assert body == b'{"SessionId": 5}'


def test_a_script_says_what_each_ask_meets(rekognition: LocalRekognition, fetch: Any) -> None:
    """Asks past its end are answered."""
    rekognition.configure(faults={"00000000-0000-4000-8000-00000000000a": ["500", None, "throttle"]})
    codes = []
    for _ in range(5):
        try:
            codes.append(fetch("00000000-0000-4000-8000-00000000000a")["Status"])
        except ClientError as error:
            codes.append(error.response["Error"]["Code"])
    assert codes == ["InternalServerError", "SUCCEEDED", "ThrottlingException", "SUCCEEDED", "SUCCEEDED"]


def test_a_rejection_by_the_limit_is_no_ask() -> None:
    """A script does not lose a step to the limit."""
    config = replace(CONFIG, faults={ONE: ["500"]}, limit_tps=0.001)
    with LocalRekognition(config) as rekognition:
        list(raw.ask(rekognition.port, [TWO, ONE, ONE]))
        rekognition.configure(limit_tps=None)
        statuses = [status for status, _ in raw.ask(rekognition.port, [ONE, ONE])]
        stats = rekognition.stats()
    assert statuses == [500, 200]
    assert (stats["asks_by_id"][ONE], stats["answers_by_id"][ONE], stats["faults"]) == (4, 1, 1)


def test_a_share_of_ids_meets_faults_on_its_first_one_or_two_asks() -> None:
    """Always the same ids, with the same kinds, in every process."""
    config = LocalConfig(fault_share=0.09)
    ids = list(session_ids(1, 4000))
    met = {each: [fault_at(config, each, number) for number in range(1, 5)] for each in ids}
    struck = [faults for faults in met.values() if faults[0] is not None]
    assert len(struck) / len(ids) == pytest.approx(0.09, abs=0.015)
    assert all(faults[1] is None for faults in met.values() if faults[0] is None)
    assert all(faults[2:] == [None, None] for faults in met.values())
    assert 0.3 < sum(faults[1] is not None for faults in struck) / len(struck) < 0.7
    assert {faults[0] for faults in struck} == set(TRANSIENT_FAULTS)
    assert all(depends_on_ask(config, each) == (met[each][0] is not None) for each in ids)


def test_every_fault_kind_can_be_met_by_share() -> None:
    """fault_kinds narrows or widens what is met."""
    config = LocalConfig(fault_share=1.0, fault_kinds=FAULT_KINDS)
    assert {fault_at(config, each, 1) for each in session_ids(1, 1000)} == set(FAULT_KINDS)
    config = replace(config, fault_kinds=("denied",))
    assert {fault_at(config, each, 1) for each in session_ids(1, 100)} == {"denied"}


def test_every_struck_id_is_answered_at_the_third_ask(rekognition: LocalRekognition) -> None:
    """Over HTTP, with the counts to show for it."""
    rekognition.configure(fault_share=1.0, fault_kinds=("500", "throttle", "empty"))
    before = rekognition.stats()["faults"]
    ids = list(session_ids(11, 200))
    for _ in range(2):
        list(raw.ask(rekognition.port, ids))
    assert all(
        status == 200 and json.loads(body)["Status"] == "SUCCEEDED" for status, body in raw.ask(rekognition.port, ids)
    )
    assert 200 < rekognition.stats()["faults"] - before < 400


def test_latency_has_its_median_and_its_tail() -> None:
    """A slow id is not slow for ever: the tail is drawn anew for each ask."""
    config = LocalConfig(latency_seconds=0.04, latency_tail_share=0.02, latency_tail_seconds=2)
    ids = list(session_ids(1, 4000))
    first = [delay_seconds(config, each, 1) for each in ids]
    assert first == [delay_seconds(config, each, 1) for each in ids]
    assert statistics.median(first) == pytest.approx(0.04, rel=0.05)
    slow = [each for each, delay in zip(ids, first, strict=True) if delay >= 2]
    assert len(slow) / len(ids) == pytest.approx(0.02, abs=0.01)
    assert max(first) <= 20
    assert sum(delay_seconds(config, each, 2) >= 2 for each in slow) < len(slow) / 4
    assert all(depends_on_ask(config, each) for each in slow)


def test_without_latency_there_is_no_delay() -> None:
    """The default answers at once."""
    assert delay_seconds(LocalConfig(), ONE, 1) == 0


def test_many_slow_answers_are_under_way_at_the_same_time(rekognition: LocalRekognition) -> None:
    """Connections do not wait for each other."""
    rekognition.configure(latency_seconds=0.3)
    with ExitStack() as stack:
        connections = [stack.enter_context(raw.connect(rekognition.port)) for _ in range(200)]
        started = time.monotonic()
        for connection, session_id in zip(connections, session_ids(1, 200), strict=True):
            connection.sendall(raw.get(session_id))
        for connection in connections:
            assert next(raw.answers(connection))[0] == 200
        assert time.monotonic() - started < 30  # one after the other they take a minute
    assert rekognition.stats()["most_in_flight"] >= 150
