"""Alarms of a run: what it tells of others when it starts, what is told of it when it has ended, and to whom.

Nothing here raises, or takes longer than SEND_SECONDS a message: an alarm that cannot be sent is a line in the log.
A message has codes, counts, dates and names of runs; no session ids, no error's words, nothing after a '?' of an
address.
"""

import json
import logging
import queue
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, TypeVar

from liveness_etl.alerts import topic, watch, webhook
from liveness_etl.alerts.drift import drift_reason
from liveness_etl.alerts.thresholds import Limits, reasons
from liveness_etl.errors import AlertFailed, LeaseHeld, LivenessError, Stopped
from liveness_etl.job import Job, open_output
from liveness_etl.load.records import read_run, record_path, run_paths
from liveness_etl.settings import Settings

log = logging.getLogger(__name__)
T = TypeVar("T")

SEND_SECONDS: Final = 10.0
LAST_RECORDS: Final = 64

_KILLED: Final = "RunKilled"
_FIGURES: Final = (
    "run_id",
    "flow_run_id",
    "command",
    "manifest_uri",
    "started_at",
    "finished_at",
    "completed",
    "requested",
    "already_final",
    "landed",
    "not_asked",
    "rejected",
    "expired_before_fetch",
)


@dataclass(frozen=True)
class Alarm:
    """What is told: sentences, and the record of the run that they are about, if it has one. `code` names an error."""

    reasons: Sequence[str]
    row: Mapping[str, Any] = field(default_factory=dict)
    code: str | None = None

    @property
    def text(self) -> str:
        """The message for people, in one paragraph."""
        about = f" {self.row['command']} {self.row['run_id']}" if "run_id" in self.row else ""
        return f"liveness-etl{about}: " + "; ".join(self.reasons)

    def as_json(self) -> str:
        """`text`, which chat webhooks show, and beside it the code and the record's figures for programs."""
        figures = {name: self.row[name] for name in _FIGURES if name in self.row}
        if "by_outcome" in self.row:
            figures["outcomes"] = dict(self.row["by_outcome"] or ())
        content = {"text": self.text, "code": self.code, "reasons": list(self.reasons), "run": figures}
        return json.dumps(content, default=str)


def notice(job: Job) -> None:
    """Tell of runs that were killed and of days without a run, before this run starts. Each is told once."""
    now = datetime.now(UTC)

    def look() -> tuple[list[dict[str, Any]], list[date]]:
        store = open_output(job.settings)
        killed = watch.killed_runs(store)
        if job.command != "run":
            return killed, []
        more, missing = watch.look_back(store, now)
        return killed + more, missing

    nothing: tuple[list[dict[str, Any]], list[date]] = ([], [])
    killed, missing = _safely(look, nothing)
    alarms = [
        Alarm(
            [
                f"the run that started at {row['started_at']:%Y-%m-%d %H:%M} UTC was killed: its record has no end. "
                "What it had landed is safe, a run of its manifest asks for the rest"
            ],
            row,
            _KILLED,
        )
        for row in killed
    ]
    if missing:
        days = ", ".join(map(str, missing))
        alarms.append(Alarm([f"no run started on {days} (UTC), as one did on such days before"], code="RunMissing"))
    _tell(job, alarms)


def judge(job: Job, row: Mapping[str, Any], published: Iterable[date]) -> list[str]:
    """Why somebody has to be told of a run that has ended, in plain sentences. `published`: partitions it changed."""
    limits = Limits(**{limit.name: getattr(job.settings.alerts, limit.name) for limit in fields(Limits)})
    found: list[str] = _safely(lambda: reasons(row, limits), list[str]())
    newest = max(published, default=None)
    if job.settings.alerts.drift and row["completed"] and newest is not None:
        drifted = _safely(lambda: drift_reason(open_output(job.settings), newest), None)
        found += [drifted] if drifted else []
    return found


def ended(job: Job, row: Mapping[str, Any], published: Iterable[date] = ()) -> None:
    """Judge a run that has ended and has its record, and tell what there is to tell."""
    if found := judge(job, row, published):
        _tell(job, [Alarm(found, row, "Threshold")])


def failed(job: Job, error: BaseException) -> None:
    """Tell that a run ended with an error: which kind, and what its record counts. Not that it met a lease, or a
    signal before it had asked anything."""
    if tells_somebody(job.settings) and not isinstance(error, (LeaseHeld, Stopped)):
        _tell(job, [failure(job, error)], said=True)


def failure(job: Job, error: BaseException) -> Alarm:
    """The alarm of a run that ended with an error. Its words stay in the log: they may name files and places."""
    code = type(error).__name__
    exit_code = error.exit_code if isinstance(error, LivenessError) else LivenessError.exit_code
    return Alarm([f"ended with {code} (exit code {exit_code}); the log of the run says more"], _record(job), code)


def record_of_flow_run(settings: Settings, flow_run_id: str) -> dict[str, Any]:
    """The record of a Prefect flow run, of which no more is known; without one only the flow run's id.

    It is among the last that were written: LAST_RECORDS of today's and yesterday's are read.
    """
    today = datetime.now(UTC).date()

    def search() -> dict[str, Any] | None:
        store = open_output(settings)
        paths = [path for day in (today - timedelta(1), today) for path in run_paths(store, day)]
        records = (read_run(store, path) for path in reversed(paths[-LAST_RECORDS:]))
        return next((row for row in records if row and row["flow_run_id"] == flow_run_id), None)

    return _in_time(search) or {"flow_run_id": flow_run_id}


def tells_somebody(settings: Settings) -> bool:
    """Whether a webhook or a topic is configured."""
    return settings.alerts.webhook_url is not None or settings.alerts.sns_topic_arn is not None


def send(settings: Settings, alarm: Alarm) -> None:
    """To the webhook and the topic that are configured, and at the same time.

    Sweeps come every minute, and what ails one ails the next: of them, each kind of alarm is sent once an hour.
    """
    if not tells_somebody(settings):
        return
    if alarm.row.get("command") == "sweep" and alarm.code != _KILLED and not _is_news(settings, alarm):
        return
    alerts = settings.alerts
    content = alarm.as_json()
    sending: dict[str, Callable[[], None]] = {}
    if (url := alerts.webhook_url) is not None:
        sending["alerts.webhook_url"] = lambda: webhook.post(url.get_secret_value(), content.encode())
    if (arn := alerts.sns_topic_arn) is not None:
        subject = f"liveness-etl: {alarm.code or 'alert'}"
        sending["alerts.sns_topic_arn"] = lambda: topic.publish(arn, subject, content, settings.output.profile)
    waiting = {name: _started(work) for name, work in sending.items()}
    for name, result in waiting.items():
        try:
            problem = result.get(timeout=SEND_SECONDS)
        except queue.Empty:
            problem = AlertFailed(f"{name} did not answer in {SEND_SECONDS:g} s")
        if isinstance(problem, AlertFailed):
            log.error("an alert could not be sent: %s", problem)


def _tell(job: Job, alarms: Sequence[Alarm], *, said: bool = False) -> None:
    """One line each in the log, unless it is said already, and one message each."""
    for alarm in alarms:
        if not said:
            log.warning("alert: %s", "; ".join(alarm.reasons))
        send(job.settings, alarm)


def _is_news(settings: Settings, alarm: Alarm) -> bool:
    # What a reason says before its details, without its figures.
    kinds = [re.sub(r"[\d.,]+", "", reason.partition(":")[0]) for reason in alarm.reasons]

    def look() -> bool:
        return watch.is_news(open_output(settings), f"{alarm.code} {kinds}", datetime.now(UTC))

    try:
        return _started(look).get(timeout=SEND_SECONDS) is not False  # a store that fails is no reason to be silent
    except queue.Empty:
        return True


def _record(job: Job) -> dict[str, Any]:
    def read() -> dict[str, Any] | None:
        return read_run(open_output(job.settings), record_path("runs", job.started_at, job.run_id))

    return _in_time(read) or {"command": job.command}


def _in_time(read: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """What it reads; None if the store, which may be what fails, takes too long."""
    try:
        found = _started(lambda: _safely(read, None)).get(timeout=SEND_SECONDS)
    except queue.Empty:
        return None
    return found if isinstance(found, dict) else None


def _safely(work: Callable[[], T], otherwise: T) -> T:
    """What a store says here is said by the run itself, if it matters; a bug here is not worth a run."""
    try:
        return work()
    except LivenessError as error:
        log.debug("alerts: %s", error)
    except Exception as error:
        log.warning("what alerts need could not be found out (%s)", type(error).__name__)
    return otherwise


def _started(work: Callable[[], object]) -> "queue.SimpleQueue[object]":
    """Does it on a thread that nobody has to wait for; gives what it returns, or what went wrong as an AlertFailed."""
    result: queue.SimpleQueue[object] = queue.SimpleQueue()

    def run() -> None:
        try:
            result.put(work())
        except LivenessError as error:
            result.put(AlertFailed(str(error)))
        except Exception as error:  # its words may hold the webhook's address
            result.put(AlertFailed(type(error).__name__))

    threading.Thread(target=run, name="alert", daemon=True).start()
    return result
