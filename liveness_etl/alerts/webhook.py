"""One POST to a webhook: over https, to an address that was looked at, and nowhere else.

The address of a webhook is a secret, so it stands in no message: neither its host nor its path.
"""

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from liveness_etl.errors import AlertFailed

TIMEOUT_SECONDS: Final = 5.0

# Where a cloud hands out credentials to whoever asks from inside. Private networks and this machine are no such place:
# a relay or a chat server of one's own is there, and https with a trusted certificate is asked of it too.
_FORBIDDEN: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "169.254.0.0/16",
        "fe80::/10",
        "fd00:ec2::/32",  # AWS's metadata over IPv6
        "100.100.100.200/32",  # Alibaba's
        "168.63.129.16/32",  # Azure's
        "192.0.0.192/32",  # Oracle's
        "::/128",
    )
)


def post(url: str, content: bytes, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
    """Send JSON to a webhook (https; the configuration has checked the form). Redirects are not followed.

    The certificate must be trusted by the system, or by SSL_CERT_FILE. No proxy is used. Raises AlertFailed.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise AlertFailed("alerts.webhook_url must be https")
    connection = _Connection(parts.hostname, parts.port or 443, timeout_seconds)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("POST", target, content, {"Content-Type": "application/json", "User-Agent": "liveness-etl"})
        status = connection.getresponse().status
    except ssl.SSLCertVerificationError:
        raise AlertFailed("the certificate of alerts.webhook_url is not trusted, or is another host's") from None
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise AlertFailed(f"alerts.webhook_url cannot be reached ({type(error).__name__})") from None
    finally:
        connection.close()
    if 300 <= status < 400:
        raise AlertFailed(f"alerts.webhook_url answered {status}: redirects are not followed")
    if not 200 <= status < 300:
        raise AlertFailed(f"alerts.webhook_url answered {status}")


class _Connection(http.client.HTTPSConnection):
    """Resolves the name once, refuses it for any address that no webhook has, and connects to what it has seen.

    A name that answers differently the next time (DNS rebinding) gains nothing by it.
    """

    def __init__(self, host: str, port: int, timeout_seconds: float) -> None:
        super().__init__(host, port, timeout=timeout_seconds, context=ssl.create_default_context())
        self._seconds = timeout_seconds

    def connect(self) -> None:
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        check_addresses([str(address[4][0]) for address in found])
        self.sock = self._context.wrap_socket(self._first_open(found), server_hostname=self.host)  # type: ignore[attr-defined]

    def _first_open(self, found: Sequence[tuple[int, int, int, str, tuple[object, ...]]]) -> socket.socket:
        failure: OSError = ConnectionError()
        for family, kind, protocol, _, address in found:
            plain = socket.socket(family, kind, protocol)
            plain.settimeout(self._seconds)
            try:
                plain.connect(address)
            except OSError as error:
                plain.close()
                failure = error
            else:
                return plain
        raise failure


def check_addresses(addresses: Sequence[str]) -> None:
    """Refuse a host with an address that is link-local or a cloud's metadata, however it is written.

    Raises AlertFailed.
    """
    for text in addresses:
        for address in _meanings(text.partition("%")[0]):
            if address.is_multicast or any(
                address in network for network in _FORBIDDEN if network.version == address.version
            ):
                raise AlertFailed(
                    "alerts.webhook_url leads to a link-local address or to a cloud's metadata: it is not called"
                )


def _meanings(text: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """An address, and those that it leads to: mapped, compatible, 6to4, Teredo and NAT64 ones hold an IPv4 address."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    low = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    held = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in ipaddress.ip_network("::/96") or address in ipaddress.ip_network("64:ff9b::/96"):
        held.append(low)
    return [address, *(one for one in held if one is not None and str(address) != "::1")]
