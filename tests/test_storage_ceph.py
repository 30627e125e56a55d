"""What moto waves through and a real S3 does not: signatures, damaged bodies, policies, versions, KMS keys."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from liveness_etl.errors import Conflict, StoreError
from liveness_etl.storage import ABSENT, Store, open_store
from liveness_etl.storage_s3 import S3Store
from tests.stored import paths, read

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("s3_endpoint", ["ceph"], indirect=True)]

EVERY_USE = {
    "list": lambda store: list(store.list("landing/")),
    "head": lambda store: store.head("a"),
    "open": lambda store: store.open("a"),
    "put": lambda store: store.put("a", b""),
    "delete": lambda store: store.delete(["a"]),
}


@pytest.mark.parametrize("use", EVERY_USE.values(), ids=EVERY_USE)
def test_wrong_secret_is_refused_in_one_sentence(
    s3_endpoint: str, bucket: str, monkeypatch: pytest.MonkeyPatch, use: Callable[[Store], object]
) -> None:
    """The signature does not fit, whatever is asked for; the sentence says where to look and holds no secret."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    store = open_store(f"s3://{bucket}/x", endpoint_url=s3_endpoint, region="us-east-1")
    try:
        with pytest.raises(StoreError, match=r"credentials") as raised:
            use(store)
    finally:
        store._client.close()  # type: ignore[attr-defined]
    assert "\n" not in str(raised.value)
    assert "not-the-secret" not in str(raised.value)


@contextmanager
def damaged_on_the_way(s3: Any) -> Iterator[None]:
    """The last byte of every body sent is another one than was signed."""

    def damage(request: Any, **_: object) -> None:
        body = request.body
        request.body = body[:-1] + bytes([body[-1] ^ 1])

    s3.meta.events.register("before-send.s3.PutObject", damage)
    try:
        yield
    finally:
        s3.meta.events.unregister("before-send.s3.PutObject", damage)


def test_body_damaged_on_the_way_is_not_stored(s3_store: S3Store, s3: Any) -> None:
    """What arrives is not what was signed: an error, and nothing is there."""
    with damaged_on_the_way(s3), pytest.raises(StoreError, match=r"^cannot write"):
        s3_store.put("a", b"content")
    assert s3_store.head("a") is None


def deny(s3: Any, bucket: str, action: str, below: str = "*") -> None:
    """A policy of the bucket that forbids one action to all."""
    resource = f"arn:aws:s3:::{bucket}" + (f"/{below}" if action != "s3:ListBucket" else "")
    statement = {"Effect": "Deny", "Principal": "*", "Action": [action], "Resource": [resource]}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))


@pytest.mark.parametrize(
    ("action", "use"),
    [
        ("s3:ListBucket", EVERY_USE["list"]),
        ("s3:GetObject", EVERY_USE["open"]),
        ("s3:PutObject", EVERY_USE["put"]),
        ("s3:DeleteObject", EVERY_USE["delete"]),
    ],
)
def test_denial_names_the_permission_that_is_missing(
    s3_store: S3Store, s3: Any, action: str, use: Callable[[Store], object]
) -> None:
    """A policy denies it: one sentence that says what to allow."""
    s3_store.put("a", b"")
    deny(s3, s3_store.bucket, action)
    with pytest.raises(
        StoreError, match=rf"^cannot \w+ s3://\S+: access denied; these credentials need {action} there"
    ):
        use(s3_store)


def test_unknown_kms_key_is_named_as_the_cause(s3: Any, bucket: str) -> None:
    """Not the credentials, though Ceph's code says so."""
    with pytest.raises(StoreError, match="the KMS key cannot be used"):
        S3Store(f"s3://{bucket}", s3, kms_key_id="no-such-key").put("a", b"")
    assert S3Store(f"s3://{bucket}", s3).head("a") is None


def test_versioned_bucket_shows_what_is_there_now(s3_store: S3Store, s3: Any) -> None:
    """Older versions and deleted paths are not listed, read or in the way of a new object."""
    s3.put_bucket_versioning(Bucket=s3_store.bucket, VersioningConfiguration={"Status": "Enabled"})
    for content in (b"first", b"second"):
        s3_store.put("a", content)
        assert read(s3_store, "a") == content
    s3_store.delete(["a"])
    assert (paths(s3_store), s3_store.head("a")) == ([], None)
    s3_store.put("a", b"third", expect=ABSENT)
    assert read(s3_store, "a") == b"third"
    assert len(s3.list_object_versions(Bucket=s3_store.bucket)["Versions"]) == 3


def test_versioned_bucket_that_takes_no_condition_is_said(s3_store: S3Store, s3: Any) -> None:
    """This Ceph compares If-Match with the version that is to be written: no version ever matches there."""
    s3.put_bucket_versioning(Bucket=s3_store.bucket, VersioningConfiguration={"Status": "Enabled"})
    tag = s3_store.put("a", b"first")
    with pytest.raises(StoreError, match=r"where versioning is on: use a bucket without$") as raised:
        s3_store.put("a", b"second", expect=tag)
    assert not isinstance(raised.value, Conflict)
    s3_store.put("a", b"second")
    with pytest.raises(Conflict):
        s3_store.put("a", b"third", expect=tag)
