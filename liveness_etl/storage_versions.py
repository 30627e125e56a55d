"""What S3 keeps beside the current objects: old versions and delete markers, found and erased for good.

A bucket that never had versioning lists each object as one version called "null", so one way serves all buckets.
It takes the permissions s3:ListBucketVersions and s3:DeleteObjectVersion.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from liveness_etl.errors import StoreError
from liveness_etl.storage import Purged

UNVERSIONED: Final = "null"
"""The version id of an object that was written while its bucket had no versioning."""

_MOST_A_REQUEST: Final = 1_000
_FEW: Final = 100


@dataclass(frozen=True)
class Version:
    """A version of an object, or a delete marker; `latest` is the one that stands for its key now."""

    key: str
    version_id: str
    latest: bool
    marker: bool


def list_folders(client: Any, where: dict[str, Any], prefix: str) -> list[str]:
    """The names of the folders directly below a prefix, those of old versions too. `where` names the bucket."""
    pages = client.get_paginator("list_object_versions").paginate(**where, Prefix=prefix, Delimiter="/")
    return [found["Prefix"][len(prefix) : -1] for page in pages for found in page.get("CommonPrefixes", ())]


def list_versions(
    client: Any, where: dict[str, Any], prefix: str, below: Sequence[str] | None = None
) -> Iterator[Version]:
    """All versions under a prefix by key, the latest of each key first.

    `below` (sorted) takes only what is in folders of these names directly under the prefix: a request for each of a
    few, and for many a listing of all.
    """
    few = below is not None and len(below) <= _FEW
    wanted = None if few or below is None else set(below)
    for narrow in [f"{prefix}{name}/" for name in below or ()] if few else [prefix]:
        for page in client.get_paginator("list_object_versions").paginate(**where, Prefix=narrow):
            for version in _of_page(page):
                if wanted is None or version.key[len(prefix) :].partition("/")[0] in wanted:
                    yield version


def purge(client: Any, where: dict[str, Any], prefix: str, below: Sequence[str] | None, current: bool) -> Purged:
    """Erase old versions and delete markers, and with `current` the objects themselves. Raises StoreError."""
    objects = versions = 0
    older: list[Version] = []
    latest: list[Version] = []

    def erase_held() -> None:
        for some in (older, latest):  # a latest one that went first would bring an older one back
            _erase(client, where, prefix, some)
            some.clear()

    for version in list_versions(client, where, prefix, below):
        if version.latest and len(older) + len(latest) >= _MOST_A_REQUEST:
            erase_held()
        if version.latest and not version.marker:
            if current:
                latest.append(version)
                objects += 1
        else:
            (latest if version.latest else older).append(version)
            versions += 1
    erase_held()
    return Purged(objects, versions)


def _erase(client: Any, where: dict[str, Any], prefix: str, versions: Sequence[Version]) -> None:
    for start in range(0, len(versions), _MOST_A_REQUEST):
        some = versions[start : start + _MOST_A_REQUEST]
        keys = [{"Key": version.key, "VersionId": version.version_id} for version in some]
        answer = client.delete_objects(**where, Delete={"Objects": keys, "Quiet": True})
        if failed := answer.get("Errors"):
            raise StoreError(
                f"cannot erase {len(failed)} versions under s3://{where['Bucket']}/{prefix}: {failed[0].get('Code')}; "
                "grant s3:DeleteObjectVersion, or end the Object Lock on them, and do it again"
            )


def _of_page(page: dict[str, Any]) -> list[Version]:
    found = [
        Version(one["Key"], one["VersionId"], one["IsLatest"], kind == "DeleteMarkers")
        for kind in ("Versions", "DeleteMarkers")
        for one in page.get(kind, ())
    ]
    return sorted(found, key=lambda version: (version.key, not version.latest))
