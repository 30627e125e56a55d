"""Inline image bytes: stored before they are referred to, never over others, never anywhere else."""

import base64
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from liveness_etl.errors import StoreError, Unavailable
from liveness_etl.load import images
from liveness_etl.load.images import discard_images, store_images
from liveness_etl.storage import Store
from liveness_etl.storage_folder import LocalStore
from liveness_etl.storage_s3 import S3Store
from liveness_etl.transform.result import Answer, Image, SessionResult, parse_result
from tests.landing_rows import DT, session_id
from tests.stored import paths, read, requests_of

JPEG, PNG = b"\xff\xd8\xff\xe0" + bytes(300), b"\x89PNG\r\n\x1a\n" + bytes(10)
FOLDER = f"images/dt=2026-01-01/{session_id(0)}"


def answer(reference: bytes | None = None, *audits: bytes | None) -> Answer:
    """An answer with these inline bytes; None is an image in the customer's bucket."""

    def image(content: bytes | None) -> dict[str, Any]:
        return {"Bytes": content} if content is not None else {"S3Object": {"Bucket": "b", "Name": "n"}}

    members = {"SessionId": session_id(0), "Status": "SUCCEEDED", "AuditImages": [image(audit) for audit in audits]}
    return parse_result(session_id(0), members | {"ReferenceImage": image(reference)})


def keep(store: Store, given: Answer) -> tuple[SessionResult, bool]:
    return store_images(store, "images/")(given, DT)


def test_inline_bytes_are_stored_and_referred_to(store: Store) -> None:
    """Name by kind and index, extension by the first bytes, and the reference with size and hash."""
    result, all_kept = keep(store, answer(JPEG, PNG, b"neither", None))
    assert all_kept
    names = ["reference.jpg", "audit-0.png", "audit-1.bin"]
    assert paths(store) == sorted(f"{FOLDER}/{name}" for name in names)
    for image, name, content in zip(result.images, names, [JPEG, PNG, b"neither"], strict=False):
        assert read(store, f"{FOLDER}/{name}") == content
        assert image.image_uri == store.uri_of(f"{FOLDER}/{name}")
        assert (image.image_sha256, image.image_size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert result.images[3] == Image("audit", 2, s3_bucket="b", s3_name="n", image_uri="s3://b/n")


def test_local_address_is_absolute_and_percent_encoded(folder_store: LocalStore) -> None:
    """The address opens in any program, whatever the folder's name: here with a blank and an umlaut."""
    result, _ = keep(folder_store, answer(JPEG))
    uri = result.images[0].image_uri
    assert uri is not None
    assert uri.startswith(f"file://{folder_store.root.parent}/out%20p%C3%BCt/images/")
    assert uri.isascii()
    assert folder_store.root.joinpath(f"{FOLDER}/reference.jpg").as_uri() == uri


def test_address_in_a_bucket_is_bucket_and_name(s3_store: Any) -> None:
    """s3://bucket/name, ready for any S3 client."""
    result, _ = keep(s3_store, answer(JPEG))
    assert result.images[0].image_uri == f"s3://{s3_store.bucket}/output/{FOLDER}/reference.jpg"


def test_same_bytes_are_not_stored_twice(store: Store) -> None:
    """A rerun finds its own image, leaves it alone and refers to it."""
    first, _ = keep(store, answer(JPEG))
    tag = store.head(f"{FOLDER}/reference.jpg")
    again, all_kept = keep(store, answer(JPEG))
    assert (again, all_kept) == (first, True)
    assert store.head(f"{FOLDER}/reference.jpg") == tag
    assert len(paths(store)) == 1


def test_bytes_that_are_there_are_not_sent_again(s3_store: S3Store, s3: Any) -> None:
    """A rerun after one of three images was lost sends that one alone; two listings tell what is there."""
    keep(s3_store, answer(JPEG, PNG, b"neither"))
    s3_store.delete([f"{FOLDER}/audit-0.png"])
    with requests_of(s3, "PutObject") as put, requests_of(s3, "ListObjectsV2") as listed:
        _, all_kept = keep(s3_store, answer(JPEG, PNG, b"neither"))
    assert all_kept
    assert [request["url"].rpartition("/")[2] for request in put] == ["audit-0.png"]
    assert len(listed) == 2


def test_partition_without_images_is_looked_at_once(s3_store: S3Store, s3: Any) -> None:
    """Where nothing is there, an image costs one request."""
    storing = store_images(s3_store, "images/")
    with requests_of(s3, "*") as sent:
        for number in range(5):
            given = answer(JPEG, PNG)
            storing(replace(given, result=replace(given.result, session_id=session_id(number))), DT)
    assert len(sent) == 1 + 5 * 2


def test_other_bytes_get_a_name_of_their_own(store: Store) -> None:
    """Nothing is overwritten: the second image's name holds the first 8 of its hash, and is found again."""
    other = JPEG[:-1] + b"\1"  # of the same size
    keep(store, answer(JPEG))
    result, all_kept = keep(store, answer(other))
    name = f"{FOLDER}/reference-{hashlib.sha256(other).hexdigest()[:8]}.jpg"
    assert all_kept
    assert result.images[0].image_uri == store.uri_of(name)
    assert read(store, f"{FOLDER}/reference.jpg") == JPEG
    assert read(store, name) == other
    keep(store, answer(other))
    assert len(paths(store)) == 2


def test_image_stored_by_another_at_the_same_moment_is_referred_to(folder_store: LocalStore) -> None:
    """Two runs store one session's image: whoever comes second meets the first one's and uses it."""

    class Overtaken(LocalStore):
        def put(self, path: str, *args: Any, **options: Any) -> str:
            folder_store.put(path, theirs)
            return super().put(path, *args, **options)

    theirs = JPEG
    result, all_kept = keep(Overtaken(folder_store.root), answer(JPEG))
    assert (result.images[0].image_uri, all_kept) == (folder_store.uri_of(f"{FOLDER}/reference.jpg"), True)
    theirs = PNG
    result, all_kept = keep(Overtaken(folder_store.root), answer(None, JPEG))
    assert (result.images[1].image_uri, all_kept) == (None, False)  # both of its names are another's
    assert read(folder_store, f"{FOLDER}/audit-0.jpg") == PNG


def test_image_that_cannot_be_stored_stays_without_a_reference(folder_store: LocalStore) -> None:
    """The answer is kept, with what is known of the lost image, and says that not all were kept."""
    folder_store.put("images/dt=2026-01-01", b"a file in the way")
    result, all_kept = keep(folder_store, answer(JPEG, None))
    assert not all_kept
    assert [image.image_uri for image in result.images] == [None, "s3://b/n"]
    assert result.images[0].image_sha256 == hashlib.sha256(JPEG).hexdigest()


def test_one_lost_image_does_not_lose_the_others(folder_store: LocalStore) -> None:
    """What can be stored is stored."""

    class Half(LocalStore):
        def put(self, path: str, *args: Any, **options: Any) -> str:
            if "reference" in path:
                raise StoreError("the disk is full")
            return super().put(path, *args, **options)

    result, all_kept = keep(Half(folder_store.root), answer(JPEG, PNG))
    assert not all_kept
    assert [image.image_uri for image in result.images] == [None, folder_store.uri_of(f"{FOLDER}/audit-0.png")]


@pytest.mark.parametrize(("error", "tries"), [(Unavailable, 3), (StoreError, 1)])
def test_store_that_is_out_of_reach_is_asked_again_and_one_that_refuses_is_not(
    folder_store: LocalStore, monkeypatch: pytest.MonkeyPatch, error: type[StoreError], tries: int
) -> None:
    """An image can hardly be fetched a second time; but waiting helps only where the store does not answer."""
    puts = 0

    class Failing(LocalStore):
        def put(self, path: str, *args: Any, **options: Any) -> str:
            nonlocal puts
            puts += 1
            if puts < 3:
                raise error("no")
            return super().put(path, *args, **options)

    monkeypatch.setattr("time.sleep", lambda _: None)
    _, all_kept = keep(Failing(folder_store.root), answer(JPEG))
    assert (puts, all_kept) == (tries, error is Unavailable)


def test_store_that_stays_out_of_reach_is_given_up_once_an_answer(
    folder_store: LocalStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its other images are not tried any more, and one warning, without a session id, says why."""
    tried = []

    class Failing(LocalStore):
        def put(self, path: str, *args: Any, **options: Any) -> str:
            tried.append(path)
            raise Unavailable(f"cannot write {path}: nobody answers")

    monkeypatch.setattr(images, "_PATIENCE_SECONDS", 0.0)
    store = store_images(Failing(folder_store.root), "images/")
    for _ in range(2):
        result, all_kept = store(answer(JPEG, PNG), DT)
        assert not all_kept
        assert [image.image_uri for image in result.images] == [None, None]
        assert [image.image_size_bytes for image in result.images] == [len(JPEG), len(PNG)]
    assert len(tried) == 2
    (said,) = caplog.messages
    assert said.endswith("cannot write images/dt=2026-01-01/…/reference.jpg: nobody answers")


def test_answer_without_inline_bytes_touches_no_store(tmp_path: Path) -> None:
    """References of the API are taken as they are."""
    (tmp_path / "file").write_text("")
    given = answer(None, None)
    assert keep(LocalStore(tmp_path / "file"), given) == (given.result, True)


def test_discarded_bytes_leave_size_and_hash() -> None:
    """images.mode = "discard": nothing is lost that was to be kept."""
    result, all_kept = discard_images(answer(JPEG, None), DT)
    assert all_kept
    assert result.images[0].image_uri is None
    assert result.images[0].image_sha256 == hashlib.sha256(JPEG).hexdigest()
    assert result.images[0].image_size_bytes == len(JPEG)
    assert result.images[1].image_uri == "s3://b/n"


@pytest.mark.parametrize("kms_key_id", [None, "alias/faces"])
def test_image_is_checked_by_its_hash_on_the_way_up(s3: Any, bucket: str, kms_key_id: str | None) -> None:
    """S3 gets the SHA-256 to verify, and the KMS key where one is configured."""
    with requests_of(s3, "PutObject") as sent:
        keep(S3Store(f"s3://{bucket}", s3, kms_key_id), answer(JPEG))
    headers = sent[0]["headers"]
    assert headers["x-amz-checksum-sha256"] == base64.b64encode(hashlib.sha256(JPEG).digest()).decode()
    assert headers.get("x-amz-server-side-encryption-aws-kms-key-id") == kms_key_id
    assert headers["If-None-Match"] == "*"
