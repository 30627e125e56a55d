"""What a run was asked to do, and the rooms it opens for that: output, images, manifest, sources."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from liveness_etl.errors import UsageError
from liveness_etl.extract import account, manifest, rekognition
from liveness_etl.extract.ceiling import Ceiling, source_ceiling
from liveness_etl.extract.in_flight import MOST_IN_FLIGHT
from liveness_etl.load import images
from liveness_etl.load.append import EraseImages
from liveness_etl.load.forget import EraseSource
from liveness_etl.settings import Settings, Source
from liveness_etl.storage import Store, open_store
from liveness_etl.transform.result import KeepImages

if TYPE_CHECKING:
    from liveness_etl.analysis.report import ReportOptions


def _new_run_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z-{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True)
class Job:
    """References and settings alone, so that it travels between processes. `share` is of each source's pace."""

    command: str
    manifest_uri: str
    settings: Settings
    sources: Mapping[str, Source]
    run_date: date | None = None
    ask_again: tuple[str, ...] = ()
    share: float = 1.0
    flow_run_id: str | None = None
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    run_id: str = field(default_factory=_new_run_id)

    def again(self) -> "Job":
        """The same job for another run, which starts now."""
        return replace(self, run_id=_new_run_id(), started_at=datetime.now(UTC))

    def plan_path(self, source: str) -> str:
        """Where a source's plan stands below the output while the run lasts."""
        return f".tmp/{self.run_id}/{source}"

    @property
    def stop_path(self) -> str:
        """What stands here below the output asks sweeps of this run in other processes to drain."""
        return f".tmp/{self.run_id}/.stop"


def open_output(settings: Settings, kms_key_id: str | None = None) -> Store:
    """The store of the output, whose key another one may replace. Raises UsageError where none is configured."""
    if settings.output.uri is None:
        raise UsageError("no output: give --output with a folder or an s3:// address")
    return _open(settings, settings.output.uri, kms_key_id or settings.output.kms_key_id)


def keep_images(settings: Settings) -> KeepImages:
    """What becomes of inline image bytes: stored under `images.uri` or the output, or discarded."""
    if settings.images.mode == "discard":
        return images.discard_images
    store, prefix = image_places(settings)[-1]
    return images.store_images(store, prefix)


def image_eraser(settings: Settings) -> EraseImages:
    """Erases stored images of sessions that turn out to be erased ones."""
    return partial(images.erase_images, *image_places(settings)[-1])


def image_places(settings: Settings) -> list[images.ImagePlace]:
    """Where stored images may be (a store and a prefix in it): below the output, and last where new ones go."""
    key = settings.images.kms_key_id or settings.output.kms_key_id
    places = [(open_output(settings, key), "images/")]
    if settings.images.uri is not None:
        places.append((_open(settings, settings.images.uri, key), ""))
    return places


def erase_source_with(settings: Settings) -> EraseSource:
    """Erases S3Objects that AWS wrote, with the S3 settings of the output."""
    from liveness_etl.storage_s3 import S3Store
    from liveness_etl.storage_s3_client import s3_client

    output = settings.output
    client = s3_client(output.endpoint_url, output.region, output.profile)
    # Not under expected_bucket_owner: these buckets may well be another account's than the output.
    return lambda bucket, name, version: S3Store(f"s3://{bucket}", client).erase_version(name, version)


def read_manifest(job: Job) -> manifest.ManifestReader:
    """The job's manifest, found but not yet read. Raises ManifestError."""
    inputs = inputs_for([job.manifest_uri], job.settings)
    return manifest.read_manifest(
        manifest.find_manifest(job.manifest_uri, job.run_date, inputs),
        manifest_options(job.settings),
        run_date=job.run_date,
        sources=tuple(job.sources),
        default_source=next(iter(job.sources)) if len(job.sources) == 1 else None,
        now=job.started_at,
        inputs=inputs,
    )


def inputs_for(uris: Iterable[str], settings: Settings) -> manifest.Inputs | None:
    """What opens manifests (or copies of answers) on S3, if one of them is there."""
    if not any(uri.startswith("s3://") for uri in uris):
        return None
    from liveness_etl.storage_s3 import S3Inputs
    from liveness_etl.storage_s3_client import s3_client

    output = settings.output
    return S3Inputs(s3_client(output.endpoint_url, output.region, output.profile))


def manifest_options(settings: Settings) -> manifest.ManifestOptions:
    """The section `[manifest]`, as far as reading is concerned."""
    options = settings.manifest
    return manifest.ManifestOptions(
        session_id_column=options.session_id_column,
        created_at_column=options.created_at_column,
        source_column=options.source_column,
        attributes=options.attributes,
        max_bytes=options.max_bytes,
        max_line_bytes=options.max_line_bytes,
    )


def report_options(
    settings: Settings, *, first: date | None = None, last: date | None = None, labels: str | None = None
) -> "ReportOptions":
    """What a report of these days (both included) covers, by the configuration."""
    from liveness_etl.analysis.report import ReportOptions  # NumPy: no run needs it

    wanted = settings.report
    return ReportOptions(
        first=first,
        last=last,
        labels=labels,
        threshold=wanted.threshold,
        subject_attribute=wanted.subject_attribute,
        min_cell=wanted.min_cell,
        timezone=wanted.timezone,
        ttl_seconds=settings.sweep.session_ttl_seconds,
        memory_limit=settings.publish.memory_limit,
    )


def source_region(source: Source) -> str:
    """The region that a source is asked in. Makes no call. Raises UsageError where there is none."""
    return account.region_of(account.open_session(region=source.region, profile=source.profile))


def source_client(job: Job, name: str) -> Any:
    """The client of a source, with credentials of its own, which are the expected account's. Raises UsageError."""
    source = job.sources[name]
    session = source_session(source)
    account.check_credentials(session, source.expected_account_id)  # here too: a worker elsewhere has its own
    return rekognition.rekognition_client(
        session,
        endpoint_url=source.endpoint_url,
        connections=source.max_in_flight or job.settings.sweep.max_in_flight or MOST_IN_FLIGHT,
        timeout_seconds=job.settings.sweep.call_timeout_seconds,
    )


def check_source(job: Job, name: str) -> None:
    """Credentials, account, region and endpoint: found out before anything is asked. Raises UsageError."""
    source = job.sources[name]
    account.check_credentials(source_session(source), source.expected_account_id)
    if source.endpoint_url is not None:
        rekognition.check_reachable(source.endpoint_url, job.settings.sweep.call_timeout_seconds)


def ceiling_of(job: Job, name: str) -> Ceiling:
    """How fast a source may be asked by this job, and why. Asks Service Quotas where nothing is configured."""
    source = job.sources[name]

    def account_quota() -> float | None:
        # `plan` makes no call at all, and a stand-in for Rekognition has no quota of the account's.
        asks = job.command != "plan" and source.endpoint_url is None
        if not asks:
            return None
        session = source_session(source)
        if source.expected_account_id is not None:  # before the first call: this is one
            account.check_credentials(session, source.expected_account_id)
        return account.face_liveness_quota(session)

    found = source_ceiling(
        source_region(source),
        max_tps=source.max_tps,
        quota_share=source.quota_share,
        account_quota=account_quota,
    )
    if job.share == 1:
        return found
    return Ceiling(found.tps * job.share, f"--share {job.share:g} of {found.tps:g}/s: {found.why}")


def source_session(source: Source) -> Any:
    """A session with credentials of the source, which are got when they are needed. Raises UsageError."""
    return account.open_session(
        region=source_region(source),
        profile=source.profile,
        role_arn=source.role_arn,
        external_id=source.external_id,
    )


def _open(settings: Settings, uri: str, kms_key_id: str | None) -> Store:
    output = settings.output
    return open_store(
        uri,
        endpoint_url=output.endpoint_url,
        region=output.region,
        profile=output.profile,
        kms_key_id=kms_key_id,
        expected_bucket_owner=output.expected_bucket_owner,
    )
