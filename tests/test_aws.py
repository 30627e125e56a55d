"""What all AWS clients have in common: hosts that may be spoken to, and bodies that are never logged."""

import json
import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import boto3
import botocore.loaders
import pytest
from botocore.config import Config

from liveness_etl.aws import make_client
from liveness_etl.endpoints import AWS_SUFFIXES, check_endpoint
from liveness_etl.errors import StoreError, UsageError
from liveness_etl.extract import account
from liveness_etl.extract.rekognition import fetch_with, rekognition_client
from liveness_etl.extract.retry import CallFailed
from liveness_etl.job import check_source, source_client
from liveness_etl.local import LocalConfig, LocalRekognition
from liveness_etl.settings import load_settings
from liveness_etl.storage_s3 import S3Store, translated_s3_errors
from liveness_etl.storage_s3_client import s3_client
from tests.http_services import Service, serving
from tests.running import DT, SUCCEEDING, ids, make_job, write_manifest

SERVICES = ["rekognition", "s3", "sts", "service-quotas"]
(ONE,) = ids(1)


@contextmanager
def listening(status: int = 200, body: bytes = b"", **headers: str) -> Iterator[tuple[str, list[str]]]:
    """The address of a server that gives one answer, and the request lines that it has seen."""
    seen: list[str] = []

    class Answering(Service):
        def reply(self) -> None:
            seen.append(self.requestline)
            self.answer(status, body, headers)

    with serving(Answering) as url:
        yield url, seen


def session() -> boto3.session.Session:
    return boto3.session.Session(region_name="eu-west-1")


# Hosts


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1.evil.example",
        "http://localhost@evil.example",
        "http://localhost.evil.example",
        "http://0x7f000001",
        "http://2130706433",
        "http://127.1",
        "http://[::ffff:10.0.0.1]",
        "http://127.0.0.1:80@evil.example",
        "http://127.0.0.1\\@evil.example",
        "http://127.0.0.1#@evil.example",
        "HTTP://evil.example",
        "https://rekognition.us-east-1.amazonaws.com.evil.example",
        "https://rekognition.us-east-1.amazonaws.com@evil.example",
        "https://evil.example/.amazonaws.com",
        "https://evil.example?.amazonaws.com",
        "https://evil.example\n.amazonaws.com",
        "https://evilamazonaws.com",
        "https://amazonaws.com.evil.example",
        "https://abc123.execute-api.us-east-1.amazonaws.com",
        "https://169.254.169.254",
        "//evil.example",
        "",
    ],
)
def test_tricks_with_hosts_are_refused(url: str) -> None:
    """Nothing but a plain address of AWS or this machine passes."""
    with pytest.raises(ValueError, match=r"^must "):
        check_endpoint(url)


@pytest.mark.parametrize("url", ["http://[::1]:5000", "http://127.0.0.2", "https://s3.dualstack.eu-west-1.api.aws"])
def test_this_machine_and_aws_pass(url: str) -> None:
    """In all their usual spellings."""
    check_endpoint(url)


def test_every_domain_of_aws_is_known() -> None:
    """Those of botocore's partitions; a new SDK that knows more fails here."""
    partitions = botocore.loaders.create_loader().load_data("partitions")["partitions"]
    names = {partition["outputs"][name] for partition in partitions for name in ("dnsSuffix", "dualStackDnsSuffix")}
    assert set(AWS_SUFFIXES) == names


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("where", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_{}", "profile"])
@pytest.mark.parametrize("url", ["http://10.0.0.1", "https://evil.example"])
def test_endpoint_from_boto3s_own_configuration_is_held_to_the_same_rule(
    service: str, where: str, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """botocore takes it without a word."""
    if where == "profile":
        (tmp_path / "config").write_text(f"[default]\nendpoint_url = {url}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    else:
        monkeypatch.setenv(where.format(service.upper().replace("-", "_")), url)
    with pytest.raises(UsageError) as raised:
        make_client(session(), service, Config())
    assert "AWS_ENDPOINT_URL or the AWS profile must " in str(raised.value)
    assert "evil" not in str(raised.value)


def test_role_is_not_assumed_at_a_foreign_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is STS asked for a role there."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "https://evil.example")
    found = account.open_session(
        region="eu-west-1", profile=None, role_arn="arn:aws:iam::123456789012:role/reader"
    ).get_credentials()
    assert found is not None
    with pytest.raises(UsageError, match="the endpoint of sts"):
        found.get_frozen_credentials()


@pytest.mark.parametrize("service", SERVICES)
def test_usual_endpoints_pass(service: str) -> None:
    """AWS's own, and loopback."""
    with closing(make_client(session(), service, Config())) as client:
        assert client.meta.endpoint_url.startswith("https://")
    with closing(make_client(session(), service, Config(), "http://127.0.0.1:9")) as client:
        assert client.meta.endpoint_url == "http://127.0.0.1:9"


def test_plain_http_takes_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else HTTP_PROXY would carry session ids in clear text off this machine."""
    with listening() as (proxy, seen), LocalRekognition(SUCCEEDING) as rekognition:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        with closing(
            rekognition_client(session(), endpoint_url=rekognition.endpoint_url, connections=1, timeout_seconds=2)
        ) as client:
            assert fetch_with(client)(ONE).result.session_id == ONE
    assert not seen


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirect_is_not_followed(status: int) -> None:
    """What a server sends elsewhere does not go there."""
    with (
        listening() as (elsewhere, seen),
        listening(status, Location=elsewhere) as (url, _),
        closing(rekognition_client(session(), endpoint_url=url, connections=1, timeout_seconds=2)) as rekognition,
        closing(s3_client(url, "us-east-1")) as s3,
    ):
        with pytest.raises(CallFailed):
            fetch_with(rekognition)(ONE)
        with pytest.raises(StoreError):
            S3Store("s3://lake/output", s3).put("landing/x", b"rows")
    assert not seen


# Accounts


def job_for(tmp_path: Path, account_id: str, **source: object) -> Any:
    """A job whose one source expects that account."""
    manifest = write_manifest(tmp_path / "manifest.csv", [ONE])
    job = make_job(manifest, tmp_path / "output", "http://127.0.0.1:9")
    settings = load_settings(
        None, {"sources.default": {"region": "us-east-1", "expected_account_id": account_id} | source}, environ={}
    )
    job.sources["default"] = settings.sources["default"]
    return job


@pytest.mark.parametrize("role", [None, "arn:aws:iam::123456789012:role/reader"])
@pytest.mark.parametrize("step", [check_source, source_client])
def test_account_is_checked_before_the_first_call(
    tmp_path: Path, moto_endpoint: str, monkeypatch: pytest.MonkeyPatch, role: str | None, step: Any
) -> None:
    """At the start, and again where a sweep makes its client (which may be another machine); roles included."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto_endpoint)
    given = {} if role is None else {"role_arn": role}
    step(job_for(tmp_path, "123456789012", **given), "default")
    with pytest.raises(UsageError) as raised:
        step(job_for(tmp_path, "210987654321", **given), "default")
    assert "account ********9012, and expected_account_id is ********4321" in str(raised.value)
    assert raised.value.exit_code == 2


def test_quota_of_a_wrong_account_is_not_asked_for(
    tmp_path: Path, moto_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Service Quotas would be the first call with these credentials."""
    from liveness_etl.job import ceiling_of

    with listening() as (quotas, seen):
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto_endpoint)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_QUOTAS", quotas)
        with pytest.raises(UsageError, match="expected_account_id"):
            ceiling_of(job_for(tmp_path, "210987654321"), "default")
        assert not seen
        ceiling_of(job_for(tmp_path, "123456789012"), "default")
        assert seen


DENIAL = "User: arn:aws:iam::123456789012:user/jo (123456789012) is not authorized"


def test_error_texts_of_rekognition_are_masked() -> None:
    """They reach rows; a denial names who was denied, and a code is text too."""
    body = json.dumps({"__type": "arn:aws:iam::123456789012:user/jo", "message": DENIAL})
    with (
        listening(400, body.encode()) as (url, _),
        closing(rekognition_client(session(), endpoint_url=url, connections=1, timeout_seconds=2)) as client,
        pytest.raises(CallFailed) as failed,
    ):
        fetch_with(client)(ONE)
    assert "123456789012" not in str(failed.value)
    assert "arn:aws" not in str(failed.value)


@pytest.mark.parametrize(
    "body",
    [f"<ErrorResponse><Error><Code>AccessDenied</Code><Message>{DENIAL}</Message></Error></ErrorResponse>", DENIAL],
)
def test_error_texts_of_sts_are_masked(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They reach the terminal; so would a body that is no XML, which botocore quotes."""
    with listening(403, body.encode()) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        with pytest.raises(UsageError, match="cannot check expected_account_id") as refused:
            account.check_credentials(session(), "210987654321")
    assert "123456789012" not in str(refused.value)
    assert "arn:aws" not in str(refused.value)


def test_error_texts_of_s3_are_masked() -> None:
    """A code, or what the SDK says of credentials, may name an account as well."""
    from botocore.exceptions import ClientError, CredentialRetrievalError

    errors = [
        ClientError({"Error": {"Code": "arn:aws:iam::123456789012:user/jo"}}, "GetObject"),
        CredentialRetrievalError(provider="process", error_msg="123456789012 arn:aws:iam::123456789012:user/jo"),
    ]
    for error in errors:
        with pytest.raises(StoreError) as raised, translated_s3_errors("read", f"s3://lake/landing/dt={DT}/x"):
            raise error
        assert f"s3://lake/landing/dt={DT}/x" in str(raised.value)
        assert "123456789012" not in str(raised.value)


# Logs


class Everything(logging.Handler):
    """Keeps what it is given, as text."""

    def __init__(self) -> None:
        super().__init__(level=1)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name} {self.format(record)}")


@pytest.fixture
def all_logs() -> Iterator[list[str]]:
    """What somebody gets who turns every logger to DEBUG, botocore's and urllib3's by name."""
    handler = Everything()
    loggers = [logging.getLogger(name) for name in ("", "botocore", "botocore.parsers", "botocore.endpoint", "urllib3")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(1)
    logging.getLogger().addHandler(handler)
    yield handler.lines
    logging.getLogger().removeHandler(handler)
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


def test_sdk_logs_no_bodies_whoever_turns_its_loggers_on(all_logs: list[str], s3_store: S3Store) -> None:
    """Neither of answers nor of requests; what else it says at DEBUG stays."""
    marker = b"face-of-someone!!"
    config = LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 1.0}, image_mode="inline", image_marker=marker)
    with (
        LocalRekognition(config) as rekognition,
        closing(
            rekognition_client(session(), endpoint_url=rekognition.endpoint_url, connections=1, timeout_seconds=2)
        ) as client,
    ):
        answer = fetch_with(client)(ids(5)[4])
        rekognition.configure(faults={"*": {"body": b'{"SessionId": "' + marker * 9, "status": 400}})
        with pytest.raises(CallFailed):
            fetch_with(client)(ONE)
    (content, *_) = [found for found in answer.image_bytes if found]
    s3_store.put("images/one.jpg", content)
    s3_store.open("images/one.jpg")
    text = "\n".join(all_logs)
    assert "botocore.auth" in text
    assert "urllib3.connectionpool" in text
    assert "face-of-someone" not in text
    assert "ZmFjZS1vZi1zb21lb25l" not in text
