"""A webhook is called over https, at an address that was looked at, and its own address stands in no message."""

import socket
from pathlib import Path
from typing import Any

import pytest

from liveness_etl.alerts import webhook
from liveness_etl.errors import AlertFailed
from tests.webhook_receiver import SECRET, Receiver, receiving


def refused(url: str) -> str:
    """The message of a post that fails, which tells nothing of the address."""
    with pytest.raises(AlertFailed) as raised:
        webhook.post(url, b"{}", timeout_seconds=2)
    message = str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    assert not any(part in message for part in (SECRET, "localhost", "hooks.example", "k3y"))
    return message


def resolve_to(patch: pytest.MonkeyPatch, *addresses: str, port: int = 443) -> list[str]:
    """Every name leads to these addresses; returns the names that were asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    patch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_message_arrives_at_its_path(receiver: Receiver) -> None:
    """Path and query are sent as they stand."""
    webhook.post(receiver.url, b'{"text": "hello"}')
    assert receiver.posts == [(f"/{SECRET}?key=k3y", {"text": "hello"})]


def test_certificate_is_verified(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the authority that signed it, nothing is sent."""
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "certificate" in refused(receiver.url)
    assert not receiver.posts


def test_certificate_of_another_host_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the name in the address that has to stand in it, not the address that the name led to."""
    with receiving(tmp_path, ["somebody.else"]) as receiver:
        monkeypatch.setenv("SSL_CERT_FILE", str(receiver.authority))
        assert "certificate" in refused(receiver.url)
        assert not receiver.posts


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed(receiver: Receiver, status: int) -> None:
    """Not even to the same host."""
    receiver.answers.append((status, {"Location": receiver.url}))
    assert "redirects are not followed" in refused(receiver.url)
    assert len(receiver.posts) == 1


@pytest.mark.parametrize("status", [400, 404, 500])
def test_answer_that_is_no_success_is_an_error(receiver: Receiver, status: int) -> None:
    """Its number is told, not its body."""
    receiver.answers.append((status, {}))
    assert refused(receiver.url).endswith(f"answered {status}")


def test_nobody_there(receiver: Receiver) -> None:
    """What the system said, without the address."""
    assert "cannot be reached (ConnectionRefusedError)" in refused("https://localhost:9/x")
    assert "cannot be reached" in refused("https://" + "a" * 64 + ".hooks.example/")  # no label is so long


def test_plain_http_is_refused() -> None:
    """Here too, whatever the configuration let through."""
    assert "must be https" in refused("http://127.0.0.1:9/")


FORBIDDEN = [
    "169.254.169.254",
    "169.254.0.1",
    "0.0.0.0",
    "100.100.100.200",
    "168.63.129.16",
    "224.0.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "::",
    "::ffff:169.254.169.254",
    "::ffff:a9fe:a9fe",
    "::169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_name_that_leads_to_metadata_or_link_local_is_not_called(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the address is written, and although another one of the name is harmless."""
    resolve_to(monkeypatch, "127.0.0.1", address)
    assert "link-local" in refused("https://hooks.example.com/T0")


@pytest.mark.parametrize("host", ["169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376"])
def test_link_local_address_is_not_called(host: str) -> None:
    """As a number of any base, too, which the system's resolver understands."""
    assert "link-local" in refused(f"https://{host}/latest/meta-data/")


@pytest.mark.parametrize("address", ["10.1.2.3", "192.168.0.4", "127.0.0.1", "::1", "52.1.2.3", "2600:1f18::1"])
def test_ordinary_and_private_addresses_may_be_called(address: str) -> None:
    """A chat server of one's own stands in a private network, a relay on this machine."""
    webhook.check_addresses([address])


def test_name_is_resolved_once_and_that_address_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a name that leads elsewhere the second time leads nowhere else; the next address is tried if one is dead.
    The certificate is the name's."""
    with receiving(tmp_path, ["hooks.example.com"]) as receiver:
        monkeypatch.setenv("SSL_CERT_FILE", str(receiver.authority))
        asked = resolve_to(monkeypatch, "127.0.0.9", "127.0.0.1", port=receiver.port)
        webhook.post(f"https://hooks.example.com:{receiver.port}/x", b"{}")
        assert asked == ["hooks.example.com"]
        assert len(receiver.posts) == 1


def test_address_in_a_certificate_does_not_vouch_for_a_name(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever answers at the name's address needs the name's certificate."""
    resolve_to(monkeypatch, "127.0.0.1", port=receiver.port)
    assert "certificate" in refused(f"https://hooks.example.com:{receiver.port}/{SECRET}")
    assert not receiver.posts
