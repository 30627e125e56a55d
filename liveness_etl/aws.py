"""What all AWS clients of this program have in common: whom they talk to, and what their SDK must not log."""

import logging
import os
import socket
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import boto3
import botocore.config
import botocore.exceptions
from botocore.httpsession import ProxyConfiguration, get_cert_path
from botocore.utils import get_environ_proxies

from liveness_etl.endpoints import check_endpoint
from liveness_etl.errors import UsageError
from liveness_etl.masking import masked

# At DEBUG, botocore.parsers logs the body of every answer and botocore.endpoint that of every request, images
# included, and whoever calls logging.basicConfig(level=DEBUG) gets it. The rest of botocore logs no bodies.
_LOGS_BODIES: Final = ("botocore.parsers", "botocore.endpoint")


def _is_no_debug(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG


for _name in _LOGS_BODIES:  # on import: no client of this program can be older
    logging.getLogger(_name).addFilter(_is_no_debug)


def make_client(
    session: boto3.session.Session, service: str, config: botocore.config.Config, endpoint_url: str | None = None
) -> Any:
    """A client whose endpoint is `endpoint_url` (which the configuration has checked), or one of AWS's or loopback.

    AWS_ENDPOINT_URL and `endpoint_url` in a profile lead elsewhere without a word, so the address that botocore came
    to is looked at. Plain http, which only loopback has, is never sent through a proxy. Raises UsageError.
    """
    try:
        client: Any = session.client(service, endpoint_url=endpoint_url, config=config)  # type: ignore[call-overload]
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        raise UsageError(f"cannot set up {service}: {masked(str(error))}") from None
    if endpoint_url is None:
        check_found_endpoint(client)
    if client.meta.endpoint_url.startswith("http://") and config.proxies is None:  # type: ignore[attr-defined]
        direct = config.merge(botocore.config.Config(proxies={}))
        client.close()
        return session.client(service, endpoint_url=endpoint_url, config=direct)  # type: ignore[call-overload]
    return client


def check_found_endpoint(client: Any) -> None:
    """Refuse a client whose address botocore took from the environment or a profile, and that is not AWS's.

    Raises UsageError.
    """
    try:
        check_endpoint(client.meta.endpoint_url)
    except ValueError as error:
        raise UsageError(
            f"the endpoint of {client.meta.service_model.service_name} in AWS_ENDPOINT_URL or the AWS profile "
            f"{str(error).partition('; ')[0]}; if this one is meant, set endpoint_url in the configuration instead"
        ) from None


def ca_bundle_or_default(ca_bundle: str | None) -> str:
    """The file or folder of trusted authorities: what AWS_CA_BUNDLE or the AWS profile names (`ca_bundle`), else
    REQUESTS_CA_BUNDLE, else botocore's own."""
    return ca_bundle or os.environ.get("REQUESTS_CA_BUNDLE") or str(get_cert_path(True))


def proxies_for(endpoint_url: str) -> ProxyConfiguration:
    """What the environment names as proxy of an address, as botocore finds it; none for plain http, which only
    loopback has."""
    return ProxyConfiguration(get_environ_proxies(endpoint_url) if endpoint_url.startswith("https://") else {})


def why_unreachable(endpoint_url: str, timeout_seconds: float) -> str | None:
    """Connect once, and say in a few words why that fails; None where it does not.

    None too where a proxy stands in between (plain http takes none): then only a call can tell.
    """
    target = urlsplit(endpoint_url)
    host = target.hostname or ""
    if target.scheme == "https" and "https" in getproxies() and not proxy_bypass(host):
        return None
    try:
        port = target.port or (443 if target.scheme == "https" else 80)
        socket.create_connection((host, port), timeout_seconds).close()
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def hear_dates(client: Any, hear: Callable[[str], None]) -> None:
    """Tell `hear` the Date of every answer that the client gets from now on, in the service's own words."""

    def heard(response_dict: Any = None, **_: Any) -> None:
        date = response_dict["headers"].get("date") if response_dict else None
        if date:
            hear(date)

    client.meta.events.register("response-received", heard)
