"""An image that could not be stored: the run goes on, the rerun mends it, and what was read stays visible."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from liveness_etl import pipeline, storage_s3_client
from liveness_etl.load import images
from liveness_etl.local import LocalConfig, LocalRekognition
from liveness_etl.run_report import RunReport
from liveness_etl.storage import Store, open_store
from tests.conftest import S3_KINDS, new_bucket
from tests.faulty_proxy import FaultyProxy
from tests.landing_rows import sessions, table
from tests.running import ids, make_job, write_manifest
from tests.stored import paths

COUNT = 8
INLINE = LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 1.0}, image_mode="inline", image_bytes=300)


class Output:
    """Somewhere to run into, in which images can be refused."""

    def __init__(self, uri: str, settings: dict[str, str], refusing: Callable[[], Any]) -> None:
        self.uri, self.settings, self.refusing_images = uri, settings, refusing


@pytest.fixture(params=["folder", *S3_KINDS])
def output(request: pytest.FixtureRequest, client_of: Callable[[str], Any], tmp_path: Path) -> Output:
    """A folder with a file in the way, moto behind a proxy that answers 503, Ceph with a policy that denies."""
    if request.param == "folder":
        return Output(str(tmp_path / "out"), {}, lambda: file_in_the_way(tmp_path / "out" / "images"))
    endpoint_url = request.getfixturevalue(f"{request.param}_endpoint")
    client = client_of(endpoint_url)
    bucket = new_bucket(client)
    if request.param == "ceph":
        refusing: Callable[[], Any] = lambda: policy_against(client, bucket, "out/images/*")  # noqa: E731
    else:
        proxy: FaultyProxy = request.getfixturevalue("proxy_of")(endpoint_url)
        endpoint_url, refusing = proxy.url, lambda: slowed_down(proxy)
    settings = {"output__endpoint_url": endpoint_url, "output__region": "us-east-1"}
    return Output(f"s3://{bucket}/out", settings, refusing)


@contextmanager
def file_in_the_way(images: Path) -> Iterator[None]:
    images.parent.mkdir(exist_ok=True)
    images.write_text("")
    yield
    images.unlink()


@contextmanager
def policy_against(client: Any, bucket: str, keys: str) -> Iterator[None]:
    resource = f"arn:aws:s3:::{bucket}/{keys}"
    statement = {"Effect": "Deny", "Principal": "*", "Action": ["s3:PutObject"], "Resource": [resource]}
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    yield
    client.delete_bucket_policy(Bucket=bucket)


@contextmanager
def slowed_down(proxy: FaultyProxy) -> Iterator[None]:
    proxy.set("slow_down", "images")
    yield
    proxy.set("none")


@pytest.fixture
def run(output: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], RunReport]:
    """Runs with sessions that are a moment old, so that a rerun still finds them."""
    monkeypatch.setattr(images, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(storage_s3_client, "_ATTEMPTS", 1)
    manifest = write_manifest(tmp_path / "manifest.csv", ids(COUNT), datetime.now(UTC))
    return lambda url: pipeline.run(make_job(manifest, output.uri, url, max_tps=50, **output.settings))


def opened(output: Output) -> Store:
    return open_store(output.uri, **{name.removeprefix("output__"): value for name, value in output.settings.items()})


def test_lost_image_is_mended_by_the_rerun(output: Output, run: Callable[[str], RunReport]) -> None:
    """Exit code 3 and ImageNotStored beside the answer; the rerun asks again, stores, and its row wins."""
    with LocalRekognition(INLINE) as rekognition:
        with output.refusing_images():
            first = run(rekognition.endpoint_url)
        store = opened(output)
        (dt,) = first.plan.partitions
        rows, boxes = sessions(store, dt), table(store, "bounding_boxes", dt).to_pylist()
        assert first.exit_code == 3
        assert Counter((row["outcome"], row["error_code"]) for row in rows) == {("SUCCEEDED", "ImageNotStored"): COUNT}
        assert all(row["confidence"] is not None for row in rows)
        assert {box["image_uri"] for box in boxes} == {None}
        assert all(box["image_sha256"] for box in boxes)

        second = run(rekognition.endpoint_url)
    assert (second.exit_code, second.row["landed"]) == (0, COUNT)
    assert {row["error_code"] for row in sessions(store, dt)} == {None}
    mended = table(store, "bounding_boxes", dt).to_pylist()
    assert {box["image_uri"] for box in mended} == {store.uri_of(path) for path in paths(store, "images/")}
    assert [box["image_sha256"] for box in mended] == [box["image_sha256"] for box in boxes]


def test_lost_image_and_an_expired_session_leave_the_answer_that_was_read(
    output: Output, run: Callable[[str], RunReport]
) -> None:
    """The rerun came too late: EXPIRED does not hide what is known, and nothing is asked a third time."""
    with LocalRekognition(INLINE) as rekognition:
        with output.refusing_images():
            first = run(rekognition.endpoint_url)
        rekognition.configure(outcome_shares={"EXPIRED": 1.0})
        second = run(rekognition.endpoint_url)
        third = run(rekognition.endpoint_url)
    assert second.row["by_outcome"] == [("EXPIRED", COUNT)]
    assert (second.exit_code, third.exit_code, third.row["calls"]) == (0, 0, 0)
    (dt,) = first.plan.partitions
    rows = sessions(opened(output), dt)
    assert {(row["outcome"], row["error_code"]) for row in rows} == {("SUCCEEDED", "ImageNotStored")}
    assert all(row["confidence"] is not None for row in rows)
