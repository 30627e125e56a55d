"""An https server on loopback that keeps what is posted to it, and the certificate authority that vouches for it."""

import datetime
import ipaddress
import json
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.http_services import Service, serving

SECRET = "T0SECRET/hook-b4"


@dataclass
class Receiver:
    """Where it listens, what it trusts, and what came. `answers` are given once each, before 200."""

    port: int
    authority: Path
    posts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The webhook's address, with a secret in it."""
        return f"https://localhost:{self.port}/{SECRET}?key=k3y"

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What was posted."""
        return [content for _, content in self.posts]


def make_certificates(folder: Path, names: Sequence[str] = ("localhost",)) -> tuple[Path, Path]:
    """A new authority's certificate, and a file with a key and a certificate of these names that it signed."""
    now = datetime.datetime.now(datetime.UTC)

    def certificate(subject: str, key: Any, issuer: str, signed_with: Any, is_authority: bool) -> x509.Certificate:
        named = [x509.NameAttribute(NameOID.COMMON_NAME, subject)]
        alternatives = [x509.DNSName(name) for name in names] + [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        usage = {
            "content_commitment": False,
            "key_encipherment": False,
            "data_encipherment": False,
            "key_agreement": False,
            "encipher_only": False,
            "decipher_only": False,
        }
        built = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(named))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=True, key_cert_sign=is_authority, crl_sign=is_authority, **usage), True
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_with.public_key()), critical=False)
        )
        if not is_authority:
            built = built.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return built.sign(signed_with, hashes.SHA256())

    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = certificate("tests' authority", authority_key, "tests' authority", authority_key, True)
    leaf = certificate(names[0], key, "tests' authority", authority_key, False)
    pem = serialization.Encoding.PEM
    (folder / "authority.pem").write_bytes(authority.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(private + leaf.public_bytes(pem))
    return folder / "authority.pem", folder / "server.pem"


@contextmanager
def receiving(folder: Path, names: Sequence[str] = ("localhost",)) -> Iterator[Receiver]:
    """The server, with a certificate of these names. `folder` takes the authority's."""
    authority, server_file = make_certificates(folder, names)

    class Receiving(Service):
        def reply(self) -> None:
            receiver.posts.append((self.path, json.loads(self.content)))
            status, headers = receiver.answers.pop(0) if receiver.answers else (200, {})
            self.answer(status, headers=headers)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_file)
    with serving(Receiving, context) as url:
        receiver = Receiver(int(url.rpartition(":")[2]), authority)
        yield receiver
