"""The output and the image store: reached, written and replaced under conditions, and kept apart.

What is written is a line of text under a name of its own, where nothing looks for rows or images.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from liveness_etl.aws import why_unreachable
from liveness_etl.doctor.finding import Finding, failed
from liveness_etl.errors import Conflict, StoreError, UsageError
from liveness_etl.job import Job, image_places
from liveness_etl.storage import ABSENT, Store
from liveness_etl.storage_folder import LocalStore
from liveness_etl.storage_s3 import S3Store
from liveness_etl.transform.tables import SCHEMAS

_TEXT: Final = b"written by liveness-etl doctor, which deletes it again\n"
_NO_VERSION: Final = "0" * 32
_CONNECT_SECONDS: Final = 5.0
_CONDITIONS: Final = (
    "use a store that heeds conditions, as AWS does (on older Ceph a bucket without versioning): "
    "without them runs write over what others wrote"
)
_GRANT: Final = "check the credentials (output.profile), and grant what config/iam/run.json has for this place"


@dataclass(frozen=True)
class Probed:
    """A store, what was found, and the KMS key that S3 says it used."""

    store: Store
    finding: Finding
    key: str | None = None
    is_key_known: bool = False


def store_findings(job: Job, store: Store) -> Iterator[Finding]:
    """The output first; then images, and whether who may read the one cannot read the other."""
    output = probe("output", store, "", job.settings.output.kms_key_id, replaces=True)
    yield output.finding
    if job.settings.images.mode == "discard":
        yield Finding("ok", "images", "the bytes of images are discarded")
        return
    try:
        images_store, prefix = image_places(job.settings)[-1]
    except UsageError as error:
        yield Finding("fail", "images", str(error), "correct images.uri")
        return
    if prefix and output.finding.status == "fail":
        images = output  # below it, so what is wrong was said
    else:
        asked_key = job.settings.images.kms_key_id or job.settings.output.kms_key_id
        images = probe("images", images_store, prefix, asked_key)
        yield images.finding
    yield apart_finding(output, images)


def probe(check: str, store: Store, prefix: str, asked_key: str | None, *, replaces: bool = False) -> Probed:
    """Write, read and delete a small object; the conditions of a write are tried too (`replaces`: If-Match)."""
    if isinstance(store, LocalStore) and not (store.root / prefix).exists():
        return Probed(store, _new_folder(check, store.root / prefix))
    if isinstance(store, S3Store) and (reason := why_unreachable(store.endpoint_url, _CONNECT_SECONDS)):
        what = f"cannot connect to {store.endpoint_url} ({reason})"
        return Probed(store, Finding("fail", check, what, "check output.endpoint_url, output.region and the network"))
    path = f"{prefix or '.tmp/'}doctor-{uuid.uuid4().hex}"
    try:
        tag = store.put(path, _TEXT, expect=ABSENT)
    except StoreError as error:
        return Probed(store, failed(check, error, _GRANT))
    key, is_key_known, problem = None, False, None
    try:
        problem = _condition_problem(check, store, path, tag, replaces)
        with store.open(path) as written:
            if written.read() != _TEXT:
                problem = Finding("fail", check, f"{store.uri} gives other bytes back than were written", "replace it")
        if isinstance(store, S3Store):
            key, is_key_known = store.encryption_key(path), True
    except StoreError as error:
        problem = problem or failed(check, error, _GRANT)
    left = _delete(check, store, path)
    return Probed(store, problem or left or _sound(check, store, asked_key, key), key, is_key_known)


def _condition_problem(check: str, store: Store, path: str, tag: str, replaces: bool) -> Finding | None:
    with contextlib.suppress(Conflict):
        store.put(path, _TEXT, expect=ABSENT)
        return Finding("fail", check, f"{store.uri} ignores If-None-Match: it wrote over what was there", _CONDITIONS)
    if not replaces:
        return None
    store.put(path, _TEXT, expect=tag)  # older Ceph refuses it where versioning is on, and the store says so
    with contextlib.suppress(Conflict):
        store.put(path, _TEXT, expect=_NO_VERSION)
        return Finding("fail", check, f"{store.uri} ignores If-Match: it replaced another version", _CONDITIONS)
    return None


def _delete(check: str, store: Store, path: str) -> Finding | None:
    try:
        store.delete([path])
    except StoreError as error:
        advice = "delete it by hand, and allow s3:DeleteObject there (config/iam/run.json)"
        return Finding("warn", check, f"{store.uri_of(path)} stays: {str(error).partition('; ')[0]}", advice)
    return None


def _sound(check: str, store: Store, asked_key: str | None, key: str | None) -> Finding:
    if not isinstance(store, S3Store):
        return Finding("ok", check, f"{store.uri} can be written")
    if asked_key is not None and key is None:
        what = f"{store.uri} can be written, but S3 did not encrypt with the configured KMS key"
        return Finding("fail", check, what, "correct kms_key_id, or use a store that knows SSE-KMS")
    encrypted = {True: "with a KMS key", False: "with S3's own key"}[key is not None]
    return Finding("ok", check, f"{store.uri} can be written, heeds conditions, encrypts {encrypted}")


def _new_folder(check: str, folder: Path) -> Finding:
    there = next(parent for parent in folder.parents if parent.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Finding("ok", check, f"{folder} is not there yet: the first run makes it")
    return Finding(
        "fail", check, f"{folder} cannot be made in {there}", "name another folder, or let this user write there"
    )


def apart_finding(output: Probed, images: Probed) -> Finding:
    """Analysts read tables; faces are not for them. Whom a bucket's or a key's policy lets in is not looked at."""
    check = "images apart"
    if _place(images.store).startswith(tuple(f"{_place(output.store)}{table}/" for table in SCHEMAS)):
        what = "images lie among the tables, where config/iam/analyst.json lets analysts read"
        return Finding("fail", check, what, "set images.uri to a bucket that analysts cannot read")
    shared, are_keys_known = [], images.is_key_known and output.is_key_known
    if isinstance(output.store, S3Store) and isinstance(images.store, S3Store):
        if images.store.bucket == output.store.bucket:
            shared.append("a bucket, in which prefixes alone (config/iam/analyst.json) keep analysts from faces")
        if are_keys_known and images.key == output.key:
            shared.append("a KMS key" if images.key else "S3's own key, which anybody may use who may read")
        mend = "set images.uri to a bucket, and images.kms_key_id to a key, that analysts may not read and use"
    else:
        one, other = _place(images.store), _place(output.store)
        if one.startswith(other) or other.startswith(one):
            shared.append("a folder")
        mend = "set images.uri to a folder that analysts cannot read"
    if shared:
        return Finding("warn", check, f"images and tables share {' and '.join(shared)}", mend)
    return Finding("ok", check, f"images and tables share no place{' and no key' if are_keys_known else ''}")


def _place(store: Store) -> str:
    return f"{store.uri.rstrip('/')}/"
