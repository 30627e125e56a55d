"""The server as a whole: settings, statistics, administration, its own process, its end."""

import contextlib
import http.client
import json
import math
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from liveness_etl.local import LocalConfig, LocalRekognition, serve, session_ids
from tests.local import raw

IDS = list(session_ids(9, 10))
ALL_SUCCEED = LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 1.0})


def administer(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    client.request(method, f"/_local/{path}", None if body is None else json.dumps(body))
    answer = client.getresponse()
    decoded = json.loads(answer.read())
    client.close()
    return answer.status, decoded


@pytest.mark.parametrize(
    "setting",
    [
        {"limit_tps": 0},
        {"limit_tps": "fast"},
        {"limit_tps": math.nan},
        {"limit_tps": 10**400},
        {"limit_kind": "leaky"},
        {"burst_seconds": -1},
        {"ttl_seconds": 0},
        {"start_seconds": 30},
        {"expired_answer": "GONE"},
        {"outcome_shares": {"SUCCEEDED": 0.5}},
        {"outcome_shares": {"DONE": 1.0}},
        {"outcome_shares": {"SUCCEEDED": 1.5, "FAILED": -0.5}},
        {"outcome_shares": []},
        {"image_mode": "png"},
        {"image_bytes": 204_801},
        {"image_bytes": 10},
        {"image_bytes": 100, "image_marker": b"x" * 90},
        {"image_marker": "text"},
        {"image_bucket": "x"},
        {"fault_share": 1.1},
        {"fault_share": True},
        {"fault_kinds": ()},
        {"fault_kinds": ("nonsense",)},
        {"faults": {IDS[0]: "nonsense"}},
        {"faults": {IDS[0]: ["500", "nonsense"]}},
        {"faults": {IDS[0]: {"status": 200}}},
        {"faults": {IDS[0]: {"body": "", "status": 99}}},
        {"faults": {IDS[0]: {"body": "", "headers": {"a": 1}}}},
        {"faults": {IDS[0]: 500}},
        {"faults": ["500"]},
        {"seed": "x"},
        {"count_ids": "yes"},
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(setting: dict[str, Any]) -> None:
    """ValueError, before anything runs."""
    word = next(iter(setting)).removesuffix("s").replace("start_second", "finish_second")
    with pytest.raises(ValueError, match=word.split("_")[-1]):
        LocalConfig(**setting)


def test_settings_that_do_not_exist_are_refused_while_it_runs_and_nothing_changes() -> None:
    """A typing error does not pass for a change."""
    with LocalRekognition(ALL_SUCCEED) as rekognition:
        with pytest.raises(ValueError, match="limit_rps"):
            rekognition.configure(limit_rps=5, answer_any=False)
        with pytest.raises(ValueError, match="limit_tps"):
            rekognition.configure(limit_tps=-5, answer_any=False)
        assert [status for status, _ in raw.ask(rekognition.port, IDS)] == [200] * 10


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "localhost", "example.org", ""])
def test_only_loopback_addresses_are_listened_on(host: str) -> None:
    """It checks no signature."""
    with pytest.raises(ValueError, match="loopback"):
        LocalRekognition(host=host)
    with pytest.raises(ValueError, match="loopback"):
        serve(LocalConfig(), host)


def test_a_taken_port_is_an_error_and_leaves_no_thread() -> None:
    """The caller hears of it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        rekognition = LocalRekognition(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"), rekognition:
            pass
    assert not [thread for thread in threading.enumerate() if thread.name == "local-rekognition"]


def test_it_ends_with_its_block_whatever_is_under_way() -> None:
    """No thread, no open port, and the statistics can still be read; it can run again."""
    rekognition = LocalRekognition(ALL_SUCCEED)
    with rekognition:
        with pytest.raises(RuntimeError, match="already"), rekognition:
            pass
        rekognition.configure(faults={IDS[0]: "stall"}, stall_seconds=60)
        connection = raw.connect(rekognition.port)
        connection.sendall(raw.get(IDS[0]))
        list(raw.ask(rekognition.port, IDS[1:]))
        port = rekognition.port
    assert not [thread for thread in threading.enumerate() if thread.name == "local-rekognition"]
    with connection, contextlib.suppress(ConnectionError):
        assert connection.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        raw.connect(port)
    assert rekognition.stats()["answers"] == 9
    with rekognition:
        assert len(list(raw.ask(rekognition.port, IDS[1:]))) == 9


def test_statistics_add_up() -> None:
    """Every request is accepted or rejected, and every accepted one is an answer, an error or a fault."""
    config = LocalConfig(answer_any=True, count_ids=True, fault_share=0.2, fault_kinds=("empty",))
    with LocalRekognition(config) as rekognition:
        list(raw.ask(rekognition.port, session_ids(2, 500)))
        stats = rekognition.stats()
    errors = stats["by_outcome"]["SessionNotFoundException"]
    assert stats["requests"] == 500 == sum(stats["accepted_per_second"])
    assert stats["throttled"] == 0 == sum(stats["rejected_per_second"])
    assert stats["answers"] + errors + stats["faults"] == 500
    assert stats["answers"] == sum(stats["answers_per_second"]) == sum(stats["answers_by_id"].values())
    assert sum(stats["asks_by_id"].values()) == 500
    assert len(stats["accepted_per_second"]) == len(stats["rejected_per_second"])
    assert 50 < stats["faults"] < 150


def test_millions_can_be_asked_for_without_keeping_any() -> None:
    """Only ids whose asks differ are remembered."""
    with LocalRekognition(LocalConfig(answer_any=True, latency_tail_share=0.0)) as rekognition:
        list(raw.ask(rekognition.port, session_ids(2, 1000)))
        assert rekognition.stats()["asks_by_id"] == {}
        assert rekognition._service._asks == {}


def test_another_process_can_read_and_change_it(connect: Callable[[str], Any]) -> None:
    """The admin paths do what the Python methods do."""
    with LocalRekognition(LocalConfig(outcome_shares={"SUCCEEDED": 1.0}, ttl_seconds=None)) as rekognition:
        port = rekognition.port
        added = [[IDS[0], 1_700_000_000.5], [IDS[1], None]]
        assert administer(port, "POST", "sessions", added) == (200, {"added": 2})
        client = connect(rekognition.endpoint_url)
        assert client.get_face_liveness_session_results(SessionId=IDS[0])["Status"] == "SUCCEEDED"
        assert client.get_face_liveness_session_results(SessionId=IDS[1])["Status"] == "CREATED"
        changes = {"faults": {IDS[0]: ["500"]}, "image_marker": "marked"}
        assert administer(port, "POST", "config", changes) == (200, {})
        with pytest.raises(client.exceptions.InternalServerError):
            client.get_face_liveness_session_results(SessionId=IDS[0])
        status, stats = administer(port, "GET", "stats")
        assert (status, stats["answers"], stats["faults"]) == (200, 2, 1)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("config", {"limit_tps": -1}, 400),
        ("config", {"nonsense": 1}, 400),
        ("config", [], 400),
        ("config", None, 400),
        ("sessions", {}, 400),
        ("sessions", [["x", None]], 400),
        ("sessions", [[IDS[0], "yesterday"]], 400),
        ("sessions", [[IDS[0]]], 400),
        ("else", {}, 404),
    ],
)
def test_nonsense_to_the_admin_paths_is_refused_with_a_sentence(path: str, body: Any, status: int) -> None:
    """The message says what was wrong."""
    with LocalRekognition() as rekognition:
        answered, answer = administer(rekognition.port, "POST", path, body)
        assert (answered, bool(answer["message"])) == (status, True)


def test_settings_are_changed_between_requests_by_many_threads() -> None:
    """Methods may be called from any thread."""
    with LocalRekognition(ALL_SUCCEED) as rekognition:
        threads = [
            threading.Thread(target=lambda: [rekognition.configure(limit_tps=1e6) for _ in range(50)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        assert all(status == 200 for status, _ in raw.ask(rekognition.port, session_ids(1, 500)))
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_runs_as_a_process_until_a_signal(number: signal.Signals) -> None:
    """It prints its URL on one line when it is ready, and ends in order."""
    command = [sys.executable, "-m", "liveness_etl.local", "--port", "0", "--config", '{"answer_any": true}']
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        assert len(list(raw.ask(int(url.rsplit(":", 1)[1]), IDS))) == 10
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config", "{"], "one JSON object"),
        (["--config", "[]"], "one JSON object"),
        (["--config", '{"limit_rps": 5}'], "limit_rps"),
        (["--config", '{"limit_tps": -5}'], "limit_tps"),
        (["--host", "0.0.0.0"], "loopback"),
        (["--port", "99999"], "port"),
    ],
)
def test_wrong_usage_of_the_command_is_a_sentence_and_exit_2(arguments: list[str], words: str) -> None:
    """No traceback."""
    command = [sys.executable, "-m", "liveness_etl.local", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
