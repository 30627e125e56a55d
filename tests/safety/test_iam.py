"""The policies of config/iam against every AWS call of every command, both ways: all that is called is allowed, and
all that is allowed is called."""

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from liveness_etl import storage_s3
from liveness_etl.cli import main
from liveness_etl.load.lease import held_leases
from liveness_etl.local import LocalConfig, LocalRekognition
from liveness_etl.storage_s3 import S3Store
from tests.running import ids, write_manifest
from tests.safety.policies import FOLDER, Need, Policy, gate

ACCOUNT, REGION, KEY, ROLE = "123456789012", "us-east-1", "0f5c2b6e-6c3c-4b0e-9d0a-5b1f0d9c1a2b", "liveness-reader"
PRINCIPAL = "testing"
VALUES = {
    "ACCOUNT_ID": ACCOUNT,
    "REGION": REGION,
    "KMS_KEY_ID": KEY,
    "SOURCE_ROLE": ROLE,
    "MANIFEST_BUCKET": "backend",
    "MANIFEST_PREFIX": "liveness/manifests",
    "OUTPUT_BUCKET": "analytics",
    "OUTPUT_PREFIX": "team/liveness",
    "SOURCE_BUCKET": "faces",
}
MANIFESTS = "s3://backend/liveness/manifests/"
OUTPUT = "s3://analytics/team/liveness"
TABLES = ("sessions", "challenges", "bounding_boxes", "feedback")

ABORTED = "AbortUploads"
"""The statement whose resources no test goes through one by one: only an upload of many parts that fails needs it."""


@pytest.fixture(scope="module")
def service_quotas() -> Iterator[str]:
    """Service Quotas, which moto has without this method."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            content = json.dumps({"Quotas": [{"QuotaName": "Face Liveness TPS", "Value": 1000.0}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def backends(s3: Any, s3_endpoint: str, service_quotas: str) -> Iterator[dict[str, str]]:
    """What stands behind the gate, by the service's name in a signature; buckets and manifests are there."""
    for bucket in ("backend", "analytics"):
        s3.create_bucket(Bucket=bucket)
    config = LocalConfig(
        answer_any=True, outcome_shares={"SUCCEEDED": 0.9, "FAILED": 0.1}, image_mode="inline", image_bytes=300
    )
    with LocalRekognition(config) as rekognition:
        yield {
            "s3": s3_endpoint,
            "sts": s3_endpoint,
            "rekognition": rekognition.endpoint_url,
            "servicequotas": service_quotas,
        }


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs a command of the program; returns its exit code."""

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["liveness-etl", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return run


def put_manifest(s3: Any, tmp_path: Path, name: str, seed: int) -> str:
    """A manifest of 25 ids and a line that is none; its address."""
    manifest = write_manifest(tmp_path / name, [*ids(25, seed), "no id"])
    s3.put_object(Bucket="backend", Key=f"liveness/manifests/{name}", Body=manifest.read_bytes())
    return MANIFESTS + name


def use_run_policy(
    command: Callable[..., int], s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, denied: list[Need]
) -> None:
    """Every command that works with run.json, through all that makes a call of its own.

    A command that is new belongs here (or into another policy's function).
    """
    common = ("--output", OUTPUT, "--region", REGION)
    first = put_manifest(s3, tmp_path, "first.csv", 1)
    assert command("plan", first, *common) == 0
    assert command("run", first, *common) == 0
    assert command("run", first, *common, "--ask-again", "SUCCEEDED") == 0  # finds its images there
    put_manifest(s3, tmp_path, "second.csv", 2)
    assert command("run", MANIFESTS, *common) == 0
    assert command("sweep", put_manifest(s3, tmp_path, "third.csv", 3), *common) == 0
    assert command("publish", "--output", OUTPUT, "--rebuild") == 0

    role = tmp_path / "role.toml"
    role.write_text(f'[sources.default]\nrole_arn = "arn:aws:iam::{ACCOUNT}:role/{ROLE}"\nregion = "{REGION}"\n')
    fourth = put_manifest(s3, tmp_path, "fourth.csv", 4)
    assert command("run", fourth, "--output", OUTPUT, "--config", str(role)) == 0

    fifth = put_manifest(s3, tmp_path, "fifth.csv", 5)
    with held_leases(S3Store(OUTPUT, s3), ["default"], "somebody-else", 1.0, lambda: None):
        assert command("run", fifth, *common) == 2
    assert not denied

    # More than 32 MiB go up in parts, and moto finds these too small in the end: the upload is aborted.
    with monkeypatch.context() as patch:
        patch.setattr(storage_s3, "_PART_BYTES", 1_000)
        assert command("publish", "--output", OUTPUT, "--rebuild") == 1
    assert command("publish", "--output", OUTPUT, "--rebuild") == 0


def use_analyst_policy(
    command: Callable[..., int], s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, denied: list[Need]
) -> None:
    """What an analyst does; that rejects may not be listed is no hindrance."""
    for table in (*TABLES, "runs"):
        assert command("query", "--output", OUTPUT, f"SELECT count(*), min(dt) FROM {table}") == 0
    refused = {(need.action, need.prefix) for need in denied}
    assert refused == {("s3:ListBucket", "team/liveness/rejects/dt=")}
    denied.clear()


@pytest.mark.parametrize(("name", "use"), [("run", use_run_policy), ("analyst", use_analyst_policy)])
def test_policy_allows_what_its_commands_call_and_nothing_else(
    name: str,
    use: Callable[..., None],
    command: Callable[..., int],
    s3: Any,
    tmp_path: Path,
    backends: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Through a gate that denies what the policy does not allow; what nothing called is surplus."""
    policy = Policy.read(name, **VALUES)
    monkeypatch.setenv("LIVENESS_ETL__OUTPUT__KMS_KEY_ID", f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{KEY}")
    with gate(policy, backends, PRINCIPAL) as (url, denied):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        use(command, s3, tmp_path, monkeypatch, denied)
    assert not denied
    surplus = policy.granted() - policy.used
    assert {granted for granted in surplus if granted[0] != ABORTED} == set()
    assert name != "run" or any(used[0] == ABORTED for used in policy.used)


@pytest.mark.parametrize("table", ["rejects", "images", "landing", "_state", ".tmp"])
@pytest.mark.parametrize("action", ["s3:GetObject", "s3:ListBucket", "s3:PutObject", "s3:DeleteObject"])
def test_analyst_cannot_reach_what_names_people(table: str, action: str) -> None:
    """Neither images, nor landing, nor rejects, nor the program's own state; and writes nothing at all."""
    policy = Policy.read("analyst", **VALUES)
    if action == "s3:ListBucket":
        for prefix in (f"team/liveness/{table}/", f"team/liveness/{table}/dt=", "team/liveness/", "", None):
            assert not policy.allows(Need(action, "arn:aws:s3:::analytics", prefix))
    else:
        assert not policy.allows(Need(action, f"arn:aws:s3:::analytics/team/liveness/{table}/dt=2026-03-01/x"))
        assert not policy.allows(Need(action, f"arn:aws:s3:::analytics/team/liveness-{table}/x"))


@pytest.mark.parametrize("table", TABLES)
def test_analyst_cannot_write(table: str) -> None:
    """The tables are made from landing, and from nothing else."""
    policy = Policy.read("analyst", **VALUES)
    for action in ("s3:PutObject", "s3:DeleteObject", "s3:GetObjectVersion", "s3:AbortMultipartUpload"):
        assert not policy.allows(Need(action, f"arn:aws:s3:::analytics/team/liveness/{table}/x"))


def test_table_that_may_not_be_listed_is_an_error_where_it_is_read(
    command: Callable[..., int],
    s3: Any,
    backends: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And its columns are known all the same."""
    with gate(Policy.read("analyst", **VALUES), backends, PRINCIPAL) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        assert command("query", "--output", OUTPUT, "DESCRIBE rejects") == 0
        assert command("query", "--output", OUTPUT, "SELECT count(*) FROM rejects") == 1
    assert capsys.readouterr().err == f"error: cannot list {OUTPUT}/rejects/dt=: AccessDenied\n"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_policy_is_one_that_iam_takes(path: Path) -> None:
    """Well-formed, every placeholder known, no wildcard in an action, and '*' only where AWS has no resources."""
    policy = json.loads(path.read_text())
    assert policy["Version"] == "2012-10-17"
    placeholders = set(re.findall(r"[A-Z][A-Z]+(?:-[A-Z]+)+|REGION", path.read_text()))
    assert placeholders <= {name.replace("_", "-") for name in VALUES}
    sids = [statement["Sid"] for statement in policy["Statement"]]
    assert len(set(sids)) == len(sids)
    assert all(re.fullmatch(r"[A-Za-z0-9]+", sid) for sid in sids)
    for sid, action, resource in Policy.read(path.stem, **VALUES).granted():
        assert re.fullmatch(r"[a-z0-9-]+:[A-Za-z]+", action), sid
        assert resource != "*" or action.startswith(("rekognition:", "servicequotas:")), sid
        assert resource == "*" or resource.startswith("arn:aws:"), sid
