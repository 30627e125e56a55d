"""What the stand-in knows and does with a request, whatever it runs in.

Operations: GetFaceLivenessSessionResults and CreateFaceLivenessSession of AWS JSON 1.1. Signatures are not
checked: any credentials will do. ChallengePreferences and KmsKeyId of a created session are ignored.

For tests in another process: `GET /_local/stats`, `POST /_local/config` with settings to change,
`POST /_local/sessions` with a list of [id, created_at in epoch seconds or null for now].
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from liveness_etl.local.answers import make_answer
from liveness_etl.local.config import NOT_FOUND, STATUSES, Fault, LocalConfig, changes_from_json, is_number
from liveness_etl.local.faults import delay_seconds, depends_on_ask, fault_at
from liveness_etl.local.limits import changed_limit, make_limit
from liveness_etl.local.replies import send_error, send_fault, send_json
from liveness_etl.local.sessions import (
    SESSION_ID,
    ImagePlan,
    Session,
    outcome_at,
    session_id_for,
    stateless_outcome,
)
from liveness_etl.local.stats import Stats
from liveness_etl.local.wire import Connection, Request

_GET = "RekognitionService.GetFaceLivenessSessionResults"
_CREATE = "RekognitionService.CreateFaceLivenessSession"


class Service:
    """All state of one stand-in; used from the thread of its event loop alone while that runs.

    `clock` gives epoch seconds and decides the age of sessions, nothing else.
    """

    def __init__(self, config: LocalConfig, clock: Callable[[], float]) -> None:
        self._config = config
        self._clock = clock
        self._limit = make_limit(config)
        self._sessions: dict[str, Session] = {}
        self._asks: dict[str, int] = {}
        self._stats = Stats(config.count_ids)
        self._started = time.monotonic()
        self._rejections = 0
        self._created = 0
        self.open_connections: set[Connection] = set()

    def connect(self) -> Connection:
        number = self._stats.connected()
        return Connection(number, self._handle, self.open_connections)

    def stats(self) -> dict[str, Any]:
        return self._stats.snapshot(self._second(), len(self.open_connections))

    def configure(self, changes: dict[str, Any]) -> None:
        """Raises ValueError, with nothing changed, for settings that do not exist or cannot be."""
        config = replace(self._config, **changes_from_json(changes))
        self._limit = changed_limit(self._limit, self._config, config)
        self._stats.count_ids(config.count_ids)
        self._config = config

    def add_sessions(self, sessions: Iterable[tuple[str, float | None, str | None]]) -> int:
        """Adds (id, created_at, outcome), returns how many. Raises ValueError, with nothing added."""
        now = self._clock()
        added = {}
        for session_id, created_at, outcome in sessions:
            if not isinstance(session_id, str) or not SESSION_ID.fullmatch(session_id):
                raise ValueError("a session id must be a lower-case UUID")
            if created_at is not None and not is_number(created_at):
                raise ValueError("created_at must be epoch seconds")
            if outcome is not None and outcome not in STATUSES:
                raise ValueError(f"an outcome must be one of {', '.join(STATUSES)}")
            added[session_id] = Session(now if created_at is None else created_at, outcome)
        self._sessions.update(added)
        return len(added)

    def _second(self) -> int:
        return int(time.monotonic() - self._started)

    def _handle(self, request: Request, connection: Connection) -> None:
        if request.path.startswith("/_local/"):
            self._administer(request, connection)
            return
        target = request.headers.get("x-amz-target")
        if (request.method, request.path) != ("POST", "/") or target not in (_GET, _CREATE):
            send_error(connection, "UnknownOperationException")
            return
        asked = _decoded(request.body)
        if not isinstance(asked, dict):
            send_error(connection, "SerializationException")
            return
        session_id = asked.get("SessionId") if target == _GET else None
        if isinstance(session_id, str):
            self._stats.asked(session_id)
        if self._limit is not None and not self._limit.allows(time.monotonic()):
            self._stats.rejected(self._second())
            self._rejections += 1
            over = ("ThrottlingException", "ProvisionedThroughputExceededException")
            send_error(connection, over[(self._rejections - 1) % 2])
            return
        self._stats.accepted(self._second())
        if target == _CREATE:
            self._create(asked, connection)
        elif session_id is not None and not isinstance(session_id, str):
            send_error(connection, "SerializationException")
        elif session_id is None or not SESSION_ID.fullmatch(session_id):
            send_error(connection, "InvalidParameterException")
        else:
            self._get(session_id, connection)

    def _get(self, session_id: str, connection: Connection) -> None:
        ask = self._ask_number(session_id)
        fault = fault_at(self._config, session_id, ask)
        delay = delay_seconds(self._config, session_id, ask)
        if fault is not None:
            self._stats.fault()
        if fault == "stall":
            delay, fault = delay + self._config.stall_seconds, None
        self._stats.started()
        if delay > 0:
            asyncio.get_running_loop().call_later(delay, self._finish, session_id, fault, connection)
        else:
            self._finish(session_id, fault, connection)

    def _ask_number(self, session_id: str) -> int:
        if not depends_on_ask(self._config, session_id):
            return 1
        ask = self._asks.get(session_id, 0) + 1
        self._asks[session_id] = ask
        return ask

    def _finish(self, session_id: str, fault: Fault | None, connection: Connection) -> None:
        self._stats.ended()
        if not connection.is_open:
            return
        if fault is not None:
            send_fault(connection, fault, session_id, self._config)
            return
        outcome, images = self._outcome(session_id)
        is_answer = outcome in STATUSES
        self._stats.answered(outcome, session_id, self._second(), is_answer)
        if is_answer:
            answer = make_answer(self._config, session_id, outcome, images)
            send_json(connection, answer)
        else:
            send_error(connection, outcome)

    def _outcome(self, session_id: str) -> tuple[str, ImagePlan | None]:
        session = self._sessions.get(session_id)
        if session is not None:
            return outcome_at(self._config, session_id, session, self._clock()), session.images
        if self._config.answer_any:
            return stateless_outcome(self._config, session_id), None
        return NOT_FOUND, None

    def _create(self, asked: dict[str, Any], connection: Connection) -> None:
        settings = asked.get("Settings", {})
        output = settings.get("OutputConfig") if isinstance(settings, dict) else None
        try:
            audit_limit = settings.get("AuditImagesLimit", 0)
            if type(audit_limit) is not int or not 0 <= audit_limit <= 4:
                raise ValueError
            if output is None:
                images = ImagePlan("inline", "", "", audit_limit)
            else:
                bucket, prefix = str(output["S3Bucket"]), str(output.get("S3KeyPrefix", ""))
                images = ImagePlan("s3", bucket, prefix, audit_limit)
        except (AttributeError, KeyError, TypeError, ValueError):
            send_error(connection, "InvalidParameterException")
            return
        token = asked.get("ClientRequestToken")
        self._created += 1
        name = ("token", str(token)) if token is not None else ("number", str(self._created))
        session_id = session_id_for(self._config.seed, "created", *name)
        self._sessions.setdefault(session_id, Session(self._clock(), images=images))
        send_json(connection, {"SessionId": session_id})

    def _administer(self, request: Request, connection: Connection) -> None:
        asked = _decoded(request.body)
        status, answer = 200, {}
        try:
            if (request.method, request.path) == ("GET", "/_local/stats"):
                answer = self.stats()
            elif (request.method, request.path) == ("POST", "/_local/config"):
                self.configure(asked)
            elif (request.method, request.path) == ("POST", "/_local/sessions"):
                answer = {"added": self.add_sessions(_pairs(asked))}
            else:
                status, answer = 404, {"message": "no such thing here"}
        except ValueError as error:
            status, answer = 400, {"message": str(error)}
        send_json(connection, answer, status)


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _pairs(asked: object) -> list[tuple[str, float | None, None]]:
    if not isinstance(asked, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in asked):
        raise ValueError("sessions must be a list of [id, created_at]")
    return [(session_id, created_at, None) for session_id, created_at in asked]
