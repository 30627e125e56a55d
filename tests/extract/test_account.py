"""Accounts and ceilings: whose credentials, which quota, and why."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from liveness_etl.errors import UsageError
from liveness_etl.extract import account
from liveness_etl.extract.ceiling import source_ceiling
from tests.http_services import Service, serving

ROLE = "arn:aws:iam::123456789012:role/liveness"


@contextmanager
def answering(status: int, body: object) -> Iterator[str]:
    """An AWS JSON service that always gives this answer."""

    class Answering(Service):
        def reply(self) -> None:
            self.answer(status, json.dumps(body).encode())

    with serving(Answering) as url:
        yield url


def quota(monkeypatch: pytest.MonkeyPatch, status: int, body: object) -> float | None:
    with answering(status, body) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_QUOTAS", url)
        return account.face_liveness_quota(account.open_session(region="us-east-1", profile=None))


def test_the_quota_is_matched_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the operation wins over others of Face Liveness."""
    quotas = [
        {"QuotaName": "Transactions per second for DetectFaces", "Value": 50.0},
        {"QuotaName": "TPS for the Face Liveness operation CreateFaceLivenessSession", "Value": 7.0},
        {"QuotaName": "TPS for the Face Liveness operation GetFaceLivenessSessionResults", "Value": 40.0},
    ]
    assert quota(monkeypatch, 200, {"Quotas": quotas}) == 40
    assert quota(monkeypatch, 200, {"Quotas": quotas[:2]}) == 7
    assert quota(monkeypatch, 200, {"Quotas": quotas[:1]}) is None


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"__type": "AccessDeniedException", "Message": "no"}),
        (500, {"__type": "ServiceException"}),
        (200, {"Quotas": [{"QuotaName": "Face Liveness", "Value": "many"}]}),
        (200, []),
        (200, {}),
    ],
)
def test_a_quota_that_cannot_be_had_is_no_error(monkeypatch: pytest.MonkeyPatch, status: int, body: object) -> None:
    """Neither a missing permission nor a broken answer stops a run."""
    assert quota(monkeypatch, status, body) is None


def test_the_ceiling_says_where_it_comes_from() -> None:
    """Configured; else a share of the account's quota; else of the documented one."""

    def must_not_ask() -> float | None:
        raise AssertionError("Service Quotas was asked")

    configured = source_ceiling("us-east-1", max_tps=3, quota_share=0.5, account_quota=must_not_ask)
    assert (configured.tps, configured.why) == (3, "configured max_tps")
    found = source_ceiling("us-east-1", max_tps=None, quota_share=0.5, account_quota=lambda: 40.0)
    assert (found.tps, found.why) == (20, "0.5 of the account's quota of 40/s")
    for region, tps in (("us-east-1", 12.5), ("us-west-2", 12.5), ("eu-west-1", 2.5)):
        documented = source_ceiling(region, max_tps=None, quota_share=0.5, account_quota=lambda: None)
        assert documented.tps == tps
        assert "documented default" in documented.why


def test_an_assumed_role_gives_credentials_that_refresh_themselves(
    monkeypatch: pytest.MonkeyPatch, moto_endpoint: str
) -> None:
    """moto's STS gives them; botocore asks again before they run out."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto_endpoint)
    session = account.open_session(region="us-east-1", profile=None, role_arn=ROLE, external_id="tenant")
    credentials: Any = session.get_credentials()
    assert credentials.method == "assume-role"
    assert credentials.get_frozen_credentials().access_key != "testing"
    assert hasattr(credentials, "refresh_needed")


def test_credentials_of_another_account_are_refused(monkeypatch: pytest.MonkeyPatch, moto_endpoint: str) -> None:
    """moto's account is 123456789012; the message tells both apart and names neither whole."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto_endpoint)
    session = account.open_session(region="us-east-1", profile=None)
    account.check_credentials(session, "123456789012")
    with pytest.raises(UsageError, match=r"account \*{8}9012, and expected_account_id is \*{8}9999") as raised:
        account.check_credentials(session, "999999999999")
    assert "123456789012" not in str(raised.value)


def test_a_role_without_credentials_to_assume_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, before any call."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UsageError, match="no AWS credentials found"):
        account.open_session(region="us-east-1", profile=None, role_arn=ROLE)
