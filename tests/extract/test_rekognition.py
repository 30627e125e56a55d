"""The seam to botocore: whatever a call does, out comes an Answer or a CallFailed."""

import inspect
import json
import socket
import string
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import botocore.exceptions
import botocore.session
import pytest
import urllib3.exceptions

from liveness_etl.errors import UsageError
from liveness_etl.extract.account import check_credentials, open_session, region_of
from liveness_etl.extract.rekognition import Fetch, check_reachable, fetch_with, rekognition_client, translated
from liveness_etl.extract.retry import CallFailed
from liveness_etl.local import LocalRekognition
from tests.running import SUCCEEDING, ids

(ONE,) = ids(1)
KINDS = ("throttled", "denied", "credentials")


@pytest.fixture(scope="module")
def running() -> Iterator[LocalRekognition]:
    with LocalRekognition(SUCCEEDING) as rekognition:
        yield rekognition


@pytest.fixture
def rekognition(running: LocalRekognition) -> Iterator[LocalRekognition]:
    yield running
    running.configure(faults={})


def client_of(endpoint_url: str, timeout_seconds: float = 0.5) -> Any:
    session = open_session(region="us-east-1", profile=None)
    return closing(
        rekognition_client(session, endpoint_url=endpoint_url, connections=2, timeout_seconds=timeout_seconds)
    )


@pytest.fixture(scope="module")
def fetch(running: LocalRekognition) -> Iterator[Fetch]:
    """One client for all tests: to make one costs more than a call."""
    with client_of(running.endpoint_url) as client:
        yield fetch_with(client)


def failure_of(fetch: Fetch, session_id: str = ONE) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        fetch(session_id)
    return caught.value


def kind_of(failure: CallFailed) -> str:
    """throttled, denied or credentials; else final or failed, which is retried."""
    (kind,) = [name for name in KINDS if getattr(failure, name)] or ["failed" if failure.retryable else "final"]
    return kind


def test_an_answer_comes_back_parsed(fetch: Fetch) -> None:
    """A 200 with the right id is an Answer."""
    answer = fetch(ONE)
    assert (answer.result.session_id, answer.result.status) == (ONE, "SUCCEEDED")


# Errors of the service


MODELLED = {
    "AccessDeniedException": "denied",
    "InternalServerError": "failed",
    "InvalidParameterException": "final",
    "ProvisionedThroughputExceededException": "throttled",
    "SessionNotFoundException": "final",
    "ThrottlingException": "throttled",
}


def test_every_error_that_the_service_model_names_is_known() -> None:
    """A new SDK that models another error fails here, until somebody decides what it means."""
    model = botocore.session.get_session().get_service_model("rekognition")
    shapes = model.operation_model("GetFaceLivenessSessionResults").error_shapes
    assert {shape.name for shape in shapes} == MODELLED.keys()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *MODELLED.items(),
        ("TooManyRequestsException", "throttled"),
        ("RequestLimitExceeded", "throttled"),
        ("UnrecognizedClientException", "credentials"),
        ("ExpiredTokenException", "credentials"),
        ("InvalidSignatureException", "credentials"),
        ("SomethingNewException", "failed"),
    ],
)
@pytest.mark.parametrize("status", [400, 500, 503])
def test_an_error_is_told_by_its_code_and_never_by_its_status(
    rekognition: LocalRekognition, fetch: Fetch, code: str, kind: str, status: int
) -> None:
    """The same code means the same under any HTTP status."""
    body = json.dumps({"__type": f"com.amazonaws.rekognition#{code}", "message": "as it were"})
    rekognition.configure(faults={"*": {"body": body, "status": status}})
    failure = failure_of(fetch)
    assert (failure.code, failure.message, kind_of(failure)) == (code, "as it were", kind)


def test_account_numbers_and_arns_of_a_message_are_masked(rekognition: LocalRekognition, fetch: Fetch) -> None:
    """A denial names who was denied; the tables need not know."""
    rekognition.configure(faults={"*": "denied"})
    failure = failure_of(fetch)
    assert "is not authorized to perform" in failure.message
    assert "123456789012" not in str(failure)
    assert "arn:aws" not in str(failure)


# Answers that are none


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("garbage", "UnreadableAnswer"),
        ("binary", "UnreadableAnswer"),
        ("empty", "UnreadableAnswer"),
        ("cut", "UnreadableAnswer"),
        ("wrong_id", "UnreadableAnswer"),
        ("html503", "Http503"),
        ("reset", "ConnectionError"),
        ("stall", "TimeoutError"),
        ("500", "InternalServerError"),
        ("throttle", "ThrottlingException"),
    ],
)
def test_a_fault_is_one_failed_call_that_may_be_retried(
    rekognition: LocalRekognition, fetch: Fetch, fault: str, code: str
) -> None:
    """Each has its code, and reaches the server once: botocore retries nothing by itself."""
    rekognition.configure(faults={"*": fault}, stall_seconds=1.0)
    before = rekognition.stats()["requests"]
    failure = failure_of(fetch)
    assert failure.code == code
    assert failure.retryable
    assert rekognition.stats()["requests"] == before + 1


@pytest.mark.parametrize(
    "fault",
    [
        {"body": "SECRET", "status": 200},
        {"body": '"SECRET"', "status": 200},
        {"body": '["SECRET"]', "status": 200},
        {"body": json.dumps({"SessionId": ONE, "Status": ["SECRET"]})},
        {"body": json.dumps({"SessionId": ONE, "Status": "SUCCEEDED", "Confidence": "SECRET"})},
        {"body": json.dumps({"SessionId": ONE, "Status": "SUCCEEDED", "ReferenceImage": {"Bytes": "SECRET!"}})},
        {"body": json.dumps({"SessionId": "SECRET", "Status": "SUCCEEDED"})},
        {"body": "<html>SECRET</html>", "status": 502, "headers": {"content-type": "text/html"}},
        {"body": "SECRET", "status": 400},
        {"body": '{"SECRET": "SECRET"}', "status": 500},
        {"body": "SECRET", "status": 301, "headers": {"location": "http://127.0.0.1:1/SECRET"}},
        {"body": b"\xff\xfeSECRET", "status": 500},
    ],
    ids=lambda fault: f"{fault.get('status', 200)}-{str(fault['body'])[:24]}",
)
def test_no_text_of_a_body_that_is_no_answer_is_quoted(
    rekognition: LocalRekognition, fetch: Fetch, fault: dict[str, Any]
) -> None:
    """It may hold anything, image data too; and no traceback leads back to it."""
    rekognition.configure(faults={"*": fault})
    failure = failure_of(fetch)
    assert failure.retryable
    assert "SECRET" not in str(failure)
    assert failure.__suppress_context__


@pytest.mark.parametrize("status", [301, 400, 403, 404, 500, 502, 503])
def test_an_error_page_is_named_by_its_status(rekognition: LocalRekognition, fetch: Fetch, status: int) -> None:
    """A proxy's page has no AWS code: Http and the number stand for it."""
    rekognition.configure(faults={"*": {"body": "<html></html>", "status": status}})
    assert failure_of(fetch).code == f"Http{status}"


def test_a_bug_of_ours_is_one_unreadable_answer_and_not_the_end_of_the_run(
    fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named by its type alone: the exception's text may quote the answer."""

    def trip(*_: object, **__: object) -> None:
        raise KeyError("SECRET")

    monkeypatch.setattr("liveness_etl.extract.rekognition.parse_result", trip)
    failure = failure_of(fetch)
    assert (failure.code, failure.retryable) == ("UnreadableAnswer", True)
    assert "KeyError" in failure.message
    assert "SECRET" not in failure.message


# Exceptions of botocore


def botocore_errors() -> list[Exception]:
    """One of every exception class of botocore, with a secret wherever a text can stand."""
    found: list[Exception] = []
    for kind in vars(botocore.exceptions).values():
        if not (inspect.isclass(kind) and issubclass(kind, Exception)) or issubclass(kind, Warning):
            continue
        if issubclass(kind, botocore.exceptions.ClientError):
            found.append(kind({"Error": {"Code": "SomeException", "Message": "as it were"}}, "GetResults"))
        elif issubclass(kind, botocore.exceptions.WaiterError):
            found.append(kind(name="name", reason="reason", last_response={}))
        elif issubclass(kind, botocore.exceptions.BotoCoreError):
            fields = (field for _, field, _, _ in string.Formatter().parse(kind.fmt))
            found.append(kind(**{field: f"SECRET 123456789012 {field}" for field in fields if field}))
    return found


@pytest.mark.parametrize("error", botocore_errors(), ids=lambda error: type(error).__name__)
def test_every_exception_of_botocore_is_translated(error: Exception) -> None:
    """None passes the seam, and none brings an account number along."""
    failure = translated(error)
    assert failure.code
    assert "123456789012" not in str(failure)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (botocore.exceptions.EndpointConnectionError, "ConnectionError"),
        (botocore.exceptions.ConnectionClosedError, "ConnectionError"),
        (botocore.exceptions.ProxyConnectionError, "ConnectionError"),
        (botocore.exceptions.SSLError, "ConnectionError"),
        (botocore.exceptions.ConnectTimeoutError, "TimeoutError"),
        (botocore.exceptions.ReadTimeoutError, "TimeoutError"),
        (botocore.exceptions.NoCredentialsError, "CredentialsError"),
        (botocore.exceptions.CredentialRetrievalError, "CredentialsError"),
        (botocore.exceptions.UnauthorizedSSOTokenError, "CredentialsError"),
        (botocore.exceptions.LoginRefreshRequired, "CredentialsError"),
    ],
)
def test_what_stands_between_us_and_the_service_has_a_code_of_its_own(kind: type[Exception], code: str) -> None:
    """Connections are retried, credentials stop the source; neither is called an unreadable answer."""
    (error,) = [each for each in botocore_errors() if type(each) is kind]
    failure = translated(error)
    assert failure.code == code
    assert failure.credentials == (code == "CredentialsError")
    assert failure.retryable == (code != "CredentialsError")


@pytest.mark.parametrize(
    "error", [ValueError("SECRET"), KeyError("SECRET"), urllib3.exceptions.HTTPError("SECRET"), OSError(5, "SECRET")]
)
def test_what_botocore_lets_through_is_an_unreadable_answer(error: Exception) -> None:
    """Its parsers fail in Python's own words, which may quote the body."""
    failure = translated(error)
    assert failure.code == "UnreadableAnswer"
    assert "SECRET" not in str(failure)


# The way there


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_nobody_at_the_endpoint_is_a_connection_error() -> None:
    """A call to a closed port fails at once, once, and may be retried."""
    with client_of(f"http://127.0.0.1:{closed_port()}") as client:
        failure = failure_of(fetch_with(client))
    assert (failure.code, failure.retryable) == ("ConnectionError", True)


def test_an_endpoint_that_cannot_be_reached_is_found_out_before_any_call(rekognition: LocalRekognition) -> None:
    """check_reachable passes for a listening server and names the address of one that is not there."""
    check_reachable(rekognition.endpoint_url, 1.0)
    url = f"http://127.0.0.1:{closed_port()}"
    with pytest.raises(UsageError, match=r"cannot connect to .*--endpoint-url") as caught:
        check_reachable(url, 1.0)
    assert url in str(caught.value)


def test_an_unknown_profile_is_a_usage_error() -> None:
    """One sentence, not botocore's exception."""
    with pytest.raises(UsageError, match="no-such-profile"):
        open_session(region="us-east-1", profile="no-such-profile")


def test_missing_credentials_are_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any call, with the names of what to set."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(UsageError, match="AWS_ACCESS_KEY_ID"):
        check_credentials(open_session(region="us-east-1", profile=None), None)


def test_region_is_the_given_one_or_botos_own_or_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any, the sentence names the ways to give one."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert region_of(open_session(region="eu-west-1", profile=None)) == "eu-west-1"
    with pytest.raises(UsageError, match="--region"):
        region_of(open_session(region=None, profile=None))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-south-1")
    assert region_of(open_session(region=None, profile=None)) == "ap-south-1"
