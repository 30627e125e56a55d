"""The connections to one endpoint: urllib3's pool alone, since botocore's layer around it costs a tenth of a call."""

import socket
import ssl
from pathlib import Path
from typing import Any, Final

import urllib3

from liveness_etl.aws import ca_bundle_or_default, proxies_for
from liveness_etl.errors import UsageError

_OPTIONS: Final = [
    *urllib3.connection.HTTPConnection.default_socket_options,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
]


def open_pool(
    endpoint_url: str, *, ca_bundle: str | None, connections: int, timeout_seconds: float
) -> urllib3.HTTPConnectionPool:
    """A pool that keeps as many connections, over the proxy that the environment names for https, if any.

    `ca_bundle` is what AWS_CA_BUNDLE or the AWS profile names (see `aws.ca_bundle_or_default`). Raises UsageError.
    """
    options: dict[str, Any] = {
        "maxsize": connections,
        "timeout": urllib3.Timeout(connect=timeout_seconds, read=timeout_seconds),
        "socket_options": _OPTIONS,
    }
    manager = urllib3.PoolManager(**options)
    if endpoint_url.startswith("https://"):
        options["ssl_context"] = _trusting(ca_bundle_or_default(ca_bundle))
        manager = urllib3.PoolManager(**options)
        proxies = proxies_for(endpoint_url)
        if proxy_url := proxies.proxy_url_for(endpoint_url):
            manager = urllib3.ProxyManager(proxy_url, proxy_headers=proxies.proxy_headers_for(proxy_url), **options)
    return manager.connection_from_url(endpoint_url)


def _trusting(ca_bundle: str) -> ssl.SSLContext:
    """TLS as Python has it by default (1.2 or newer, names checked), trusting this file or folder alone."""
    try:
        if Path(ca_bundle).is_dir():
            return ssl.create_default_context(capath=ca_bundle)
        return ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:  # ssl.SSLError is one, too
        raise UsageError(
            f"cannot read the CA bundle {ca_bundle} ({error.strerror or error}): see AWS_CA_BUNDLE"
        ) from None
