"""The one module that calls Rekognition: client, call, error translation.

Error codes, never HTTP statuses, tell errors apart (throttles come as 400). Two of botocore's events make it
stricter about answers than it is by itself: see `answer_body` and `members`.
"""

import re
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Final

import boto3
import botocore.config
import botocore.exceptions as boto_errors
import botocore.handlers
import botocore.session

from liveness_etl.aws import make_client, why_unreachable
from liveness_etl.errors import UsageError
from liveness_etl.extract.answer_body import send_within
from liveness_etl.extract.connection import open_pool
from liveness_etl.extract.members import ANSWER, UNMODELLED, read_members
from liveness_etl.extract.retry import CallFailed
from liveness_etl.masking import masked
from liveness_etl.transform.normalize import NO_SUCH_SESSION
from liveness_etl.transform.result import Answer, UnreadableAnswer, parse_result

THROTTLED: Final = frozenset(
    {
        "ThrottlingException",
        "ProvisionedThroughputExceededException",
        "Throttling",
        "ThrottledException",
        "RequestThrottled",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "SlowDown",
    }
)
CREDENTIALS: Final = frozenset(
    {
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
    }
)
DENIED: Final = frozenset({"AccessDeniedException", "AccessDenied", "NotAuthorized", "OptInRequired"})
FINAL: Final = frozenset(NO_SUCH_SESSION)

# With one attempt a call they decide nothing, and take a twentieth of its CPU time.
_RETRY_HANDLERS: Final = (
    ("needs-retry.rekognition", "retry-config-rekognition"),
    ("request-created.rekognition", "seed-max-attempts-rekognition"),
)
_OPERATION: Final = "GetFaceLivenessSessionResults"
_CALL_TIMEOUTS: Final = 3  # an answer that trickles may take so many times as long as one that is silent
_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")

Fetch = Callable[[str], Answer]
"""One call for one session id. Raises CallFailed."""


def rekognition_client(
    session: boto3.session.Session, *, endpoint_url: str | None, connections: int, timeout_seconds: float
) -> Any:
    """A client that makes one attempt a call, with a connection for each worker. Raises UsageError."""
    client = make_client(
        session,
        "rekognition",
        botocore.config.Config(
            retries={"total_max_attempts": 1, "mode": "standard"},
            parameter_validation=False,  # the manifest's reader has checked the id
            # botocore builds its own User-Agent twice a call, a tenth of the call's CPU time.
            user_agent=f"liveness-etl/{version('liveness-etl')} Boto3/{boto3.__version__}",
        ),
        endpoint_url,
    )
    for event, unique_id in _RETRY_HANDLERS:
        client.meta.events.unregister(event, unique_id=unique_id)
    client.meta.events.unregister("request-created", botocore.handlers.add_retry_headers)
    core: Any = session._session  # botocore's session: boto3 has no interface of its own to what it is configured with
    pool = open_pool(
        client.meta.endpoint_url,
        ca_bundle=core.get_config_variable("ca_bundle"),
        connections=connections,
        timeout_seconds=timeout_seconds,
    )
    send = send_within(pool, _CALL_TIMEOUTS * timeout_seconds)
    client.meta.events.register(f"before-send.rekognition.{_OPERATION}", send)
    read = read_members(client.meta.service_model.operation_model(_OPERATION).output_shape)
    client.meta.events.register(f"before-parse.rekognition.{_OPERATION}", read)
    close = client.close

    def close_both() -> None:
        close()
        pool.close()

    client.close = close_both
    return client


def answer_shape() -> Any:
    """botocore's model of an answer. Makes no client, and needs neither a region nor credentials."""
    service = botocore.session.get_session().get_service_model("rekognition")
    return service.operation_model(_OPERATION).output_shape


def check_reachable(endpoint_url: str, timeout_seconds: float) -> None:
    """Connect once to a configured endpoint, before anything is asked or written. Raises UsageError."""
    reason = why_unreachable(endpoint_url, timeout_seconds)
    if reason is not None:
        raise UsageError(f"cannot connect to {endpoint_url} ({reason}): check --endpoint-url")


def fetch_with(client: Any) -> Fetch:
    """The call of GetFaceLivenessSessionResults through this client."""
    call = client.get_face_liveness_session_results

    def fetch(session_id: str) -> Answer:
        try:
            answer = call(SessionId=session_id)
        except CallFailed as failure:
            raise failure from None
        except Exception as error:
            raise translated(error) from None
        try:
            return parse_result(session_id, answer[ANSWER], unmodelled=answer[UNMODELLED])
        except UnreadableAnswer as error:
            raise CallFailed("UnreadableAnswer", str(error)) from None
        except Exception as error:  # a bug, which one odd answer must not turn into the end of the run
            raise CallFailed("UnreadableAnswer", f"it could not be parsed ({type(error).__name__})") from None

    return fetch


def translated(error: Exception) -> CallFailed:
    """Whatever a call of botocore raised, as a CallFailed. What it quotes of a body is not kept."""
    if isinstance(error, boto_errors.ClientError):
        details = error.response.get("Error", {})
        code = str(details.get("Code") or "UnknownError").rpartition("#")[2].partition(":")[0]
        if code.isascii() and code.isdigit():
            # No AWS error body: botocore gives the HTTP status, and may quote the body as message.
            return CallFailed(f"Http{code[:3]}", "the answer holds no error of AWS")
        return CallFailed(
            code if _CODE.fullmatch(masked(code)) else "UnknownError",
            masked(str(details.get("Message") or "")),
            throttled=code in THROTTLED,
            credentials=code in CREDENTIALS,
            denied=code in DENIED,
            final=code in FINAL,
        )
    if isinstance(error, boto_errors.ReadTimeoutError | boto_errors.ConnectTimeoutError):
        return CallFailed("TimeoutError", "no answer in time")
    if isinstance(error, _NO_CREDENTIALS):
        return CallFailed("CredentialsError", masked(str(error)), credentials=True)
    if isinstance(error, boto_errors.HTTPClientError | boto_errors.ConnectionError):
        return CallFailed("ConnectionError", type(error).__name__)
    # botocore's parsers trip over a broken body in many ways, with and without an error of their own.
    return CallFailed("UnreadableAnswer", f"botocore could not parse the answer ({type(error).__name__})")


_NO_CREDENTIALS: Final = (
    boto_errors.NoCredentialsError,
    boto_errors.PartialCredentialsError,
    boto_errors.CredentialRetrievalError,
    boto_errors.TokenRetrievalError,
    boto_errors.SSOError,
    boto_errors.LoginError,
    boto_errors.NoAuthTokenError,
    boto_errors.RefreshWithMFAUnsupportedError,
)
