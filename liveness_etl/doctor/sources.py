"""A source: its credentials, the account they belong to, one call of Rekognition, and the pace a run would take."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from liveness_etl.aws import hear_dates, why_unreachable
from liveness_etl.doctor.clock import HeardDate
from liveness_etl.doctor.finding import Finding, failed
from liveness_etl.endpoints import is_loopback
from liveness_etl.errors import UsageError
from liveness_etl.extract import account, rekognition
from liveness_etl.extract.retry import CallFailed
from liveness_etl.job import Job, ceiling_of, source_session
from liveness_etl.masking import masked_account

_SET_CREDENTIALS = (
    "set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where a role gives credentials"
)
_REACH_STS = "let this machine reach STS (https, the endpoint of the region)"
_RENEW = "get new ones (aws sso login, a new key), and look at this machine's clock"


def source_findings(job: Job, name: str, heard: list[HeardDate]) -> Iterator[Finding]:
    """Stops where what follows could only fail for the same reason. Notes in `heard` what time Rekognition says."""
    try:
        session = source_session(job.sources[name])
    except UsageError as error:
        yield _not_set_up(name, error)
        return
    credentials = _credentials(job, name, session)
    yield credentials
    if credentials.status == "fail":
        return
    owner = _account(job, name, session)
    yield owner
    if owner.status == "fail":
        return  # no call with credentials that may be another account's
    answers = _rekognition(job, name, session, heard)
    yield answers
    if answers.status != "fail":
        yield _pace(job, name, session)


def _not_set_up(name: str, error: UsageError) -> Finding:
    check, said = f"{name}: set-up", str(error)
    what, _, advice = said.partition(": ")
    if "region" in what:
        return Finding("fail", check, "no AWS region", f"give --region, or set AWS_REGION or sources.{name}.region")
    if "no AWS credentials" in what:  # for the role of this source
        return Finding("fail", f"{name}: credentials", what, advice)
    return Finding("fail", check, said, f"correct sources.{name}.profile, AWS_PROFILE or ~/.aws/config")


def _credentials(job: Job, name: str, session: Any) -> Finding:
    check, role = f"{name}: credentials", job.sources[name].role_arn
    try:
        method = account.find_credentials(session)
    except UsageError as error:
        return failed(check, error, _SET_CREDENTIALS)
    except CallFailed as failure:
        if role is not None and failure.denied:
            return Finding(
                "fail",
                check,
                f"the role cannot be assumed: {failure}",
                f"allow sts:AssumeRole on sources.{name}.role_arn to the credentials of this machine, and name them "
                "(and the external_id, if it asks for one) in the role's trust policy",
            )
        return Finding("fail", check, f"they cannot be had: {failure}", _RENEW if failure.credentials else _REACH_STS)
    return Finding("ok", check, f"found ({method})" if role is None else "the role is assumed")


def _account(job: Job, name: str, session: Any) -> Finding:
    check, expected = f"{name}: account", job.sources[name].expected_account_id
    if expected is None and _is_stand_in(job, name):
        return Finding("ok", check, "not asked: the source is on this machine")
    try:
        found = account.caller_account(session)
    except UsageError as error:
        return Finding("fail", check, str(error), "unset AWS_ENDPOINT_URL_STS")
    except CallFailed as failure:
        if failure.credentials or failure.denied:
            return Finding("fail", check, f"STS refuses the credentials: {failure}", _RENEW)
        if expected is not None:
            return Finding(
                "fail", check, f"STS cannot be asked, and expected_account_id needs it: {failure}", _REACH_STS
            )
        return Finding("warn", check, f"STS cannot be asked: {failure}; a run does not need it", _REACH_STS)
    if expected is None:
        return Finding("ok", check, f"{masked_account(found)} (set expected_account_id to insist on it)")
    if found != expected:
        return Finding(
            "fail",
            check,
            f"{masked_account(found)}, and expected_account_id is {masked_account(expected)}",
            f"use credentials of that account, or correct sources.{name}.expected_account_id",
        )
    return Finding("ok", check, f"{masked_account(found)}, as expected")


def _rekognition(job: Job, name: str, session: Any, heard: list[HeardDate]) -> Finding:
    """One call for an id that nobody has: the permission is looked at first, so the answer tells of it."""
    check, source = f"{name}: Rekognition", job.sources[name]
    seconds = job.settings.sweep.call_timeout_seconds
    try:
        client = rekognition.rekognition_client(
            session, endpoint_url=source.endpoint_url, connections=1, timeout_seconds=seconds
        )
    except UsageError as error:
        return Finding("fail", check, str(error), f"correct sources.{name}.endpoint_url or the AWS profile")
    hear_dates(client, lambda date: heard.append(HeardDate(date, datetime.now(UTC))))
    place = client.meta.endpoint_url
    if reason := why_unreachable(place, seconds):
        return Finding(
            "fail", check, f"cannot connect to {place} ({reason})", "check the endpoint, the region and the network"
        )
    try:
        rekognition.fetch_with(client)(str(uuid.uuid4()))
    except CallFailed as failure:
        return _call_failed(check, place, failure)
    finally:
        client.close()
    return Finding("ok", check, f"{place} answers, even for an id that nobody has: no service of AWS")


def _call_failed(check: str, place: str, failure: CallFailed) -> Finding:
    if failure.code in rekognition.FINAL:
        return Finding("ok", check, f"{place} answers, and the call is allowed")
    if failure.throttled:
        return Finding(
            "warn",
            check,
            f"{place} answers, but throttles: {failure}",
            "look at who else uses the quota at this moment",
        )
    if failure.denied:
        return Finding(
            "fail",
            check,
            f"denied: {failure}",
            "allow rekognition:GetFaceLivenessSessionResults (config/iam/run.json), in the organisation's policies too",
        )
    if failure.credentials:
        return Finding("fail", check, f"the credentials are refused: {failure}", _RENEW)
    return Finding("fail", check, f"no proper answer of {place}: {failure}", "try again; then check endpoint and proxy")


def _pace(job: Job, name: str, session: Any) -> Finding:
    check, source = f"{name}: pace", job.sources[name]
    try:
        ceiling = ceiling_of(job, name)
    except UsageError as error:  # STS, which answered a moment ago
        return failed(check, error, _REACH_STS)
    what = f"at most {ceiling.tps:g}/s: {ceiling.why}"
    if source.max_tps is not None and source.endpoint_url is None:
        quota = account.face_liveness_quota(session)
        if quota is not None and source.max_tps > quota:
            mend = "lower max_tps: the live application needs its part of the quota too"
            return Finding("warn", check, f"{what}, above the account's quota of {quota:g}/s", mend)
    if "documented" in ceiling.why and not _is_stand_in(job, name):
        mend = f"allow servicequotas:ListServiceQuotas, or set sources.{name}.max_tps"
        return Finding("warn", check, f"{what}, since Service Quotas did not say the account's", mend)
    return Finding("ok", check, what)


def _is_stand_in(job: Job, name: str) -> bool:
    url = job.sources[name].endpoint_url
    return url is not None and is_loopback(urlsplit(url).hostname or "")
