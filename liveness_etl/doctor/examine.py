"""The examination, top to bottom. Nobody's data is read, and what is written is deleted again."""

from collections.abc import Iterator, Mapping

from liveness_etl.doctor.clock import HeardDate, clock_finding
from liveness_etl.doctor.finding import Finding
from liveness_etl.doctor.machine import engine_finding, rescue_finding, space_finding
from liveness_etl.doctor.prefect_api import prefect_finding
from liveness_etl.doctor.sources import source_findings
from liveness_etl.doctor.stores import store_findings
from liveness_etl.errors import UsageError
from liveness_etl.job import Job, open_output


def examine(job: Job, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Look at all that a run with these settings needs. Makes one call of Rekognition a source."""
    heard: list[HeardDate] = []
    for name in job.sources:
        yield from source_findings(job, name, heard)
    yield clock_finding(heard)
    yield from _output_findings(job)
    yield prefect_finding(environ)


def _output_findings(job: Job) -> Iterator[Finding]:
    if job.settings.output.uri is None:
        mend = "give --output with a folder or an s3:// address, or set output.uri"
        yield Finding("fail", "output", "not named, so not looked at", mend)
        return
    try:
        store = open_output(job.settings)
    except UsageError as error:
        yield Finding("fail", "output", str(error), "correct output.uri, output.profile or output.endpoint_url")
        return
    findings = list(store_findings(job, store))
    yield from findings
    if findings[0].status != "fail":
        yield engine_finding(job)
    yield rescue_finding(store.uri)
    yield space_finding(store)
