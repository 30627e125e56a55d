"""Which hosts session ids may go to, and faces come back from: AWS, this machine, and what the user names."""

import ipaddress
import re
from collections.abc import Collection
from typing import Final

# botocore's partitions.json: dnsSuffix and dualStackDnsSuffix of every partition.
AWS_SUFFIXES: Final = (
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "api.amazonwebservices.com.cn",
    "api.amazonwebservices.eu",
    "api.aws",
    "api.aws.hci.ic.gov",
    "api.aws.ic.gov",
    "api.aws.scloud",
    "api.cloud-aws.adc-e.uk",
    "c2s.ic.gov",
    "cloud.adc-e.uk",
    "csp.hci.ic.gov",
    "sc2s.sgov.gov",
)
_ANYBODYS: Final = ".execute-api."  # an API Gateway of whoever made it, under AWS's name

# One strict pattern instead of a URL parser: they disagree on '\', '@' and white space, and so on the host.
_ENDPOINT: Final = re.compile(
    r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*)(?::([0-9]{1,5}))?(?:/[A-Za-z0-9_./~-]*)?"
)


def check_endpoint(url: str, allowed_hosts: Collection[str] = ()) -> None:
    """Never in clear text but on this machine, and to AWS unless told otherwise.

    Raises ValueError with the rest of a sentence about the address ("must be …"); it does not repeat the address.
    """
    parts = _ENDPOINT.fullmatch(url)
    if not parts or int(parts[3] or 0) > 65_535:
        raise ValueError("must look like https://HOST[:PORT], without user, password or query")
    scheme, host = parts[1], parts[2].strip("[]").lower()
    if is_loopback(host):
        return
    if scheme == "http":
        raise ValueError("must be https: plain http is for loopback addresses only")
    if host not in {name.lower() for name in allowed_hosts} and not _is_aws(host):
        raise ValueError(f"must be a host of AWS; if this one is meant, give --allow-endpoint {host}")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself, by its very name: nothing is resolved."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_aws(host: str) -> bool:
    return host.endswith(tuple(f".{suffix}" for suffix in AWS_SUFFIXES)) and _ANYBODYS not in host
