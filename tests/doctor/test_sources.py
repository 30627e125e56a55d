"""A source: credentials, account, one call, pace; each thing that may be wrong on its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from liveness_etl.doctor.clock import HeardDate, clock_finding
from liveness_etl.local import LocalRekognition
from tests.doctor.conftest import Doctor
from tests.extract.test_account import answering
from tests.http_services import Service, serving
from tests.processes import free_port

ROLE = "arn:aws:iam::123456789012:role/liveness"
pytestmark = pytest.mark.usefixtures("aws")


@contextmanager
def service(status: int, body: str, date: datetime | None = None) -> Iterator[str]:
    """An HTTP service that always says this, at `date` by its clock."""

    class Answering(Service):
        def reply(self) -> None:
            self.send_response_only(status)
            self.send_header("Date", format_datetime(date or datetime.now(UTC), usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

    with serving(Answering) as url:
        yield url


def config(tmp_path: Path, source: str) -> Path:
    """A configuration with one source."""
    path = tmp_path / "liveness.toml"
    path.write_text(f"[sources.prod]\nregion = 'us-east-1'\n{source}\n")
    return path


def test_a_sound_source_costs_one_call(doctor: Doctor, rekognition: LocalRekognition, tmp_path: Path) -> None:
    """The account's last four digits are told, and the share of its quota that a run would take."""
    examined = doctor("--output", tmp_path / "out")
    assert examined.findings["default: credentials"]["what"] == "found (env)"
    assert examined.findings["default: account"]["what"].startswith("********9012 ")
    assert examined.findings["default: Rekognition"]["what"].endswith("answers, and the call is allowed")
    assert examined.findings["default: pace"]["what"] == "at most 20/s: 0.5 of the account's quota of 40/s"
    assert examined.wrong == {"images apart"}
    assert examined.code == 0
    assert rekognition.stats()["requests"] == 1


def test_no_credentials(doctor: Doctor, rekognition: LocalRekognition, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is called, and it says where they may come from."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    examined = doctor()
    assert examined.code == 3
    assert examined.findings["default: credentials"]["what"] == "no AWS credentials found"
    assert "AWS_PROFILE" in examined.findings["default: credentials"]["mend"]
    assert "default: account" not in examined.findings
    assert rekognition.stats()["requests"] == 0


def test_no_region_and_no_such_profile(doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either is said before anything is called."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert doctor().findings["default: set-up"]["what"] == "no AWS region"
    examined = doctor("--config", config(tmp_path, "profile = 'nobody'"))
    assert "nobody" in examined.findings["prod: set-up"]["what"]
    assert "sources.prod.profile" in examined.findings["prod: set-up"]["mend"]


def test_a_role_is_assumed_or_it_says_whom_to_ask(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """moto lets anybody; a real STS denies, and its message holds the role's address."""
    source = config(tmp_path, f"role_arn = '{ROLE}'")
    examined = doctor("--config", source)
    assert examined.findings["prod: credentials"]["what"] == "the role is assumed"
    assert examined.status("prod: Rekognition") == "ok"
    denial = (
        "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>"
        f"<Message>not authorized to perform: sts:AssumeRole on {ROLE}</Message></Error></ErrorResponse>"
    )
    with service(403, denial) as sts:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts)
        examined = doctor("--config", source)
    assert examined.code == 3
    assert examined.findings["prod: credentials"]["what"].startswith("the role cannot be assumed: AccessDenied")
    assert "trust policy" in examined.findings["prod: credentials"]["mend"]
    assert ROLE not in examined.out


def test_a_role_without_credentials_to_assume_it_and_an_sts_that_is_none_of_aws(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent to a host that an environment variable names."""
    source = config(tmp_path, f"role_arn = '{ROLE}'")
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_STS", "https://sts.example.com")
        examined = doctor("--config", source)
        assert "must be a host of AWS" in examined.findings["prod: credentials"]["what"]
        assert doctor().status("default: account") == "fail"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert doctor("--config", source).findings["prod: credentials"]["what"] == "no AWS credentials found"


def test_another_account_is_not_asked(doctor: Doctor, rekognition: LocalRekognition, tmp_path: Path) -> None:
    """Two accounts by their last digits; Rekognition is not called with the wrong one's credentials."""
    assert doctor("--config", config(tmp_path, "expected_account_id = '123456789012'")).status("prod: account") == "ok"
    asked = rekognition.stats()["requests"]
    examined = doctor("--config", config(tmp_path, "expected_account_id = '999999999999'"))
    assert examined.findings["prod: account"]["what"] == "********9012, and expected_account_id is ********9999"
    assert examined.code == 3
    assert rekognition.stats()["requests"] == asked


def test_sts_out_of_reach_matters_where_an_account_is_expected(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run without expected_account_id does not ask STS."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{free_port()}")
    examined = doctor()
    assert (examined.status("default: account"), examined.status("default: Rekognition")) == ("warn", "ok")
    examined = doctor("--config", config(tmp_path, "expected_account_id = '123456789012'"))
    assert examined.status("prod: account") == "fail"
    assert "prod: Rekognition" not in examined.findings


@pytest.mark.parametrize(
    ("fault", "status", "what", "mend"),
    [
        ("denied", "fail", "denied: AccessDeniedException", "allow rekognition:GetFaceLivenessSessionResults"),
        ("throttle", "warn", "answers, but throttles: ThrottlingException", "who else uses the quota"),
        ("invalid", "ok", "answers, and the call is allowed", ""),
        ("html503", "fail", "no proper answer of http://127.0.0.1", "try again"),
        (
            {"status": 400, "body": '{"__type": "UnrecognizedClientException", "message": "no"}'},
            "fail",
            "the credentials are refused: UnrecognizedClientException",
            "get new ones",
        ),
    ],
    ids=str,
)
def test_what_rekognition_says(
    fault: object, status: str, what: str, mend: str, doctor: Doctor, rekognition: LocalRekognition
) -> None:
    """Denied, throttled, refused or broken: each has its own way to be mended."""
    rekognition.configure(faults={"*": fault})
    found = doctor().findings["default: Rekognition"]
    assert found["status"] == status
    assert what in found["what"]
    assert mend in found["mend"]


def test_an_endpoint_out_of_reach_is_named(doctor: Doctor) -> None:
    """Its address, and why; `--endpoint-url` and `--region` are those of `run`."""
    url = f"http://127.0.0.1:{free_port()}"
    examined = doctor("--endpoint-url", url, "--region", "eu-west-1")
    assert examined.findings["default: Rekognition"]["what"] == f"cannot connect to {url} (Connection refused)"
    assert examined.code == 3


def test_a_stand_in_on_this_machine_has_no_account(doctor: Doctor, rekognition: LocalRekognition) -> None:
    """Neither STS nor Service Quotas is asked for it."""
    rekognition.configure(answer_any=True)
    examined = doctor("--endpoint-url", rekognition.endpoint_url)
    assert examined.findings["default: account"]["what"] == "not asked: the source is on this machine"
    assert examined.findings["default: Rekognition"]["what"].endswith("no service of AWS")
    assert examined.status("default: pace") == "ok"


def test_a_pace_that_the_quota_does_not_bear(doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configured above the account's quota; or the quota is unknown, since the permission is missing."""
    examined = doctor("--config", config(tmp_path, "max_tps = 50"))
    assert examined.status("prod: pace") == "warn"
    assert "above the account's quota of 40/s" in examined.findings["prod: pace"]["what"]
    assert doctor("--config", config(tmp_path, "max_tps = 30")).status("prod: pace") == "ok"
    with answering(400, {"__type": "AccessDeniedException"}) as quotas:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_QUOTAS", quotas)
        examined = doctor()
    assert examined.status("default: pace") == "warn"
    assert "servicequotas:ListServiceQuotas" in examined.findings["default: pace"]["mend"]


@pytest.mark.parametrize(("hours", "status"), [(2, "fail"), (0, "ok")])
def test_clock_is_compared_with_the_date_of_an_answer(hours: int, status: str, doctor: Doctor) -> None:
    """A service two hours ahead, as when this machine's clock is two hours late."""
    not_found = '{"__type": "SessionNotFoundException"}'
    with service(400, not_found, datetime.now(UTC) + timedelta(hours=hours)) as url:
        examined = doctor("--endpoint-url", url)
    assert examined.status("clock") == status
    assert ("behind the service's" in examined.findings["clock"]["what"]) == (hours == 2)


def test_clock_warns_from_ten_seconds_and_fails_from_five_minutes() -> None:
    """The worst of several counts; a Date that is none counts for nothing."""
    now = datetime(2026, 3, 1, tzinfo=UTC)

    def found(*ahead_seconds: float) -> tuple[str, str]:
        heard = [HeardDate(format_datetime(now, usegmt=True), now + timedelta(seconds=one)) for one in ahead_seconds]
        finding = clock_finding([*heard, HeardDate("yesterday", now)])
        return finding.status, finding.what.partition(":")[0]

    assert found()[0] == "ok"
    assert found(0, 9, -9)[0] == "ok"
    assert found(0, 11) == ("warn", "11 s ahead of the service's")
    assert found(11, -301) == ("fail", "301 s behind the service's")
