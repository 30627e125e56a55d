"""How S3 is reached and signed for, told to a reader that is not boto3: as botocore has found it."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import botocore.session

from liveness_etl.aws import ca_bundle_or_default, proxies_for

# Elsewhere botocore puts the bucket into the path, not before the host.
_AWS: Final = re.compile(r"s3[a-z0-9.-]*\.amazonaws\.(com|com\.cn|eu)")
_BUCKET: Final = re.compile(r"(?!.*--)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")  # neither an ARN nor one of S3 Express


class Unusual(Exception):
    """Only botocore can reach the bucket; the text says why, as the end of a sentence."""


@dataclass(frozen=True)
class Access:
    """Where a bucket is, and who asks: the credentials of one moment, which nobody renews.

    `host` is the service's, with its port. `proxy_url` is None where nothing stands in between.
    """

    host: str
    is_secure: bool
    is_path_style: bool
    region: str
    key_id: str
    secret: str = field(repr=False)
    token: str | None = field(repr=False)
    ca_file: str
    proxy_url: str | None = field(repr=False)


def find_access(client: Any, session: botocore.session.Session, bucket: str, bucket_region: str | None) -> Access:
    """The access of an S3 client that was made of `session`. Raises Unusual.

    `bucket_region` is what S3 has called the bucket's region: botocore follows a bucket elsewhere.
    """
    url, region, options = client.meta.endpoint_url, client.meta.region_name, client.meta.config.s3 or {}
    endpoint = urlsplit(url)
    style = options.get("addressing_style") or "auto"
    if bucket_region not in (None, region):
        raise Unusual(f"the bucket is in {bucket_region}, and {region} was asked")
    credentials = session.get_credentials()
    frozen = credentials.get_frozen_credentials() if credentials else None
    if not (frozen and frozen.access_key and frozen.secret_key):
        raise Unusual("the requests are not signed with a key")
    if not _BUCKET.fullmatch(bucket) or endpoint.path.strip("/"):
        raise Unusual("the bucket or its endpoint is of an unusual kind")
    return Access(
        host=endpoint.netloc,
        is_secure=endpoint.scheme == "https",
        is_path_style=style == "path" or (style == "auto" and ("." in bucket or not _AWS.fullmatch(endpoint.netloc))),
        region=region,
        key_id=frozen.access_key,
        secret=frozen.secret_key,
        token=frozen.token,
        ca_file=_ca_file(session),
        proxy_url=_proxy_url(url),
    )


def _ca_file(session: botocore.session.Session) -> str:
    found = ca_bundle_or_default(session.get_config_variable("ca_bundle"))
    if Path(found).is_dir():
        raise Unusual("the CA bundle is a folder")
    return found


def _proxy_url(endpoint_url: str) -> str | None:
    found: str | None = proxies_for(endpoint_url).proxy_url_for(endpoint_url)
    if found is not None and not re.fullmatch(r"http://[^@]+", found):
        raise Unusual("the proxy wants TLS or a password")
    return found
