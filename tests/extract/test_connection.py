"""Calls over TLS and through a proxy: whom they trust, and where they go."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.client import parse_headers
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest

from liveness_etl.errors import UsageError
from liveness_etl.extract.account import open_session
from liveness_etl.extract.connection import open_pool
from liveness_etl.extract.rekognition import Fetch, fetch_with, rekognition_client
from liveness_etl.extract.retry import CallFailed
from liveness_etl.local import LocalRekognition
from tests.running import SUCCEEDING, ids
from tests.webhook_receiver import make_certificates

(ONE,) = ids(1)


@contextmanager
def relaying(port: int, context: ssl.SSLContext | None = None, seen: list[bytes] | None = None) -> Iterator[int]:
    """The port of a server that passes bytes on to `port`; with `context` it speaks TLS, and with `seen` it is a proxy
    that is asked to CONNECT first."""

    class Relay(StreamRequestHandler):
        def handle(self) -> None:
            if seen is not None:
                seen.append(self.rfile.readline())
                while self.rfile.readline().strip():
                    pass
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as there:
                back = threading.Thread(target=pass_on, args=[there, self.request], daemon=True)
                back.start()
                pass_on(self.request, there)
                back.join()

        def finish(self) -> None:
            with suppress(OSError):
                super().finish()

    class Server(ThreadingTCPServer):
        daemon_threads = True

        def get_request(self) -> tuple[socket.socket, object]:
            connection, address = super().get_request()
            return (connection if context is None else context.wrap_socket(connection, server_side=True)), address

        def handle_error(self, *_: object) -> None:
            pass  # who does not trust it hangs up

    def pass_on(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(65536):
                target.sendall(content)
            target.shutdown(socket.SHUT_WR)

    with Server(("127.0.0.1", 0), Relay) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02], daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The port of a LocalRekognition that speaks TLS as `localhost`, and the authority that vouches for it."""
    authority, server_file = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_file)
    with (
        LocalRekognition(SUCCEEDING) as rekognition,
        relaying(int(rekognition.endpoint_url.rpartition(":")[2]), context) as port,
    ):
        yield port, authority


@pytest.fixture
def fetching() -> Iterator[Callable[[str], Fetch]]:
    """Gives the call for an address; its client is closed at the end."""
    clients = []

    def fetch(url: str) -> Fetch:
        session = open_session(region="us-east-1", profile=None)
        clients.append(rekognition_client(session, endpoint_url=url, connections=1, timeout_seconds=5))
        return fetch_with(clients[-1])

    yield fetch
    for client in clients:
        client.close()


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_an_authority_of_the_users_own_is_trusted(
    secure: tuple[int, Path], fetching: Callable[[str], Fetch], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """As botocore does it."""
    port, authority = secure
    monkeypatch.setenv(variable, str(authority))
    assert fetching(f"https://localhost:{port}")(ONE).result.session_id == ONE


def test_an_authority_in_the_profile_is_trusted(
    secure: tuple[int, Path], fetching: Callable[[str], Fetch], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`ca_bundle` of AWS's own configuration file."""
    port, authority = secure
    (tmp_path / "config").write_text(f"[default]\nca_bundle = {authority}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert fetching(f"https://localhost:{port}")(ONE).result.session_id == ONE


def test_nobody_else_is_trusted(secure: tuple[int, Path], fetching: Callable[[str], Fetch]) -> None:
    """Not an unknown authority: the call fails before anything is sent."""
    with pytest.raises(CallFailed) as failed:
        fetching(f"https://localhost:{secure[0]}")(ONE)
    assert (failed.value.code, failed.value.message) == ("ConnectionError", "SSLError")


def test_a_certificate_holds_for_its_name_alone(
    tmp_path: Path, fetching: Callable[[str], Fetch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the right authority for another host is refused."""
    authority, server_file = make_certificates(tmp_path, ["elsewhere.example"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_file)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
    with relaying(9, context) as port, pytest.raises(CallFailed, match="SSLError"):
        fetching(f"https://localhost:{port}")(ONE)


@pytest.mark.parametrize("bundle", ["missing.pem", "no.pem"])
def test_an_authority_that_cannot_be_read_is_one_sentence(
    tmp_path: Path, fetching: Callable[[str], Fetch], monkeypatch: pytest.MonkeyPatch, bundle: str
) -> None:
    """Before any call, with the name of the file."""
    (tmp_path / "no.pem").write_text("no certificate")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / bundle))
    with pytest.raises(UsageError, match=rf"cannot read the CA bundle .*{bundle}"):
        fetching("https://localhost:1")


def test_https_goes_through_the_proxy_of_the_environment(
    secure: tuple[int, Path], fetching: Callable[[str], Fetch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees a name and a port, and what it passes on is TLS."""
    port, authority = secure
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
    seen: list[bytes] = []
    with relaying(port, seen=seen) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert fetching(f"https://localhost:{port}")(ONE).result.session_id == ONE
    assert [line.split()[:2] for line in seen] == [[b"CONNECT", f"localhost:{port}".encode()]]


def test_a_host_of_no_proxy_is_asked_directly(
    secure: tuple[int, Path], fetching: Callable[[str], Fetch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_PROXY names what the proxy is not for."""
    port, authority = secure
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "localhost")
    assert fetching(f"https://localhost:{port}")(ONE).result.session_id == ONE


def test_as_many_connections_are_kept_as_are_asked_for() -> None:
    """Fewer, and workers would make one for each call; the pool itself never makes anyone wait."""
    with closing(open_pool("https://localhost:1", ca_bundle=None, connections=7, timeout_seconds=2)) as pool:
        assert pool.pool is not None
        assert (pool.pool.maxsize, pool.block) == (7, False)


def test_a_closed_client_keeps_no_connection() -> None:
    """A sweep that follows manifests makes a client for each source and round."""
    left = threading.Event()

    class Server(StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            asked = parse_headers(self.rfile)
            self.rfile.read(int(asked["content-length"]))
            self.wfile.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}")
            self.rfile.read(1)
            left.set()

    with ThreadingTCPServer(("127.0.0.1", 0), Server) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        session, url = open_session(region="us-east-1", profile=None), f"http://127.0.0.1:{server.server_address[1]}"
        client = rekognition_client(session, endpoint_url=url, connections=1, timeout_seconds=5)
        with pytest.raises(CallFailed):
            fetch_with(client)(ONE)
        kept = not left.wait(0.2)
        client.close()
        gone = left.wait(5)
        server.shutdown()
    assert (kept, gone) == (True, True)
