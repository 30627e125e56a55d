"""The AWS account of a source: its session, who it is, and what Service Quotas says of Face Liveness."""

import logging
from typing import Any, Final

import boto3
import botocore.config
import botocore.credentials
import botocore.exceptions as boto_errors
import botocore.parsers

from liveness_etl.aws import check_found_endpoint, make_client
from liveness_etl.errors import UsageError
from liveness_etl.extract.rekognition import translated
from liveness_etl.masking import masked, masked_account

log = logging.getLogger(__name__)

_QUICK: Final = botocore.config.Config(
    connect_timeout=3, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2}
)


def open_session(
    *, region: str | None, profile: str | None, role_arn: str | None = None, external_id: str | None = None
) -> boto3.session.Session:
    """A boto3 session from boto3's own chain; the credentials of an assumed role refresh themselves.

    Raises UsageError for an unknown profile.
    """
    try:
        session = boto3.session.Session(profile_name=profile, region_name=region)
    except boto_errors.BotoCoreError as error:
        raise UsageError(f"cannot set up Rekognition: {masked(str(error))}") from None
    if role_arn is None:
        return session
    core: Any = session._session  # botocore's session: boto3 has no interface of its own for an assumed role

    def make_sts(*given: Any, **options: Any) -> Any:
        sts = core.create_client(*given, **options)
        check_found_endpoint(sts)
        return sts

    fetcher = botocore.credentials.AssumeRoleCredentialFetcher(
        client_creator=make_sts,
        source_credentials=_credentials(session),
        role_arn=role_arn,
        extra_args={"RoleSessionName": "liveness-etl"} | ({"ExternalId": external_id} if external_id else {}),
    )
    core._credentials = botocore.credentials.DeferredRefreshableCredentials(
        method="assume-role", refresh_using=fetcher.fetch_credentials
    )
    return session


def region_of(session: boto3.session.Session) -> str:
    """The session's region. Raises UsageError where there is none."""
    if not session.region_name:
        raise UsageError("no AWS region: give --region, or set AWS_REGION or [sources.NAME] region")
    return str(session.region_name)


def check_credentials(session: boto3.session.Session, expected_account_id: str | None) -> None:
    """That there are credentials, and that they are the expected account's (STS). Raises UsageError."""
    _credentials(session)
    if expected_account_id is None:
        return
    try:
        found = make_client(session, "sts", _QUICK).get_caller_identity()["Account"]
    except (boto_errors.BotoCoreError, boto_errors.ClientError) as error:
        raise UsageError(f"cannot check expected_account_id with STS: {masked(str(error))}") from None
    except botocore.parsers.ResponseParserError:  # quotes the body
        raise UsageError("cannot check expected_account_id with STS: the answer is none of STS's") from None
    if found != expected_account_id:
        raise UsageError(
            f"the credentials belong to account {masked_account(found)}, and expected_account_id is "
            f"{masked_account(expected_account_id)}: correct one of the two"
        )


def find_credentials(session: boto3.session.Session) -> str:
    """Get the credentials themselves, and say how boto3 came by them ("env", "sso", "assume-role", …).

    A role is assumed for it. Raises UsageError where there are none, CallFailed where they are not given out.
    """
    credentials = _credentials(session)
    try:
        credentials.get_frozen_credentials()
    except UsageError:
        raise
    except Exception as error:
        raise translated(error) from None
    return str(credentials.method)


def caller_account(session: boto3.session.Session) -> str:
    """The account that the credentials belong to, as STS says; that needs no permission. Raises CallFailed."""
    try:
        return str(make_client(session, "sts", _QUICK).get_caller_identity()["Account"])
    except UsageError:
        raise
    except Exception as error:
        raise translated(error) from None


def face_liveness_quota(session: boto3.session.Session) -> float | None:
    """The account's quota of GetFaceLivenessSessionResults in calls a second, or None where AWS does not say.

    Neither a quota code nor a name is documented, so it is matched by name; a missing permission is no error.
    """
    try:
        if session.get_credentials() is None:
            return None
        client = make_client(session, "service-quotas", _QUICK)
        pages = client.get_paginator("list_service_quotas").paginate(ServiceCode="rekognition")
        found = {
            str(quota.get("QuotaName", "")).lower(): float(quota["Value"])
            for page in pages
            for quota in page["Quotas"]
            if "liveness" in str(quota.get("QuotaName", "")).lower() and quota.get("Value")
        }
    except Exception as error:  # whatever it is, the run goes on with the documented quota
        log.info("Service Quotas does not answer (%s); the documented quota is taken", type(error).__name__)
        return None
    named = [value for name, value in found.items() if "getfacelivenesssessionresults" in name.replace(" ", "")]
    return min(named or [value for name, value in found.items() if "face liveness" in name], default=None)


def _credentials(session: boto3.session.Session) -> Any:
    try:
        credentials = session.get_credentials()
    except boto_errors.BotoCoreError as error:
        raise UsageError(f"cannot get AWS credentials: {masked(str(error))}") from None
    if credentials is None:
        raise UsageError(
            "no AWS credentials found: set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or run where a role gives them"
        )
    return credentials
