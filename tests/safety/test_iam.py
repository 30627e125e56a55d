"""The policies of config/iam against every AWS call of every command, both ways: all that is called is allowed, and
all that is allowed is called."""

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from liveness_etl import storage_s3
from liveness_etl.cli import main
from liveness_etl.load import manifest_memory, publish
from liveness_etl.load.lease import held_leases
from liveness_etl.load.tombstones import put_tombstones
from liveness_etl.local import LocalConfig, LocalRekognition
from liveness_etl.storage_s3 import S3Store
from tests.alerts.test_watch import die_holding_a_lease, record
from tests.extract.test_account import answering
from tests.landing_rows import DT, image, land, row, session_id
from tests.load.erasing import holders
from tests.running import ids, wait_until, write_manifest
from tests.safety.policies import FOLDER, Need, Policy, gate

ACCOUNT, REGION, KEY, ROLE = "123456789012", "us-east-1", "0f5c2b6e-6c3c-4b0e-9d0a-5b1f0d9c1a2b", "liveness-reader"
KEY_ARN = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{KEY}"
PRINCIPAL = "testing"
VALUES = {
    "ACCOUNT_ID": ACCOUNT,
    "REGION": REGION,
    "KMS_KEY_ID": KEY,
    "SOURCE_ROLE": ROLE,
    "CATALOG_DATABASE": "liveness",
    "ALERT_TOPIC": "liveness-alerts",
    "MANIFEST_BUCKET": "backend",
    "MANIFEST_PREFIX": "liveness/manifests",
    "OUTPUT_BUCKET": "analytics",
    "OUTPUT_PREFIX": "team/liveness",
    "SOURCE_BUCKET": "faces",
}
MANIFESTS = "s3://backend/liveness/manifests/"
TABLES = ("sessions", "challenges", "bounding_boxes", "feedback")
COUNT = 4
IN_FLIGHT = {"ListVersionsOfWhatWasForgottenInFlight", "EraseWhatWasForgottenInFlight"}
"""The statements of run.json that may be left out, at the price of a second `forget`."""

ABORTED = "AbortUploads"
"""The statement whose resources no test goes through one by one: only an upload of many parts that fails needs it."""


@dataclass(frozen=True)
class Scene:
    """A new output in a bucket that keeps versions, and the program in front of it."""

    s3: Any
    rekognition: LocalRekognition
    backends: dict[str, str]
    output: str
    tmp_path: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def store(self) -> S3Store:
        """The output, past the gate."""
        return S3Store(self.output, self.s3, KEY_ARN)

    def policy(self, name: str) -> Policy:
        """A policy of config/iam for this output."""
        return Policy.read(name, **VALUES | {"OUTPUT_BUCKET": self.store.bucket})

    @contextmanager
    def held_to(self, policy: Policy) -> Iterator[list[Need]]:
        """What it denies."""
        with gate(policy, self.backends, PRINCIPAL) as (url, denied), self.monkeypatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", url)
            yield denied

    def command(self, name: str, *arguments: str) -> int:
        """Run a command of the program on the output; its exit code."""
        self.monkeypatch.setattr(sys, "argv", ["liveness-etl", name, *arguments, "--output", self.output])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code

    def manifest(self, name: str, seed: int) -> str:
        """A manifest of some ids and a line that is none; its address."""
        manifest = write_manifest(self.tmp_path / name, [*ids(COUNT, seed), "no id"])
        self.s3.put_object(Bucket="backend", Key=f"liveness/manifests/{name}", Body=manifest.read_bytes())
        return MANIFESTS + name

    def run(self, name: str, seed: int) -> str:
        """A run that nothing holds back; the manifest's address."""
        everything = Policy([{"Sid": "Everything", "Action": "*", "Resource": "*"}])
        address = self.manifest(name, seed)
        with self.held_to(everything):
            assert self.command("run", address, "--region", REGION, "--quiet") == 0
        return address

    def config(self, name: str, text: str) -> str:
        """The path of a configuration."""
        path = self.tmp_path / name
        path.write_text(text)
        return str(path)


@pytest.fixture(scope="module")
def service_quotas() -> Iterator[str]:
    """Service Quotas, which moto has without this method."""
    with answering(200, {"Quotas": [{"QuotaName": "Face Liveness TPS", "Value": 1000.0}]}) as url:
        yield url


@pytest.fixture(scope="module")
def rekognition() -> Iterator[LocalRekognition]:
    """Answers with images in them."""
    config = LocalConfig(
        answer_any=True, outcome_shares={"SUCCEEDED": 0.9, "FAILED": 0.1}, image_mode="inline", image_bytes=300
    )
    with LocalRekognition(config) as running:
        yield running


@pytest.fixture(scope="module")
def s3(moto_endpoint: str, client_of: Callable[[str], Any]) -> Any:
    """Who may what is for the gate to say: one kind of S3 will do. The manifests' bucket is there."""
    client = client_of(moto_endpoint)
    client.create_bucket(Bucket="backend")
    return client


@pytest.fixture
def scene(
    s3: Any,
    bucket: str,
    moto_endpoint: str,
    rekognition: LocalRekognition,
    service_quotas: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Scene:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    monkeypatch.setenv("LIVENESS_ETL__OUTPUT__KMS_KEY_ID", KEY_ARN)
    backends = {
        "s3": moto_endpoint,
        "sts": moto_endpoint,
        "rekognition": rekognition.endpoint_url,
        "servicequotas": service_quotas,
        "glue": moto_endpoint,
        "sns": moto_endpoint,
    }
    return Scene(s3, rekognition, backends, f"s3://{bucket}/team/liveness", tmp_path, monkeypatch)


def use_run_policy(scene: Scene, denied: list[Need]) -> None:
    """Every command that works with run.json, through all that makes a call of its own.

    A command that is new belongs here (or into another policy's function).
    """
    here = ("--region", REGION)
    first = scene.manifest("first.csv", 1)
    assert scene.command("run", first, *here) == 0
    assert scene.command("run", first, *here, "--ask-again", "SUCCEEDED") == 0  # finds its images there
    scene.manifest("second.csv", 2)
    assert scene.command("run", MANIFESTS, *here) == 0
    with scene.monkeypatch.context() as patch:
        patch.setattr(manifest_memory, "MANY_FILES", 0)
        assert scene.command("sweep", MANIFESTS, *here) == 0
    third = scene.manifest("third.csv", 3)
    sweep_and_forget(scene, third, ids(COUNT, 3)[0])
    assert held_outside_plans(scene, ids(COUNT, 3)[0]) == []  # nor any version of what was landed and stored
    assert held_outside_plans(scene, ids(COUNT, 3)[1])
    assert scene.command("show", ids(COUNT, 3)[1]) == 0  # landed, not published
    assert scene.command("publish", "--rebuild") == 0
    assert scene.command("plan", third, *here) == 0
    assert scene.command("show", ids(COUNT, 1)[0]) == 0
    assert scene.command("verify") == 0
    assert scene.command("verify", "--manifest", third) == 0
    assert scene.command("doctor", *here) == 0
    scene.s3.put_object(
        Bucket="backend",
        Key="liveness/manifests/copies/1.jsonl",
        Body=json.dumps({"SessionId": ids(1, 9)[0], "Status": "FAILED", "ReferenceImage": {"Bytes": "b'face'"}}),
    )
    assert scene.command("import", f"{MANIFESTS}copies/", "--date", "2026-03-01", *here) == 0

    role = scene.config(
        "role.toml", f'[sources.default]\nrole_arn = "arn:aws:iam::{ACCOUNT}:role/{ROLE}"\nregion = "{REGION}"\n'
    )
    assert scene.command("run", scene.manifest("fourth.csv", 4), "--config", role) == 0

    # A topic that hears of a run that was killed, on a day that looks back at the one before.
    sns = boto3.client("sns", endpoint_url=scene.backends["sns"], region_name=REGION)
    assert sns.create_topic(Name="liveness-alerts")["TopicArn"] == f"arn:aws:sns:{REGION}:{ACCOUNT}:liveness-alerts"
    topic = f'[alerts]\nsns_topic_arn = "arn:aws:sns:{REGION}:{ACCOUNT}:liveness-alerts"\n'
    die_holding_a_lease(scene.store, record(scene.store, datetime.now(UTC) - timedelta(minutes=3), ended=False))
    record(scene.store, datetime.now(UTC) - timedelta(days=2))
    assert scene.command("run", scene.manifest("told.csv", 8), *here, "--config", scene.config("told.toml", topic)) == 0
    assert [path.path for path in scene.store.list("_state/noticed/")] != []

    fifth = scene.manifest("fifth.csv", 5)
    with held_leases(scene.store, ["default"], "somebody-else", 1.0, lambda: None):
        assert scene.command("run", fifth, *here) == 2
    assert not denied

    # More than a gibibyte goes up in parts, and moto finds these too small in the end: the upload is aborted.
    with scene.monkeypatch.context() as patch:
        patch.setattr(storage_s3, "_SINGLE_PUT_BYTES", 1_000)
        patch.setattr(storage_s3, "_PART_BYTES", 1_000)
        assert scene.command("publish", "--rebuild") == 1
    assert scene.command("publish", "--rebuild") == 0


def sweep_and_forget(scene: Scene, manifest: str, forgotten: str) -> None:
    """Sweep, and put a tombstone while all ids are asked and none is answered."""
    asked = scene.rekognition.stats()["requests"] + COUNT

    def forget() -> None:
        wait_until(lambda: scene.rekognition.stats()["requests"] >= asked)
        put_tombstones(scene.store, [forgotten], datetime.now(UTC))

    forgetting = threading.Thread(target=forget)
    scene.rekognition.configure(latency_seconds=1.0)
    try:
        forgetting.start()
        assert scene.command("sweep", manifest, "--region", REGION) == 0
    finally:
        scene.rekognition.configure(latency_seconds=0.0)
        forgetting.join()


def held_outside_plans(scene: Scene, session_id: str) -> list[str]:
    """What has the id, but for plans: of a run that was under way a moment ago these are left, and `forget` says so."""
    return [path for path in holders(scene.store, session_id) if not path.startswith("team/liveness/.tmp/2")]


def use_analyst_policy(scene: Scene, denied: list[Need]) -> None:
    """What an analyst does; that rejects may not be listed is no hindrance."""
    scene.run("first.csv", 1)
    for table in (*TABLES, "runs"):
        assert scene.command("query", f"SELECT count(*), min(dt) FROM {table}") == 0
    assert scene.command("report", "--json", str(scene.tmp_path / "report.json")) == 0
    refused = {(need.action, need.prefix) for need in denied}
    assert refused == {("s3:ListBucket", "team/liveness/rejects/dt=")}
    denied.clear()


def use_forget_policy(scene: Scene, denied: list[Need]) -> None:
    """Ids with stored images and with images that AWS wrote, a plan that was left behind, and old partitions."""
    s3, store = scene.s3, scene.store
    s3.create_bucket(Bucket="faces")
    s3.put_object(Bucket="faces", Key="1/reference.jpg", Body=b"face")
    land(store, [row(1, images=[image(0, "reference", s3_bucket="faces", s3_name="1/reference.jpg")])])
    land(store, [row(2)])
    publish.publish_partition(store, DT)
    store.put(".tmp/20260101T080000000000Z-0123abcd/default.parquet", session_id(1).encode())
    store.put("_state/leases/default.json", b"[]")
    store.put(f"rejects/dt={DT}/old.parquet", b"")
    config = scene.config("forget.toml", '[images]\nsource_buckets = ["faces"]\n[output]\nretention_days = 1\n')
    forgotten = [session_id(1), ids(COUNT, 1)[0]]
    scene.run("first.csv", 1)
    assert scene.command("forget", *forgotten, "--with-source-images", "--config", config) == 0
    assert [held_outside_plans(scene, one) for one in forgotten] == [[], []]
    assert holders(store, forgotten[0]) == []
    assert "Contents" not in s3.list_objects_v2(Bucket="faces")
    assert scene.command("forget", "--expired", "--config", config) == 0
    assert not list(store.list("sessions/"))
    assert not list(store.list(f"rejects/dt={DT}/"))

    with scene.monkeypatch.context() as patch:
        patch.setattr(storage_s3, "_SINGLE_PUT_BYTES", 1_000)
        patch.setattr(storage_s3, "_PART_BYTES", 1_000)
        land(S3Store(scene.output, s3), [row(3), row(4)])
        assert scene.command("forget", session_id(3)) == 1


def use_catalog_policy(scene: Scene, denied: list[Need]) -> None:
    """A database and tables that are not there, then a view that differs."""
    assert scene.command("catalog", "sync") == 0
    scene.monkeypatch.setenv("LIVENESS_ETL__MANIFEST__ATTRIBUTES", "plan")
    assert scene.command("catalog", "sync") == 0
    assert not denied


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("run", use_run_policy),
        ("analyst", use_analyst_policy),
        ("forget", use_forget_policy),
        ("catalog", use_catalog_policy),
    ],
)
def test_policy_allows_what_its_commands_call_and_nothing_else(
    name: str, use: Callable[[Scene, list[Need]], None], scene: Scene
) -> None:
    """Through a gate that denies what the policy does not allow; what nothing called is surplus."""
    policy = scene.policy(name)
    with scene.held_to(policy) as denied:
        use(scene, denied)
    assert not denied
    surplus = policy.granted() - policy.used
    assert {granted for granted in surplus if granted[0] != ABORTED} == set()
    assert name in ("analyst", "catalog") or any(used[0] == ABORTED for used in policy.used)


def test_sweep_that_may_not_erase_versions_says_what_to_do(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """Without two statements of run.json; the rows are out of landing all the same, and no id is told."""
    manifest, forgotten = scene.manifest("in-flight.csv", 7), ids(COUNT, 7)[0]
    whole = scene.policy("run")
    policy = Policy([statement for statement in whole.statements if statement["Sid"] not in IN_FLIGHT])
    with scene.held_to(policy) as denied:
        sweep_and_forget(scene, manifest, forgotten)
    assert {need.action for need in denied} == {"s3:ListBucketVersions"}
    printed = capsys.readouterr()
    assert "run the forget once more that erased sessions of 2026-03-01" in printed.err
    assert forgotten not in printed.err + printed.out
    with scene.held_to(scene.policy("forget")) as denied:
        assert scene.command("forget", forgotten) == 0
    assert not denied


def test_verify_that_may_not_read_images_names_no_id(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """The path of an image holds one; the error says all but that."""
    scene.run("first.csv", 1)
    policy = scene.policy("run")
    (read,) = (statement for statement in policy.statements if statement["Sid"] == "ReadTheOutput")
    read["Resource"].remove(f"arn:aws:s3:::{scene.store.bucket}/team/liveness/images/*")
    capsys.readouterr()
    with scene.held_to(policy) as denied:
        assert scene.command("verify", "--quiet") == 1
    assert denied
    error = capsys.readouterr().err
    assert error.startswith(f"error: cannot read {scene.output}/images/dt=2026-03-01/…/")
    assert "s3:GetObject" in error
    assert not any(one in error for one in ids(COUNT, 1))


def test_forget_that_may_not_erase_names_no_id(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """Not list, or not delete: it says where and what to grant, and nobody's id."""
    scene.run("first.csv", 1)
    everything = scene.policy("forget").statements
    capsys.readouterr()
    for sid, forgotten in zip(("ListAllVersions", "EraseAllVersions"), ids(2, 1), strict=True):
        policy = Policy([statement for statement in everything if statement["Sid"] != sid])
        with scene.held_to(policy) as denied:
            assert scene.command("forget", forgotten) == 1
        assert denied
        printed = capsys.readouterr()
        assert printed.err.startswith("error: cannot ")
        assert forgotten not in printed.err + printed.out


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
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    """And its columns are known all the same."""
    with scene.held_to(scene.policy("analyst")):
        assert scene.command("query", "DESCRIBE rejects") == 0
        assert scene.command("query", "SELECT count(*) FROM rejects") == 1
    assert capsys.readouterr().err.startswith(f"error: cannot list {scene.output}/rejects/dt=: access denied")


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
