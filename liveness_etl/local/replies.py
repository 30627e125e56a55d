"""Answers, errors and faults as bytes on a connection."""

import json
from typing import Any

from liveness_etl.local.answers import make_answer
from liveness_etl.local.config import NOT_FOUND, Fault, LocalConfig
from liveness_etl.local.sessions import session_id_for
from liveness_etl.local.wire import Connection

_ERRORS = {
    "AccessDeniedException": "User: arn:aws:iam::123456789012:user/local is not authorized to perform: "
    "rekognition:GetFaceLivenessSessionResults because no identity-based policy allows the action",
    "InternalServerError": "Amazon Rekognition experienced a service issue. Try your call again.",
    "InvalidParameterException": "Request has invalid parameters",
    NOT_FOUND: "Session not found",
    "ThrottlingException": "Rate exceeded",
    "ProvisionedThroughputExceededException": "Provisioned rate exceeded",
    "UnknownOperationException": "The operation is not known",
    "SerializationException": "The request body could not be read",
}
_FAULT_ERRORS = {
    "500": "InternalServerError",
    "throttle": "ThrottlingException",
    "provisioned": "ProvisionedThroughputExceededException",
    "denied": "AccessDeniedException",
    "invalid": "InvalidParameterException",
    "not_found": NOT_FOUND,
}


def send_json(connection: Connection, answer: dict[str, Any], status: int = 200) -> None:
    connection.reply(status, _encoded(answer))


def send_error(connection: Connection, code: str) -> None:
    """An error as AWS sends it: told apart by `__type`; all but server errors come as 400, throttles too."""
    # AWS is not of one mind about the key; botocore reads both.
    key = "message" if code == "ThrottlingException" else "Message"
    status = 500 if code == "InternalServerError" else 400
    connection.reply(status, _encoded({"__type": code, key: _ERRORS[code]}))


def send_fault(connection: Connection, fault: Fault, session_id: str, config: LocalConfig) -> None:
    """Any fault but "stall", which is a late answer."""
    if not isinstance(fault, str):
        body = fault["body"]
        raw = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
        connection.reply(fault.get("status", 200), raw, headers=fault.get("headers"))
    elif fault == "reset":
        connection.reset()
    elif fault == "cut":
        connection.cut(200, _encoded(make_answer(config, session_id, "SUCCEEDED")))
    elif fault == "garbage":
        connection.reply(200, b"this is no JSON {")
    elif fault == "binary":
        connection.reply(200, b"\x89PNG\xff\xfe")
    elif fault == "empty":
        connection.reply(200, b"{}")
    elif fault == "html503":
        page = b"<html><body><h1>503 Service Unavailable</h1></body></html>"
        connection.reply(503, page, "text/html")
    elif fault == "wrong_id":
        other = session_id_for(config.seed, "other", session_id)
        send_json(connection, make_answer(config, other, "SUCCEEDED"))
    else:
        send_error(connection, _FAULT_ERRORS[fault])


def _encoded(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode()
