"""The command `doctor` as a user runs it, in front of stand-ins for all that it asks."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from liveness_etl.cli import main
from liveness_etl.local import LocalConfig, LocalRekognition
from tests.extract.test_account import answering

QUOTA = {"Quotas": [{"QuotaName": "Face Liveness GetFaceLivenessSessionResults TPS", "Value": 40.0}]}


@dataclass(frozen=True)
class Examined:
    """How `doctor` ended, and its findings by what was looked at."""

    code: int
    findings: dict[str, dict[str, str]]
    out: str
    err: str

    def status(self, check: str) -> str:
        """ok, warn or fail."""
        return self.findings[check]["status"]

    @property
    def wrong(self) -> set[str]:
        """What was not ok."""
        return {check for check, found in self.findings.items() if found["status"] != "ok"}


Doctor = Callable[..., Examined]


@pytest.fixture
def doctor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, state_home: Path
) -> Doctor:
    """Runs it with `--format json`. Whatever is wrong must come with how to mend it, and name no key and no account."""
    for name in ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))

    def run(*arguments: str | Path) -> Examined:
        monkeypatch.setattr(sys, "argv", ["liveness-etl", "doctor", "--format", "json", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        findings = {found.pop("check"): found for found in json.loads(printed.out)}
        assert all(found["mend"] for found in findings.values() if found["status"] != "ok")
        assert not {"testing", "123456789012"} & set(printed.out.split())
        assert "123456789012" not in printed.out + printed.err
        assert isinstance(ended.value.code, int)
        return Examined(ended.value.code, findings, printed.out, printed.err)

    return run


@pytest.fixture
def rekognition() -> Iterator[LocalRekognition]:
    """Knows no session, as AWS does not know the one that `doctor` makes up."""
    with LocalRekognition(LocalConfig()) as running:
        yield running


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, moto_endpoint: str, rekognition: LocalRekognition) -> Iterator[None]:
    """All services where boto3 looks for AWS's own: moto, LocalRekognition, and Service Quotas with 40/s."""
    for service in ("S3", "STS", "KMS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", moto_endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL_REKOGNITION", rekognition.endpoint_url)
    with answering(200, QUOTA) as quotas:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_QUOTAS", quotas)
        yield


@pytest.fixture
def moto(moto_endpoint: str, client_of: Callable[[str], Any]) -> Any:
    """An S3 client of moto's."""
    return client_of(moto_endpoint)
