"""Nothing of this machine's own AWS set-up is read, and there are two S3 to write to, over HTTP: moto and Ceph."""

import contextlib
import logging
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from liveness_etl.storage import Store
from liveness_etl.storage_folder import LocalStore
from liveness_etl.storage_s3 import S3Store
from liveness_etl.storage_s3_client import s3_client
from tests import ceph, turns
from tests.faulty_proxy import FaultyProxy
from tests.processes import need_programs

settings.register_profile("suite", deadline=None)  # a busy machine is no failure
settings.load_profile("suite")


@pytest.hookimpl(wrapper=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    items[:] = turns.arrange(items)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    with turns.turn(turns.is_alone(item)):
        return (yield)


S3_KINDS = ("moto", pytest.param("ceph", marks=pytest.mark.slow))


@pytest.fixture(scope="session", autouse=True)
def isolated_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Dummy credentials, no configuration files, and a state folder of this test run's own."""
    folder = tmp_path_factory.mktemp("environment")
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("AWS_", "LIVENESS_ETL_")):
                patch.delenv(name)
        # Tests start hundreds of processes, none of which need compile the package again.
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_CONFIG_FILE", str(folder / "no-config"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "no-credentials"))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        yield


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """The address of an S3 (and Glue, KMS, STS) that lives as long as the tests, and checks little."""
    from moto.server import ThreadedMotoServer  # takes a second to import, and most tests need no S3

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def ceph_endpoint(isolated_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an S3 that checks signatures, checksums and conditions as AWS does."""
    need_programs(*ceph.PROGRAMS)
    access_key, secret_key = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    with ceph.ceph_gateway(tmp_path_factory.mktemp("ceph"), access_key=access_key, secret_key=secret_key) as url:
        yield url


@pytest.fixture
def proxy_of(tmp_path: Path) -> Iterator[Callable[[str], FaultyProxy]]:
    """Puts a proxy with faults to order in front of an address."""
    need_programs("haproxy", "setpriv")
    with contextlib.ExitStack() as stack:
        yield lambda endpoint_url: stack.enter_context(FaultyProxy(tmp_path, endpoint_url))


@pytest.fixture(params=S3_KINDS)
def s3_endpoint(request: pytest.FixtureRequest) -> str:
    """The address of each kind of S3, one after the other."""
    found: str = request.getfixturevalue(f"{request.param}_endpoint")
    return found


@pytest.fixture(scope="session")
def client_of(isolated_environment: None) -> Iterator[Callable[[str], Any]]:
    """The program's own S3 client for an address."""
    clients: dict[str, Any] = {}

    def client(endpoint_url: str) -> Any:
        if endpoint_url not in clients:
            clients[endpoint_url] = s3_client(endpoint_url, "us-east-1")
        return clients[endpoint_url]

    yield client
    for made in clients.values():
        made.close()


@pytest.fixture
def s3(s3_endpoint: str, client_of: Callable[[str], Any]) -> Any:
    """The program's own S3 client on each kind of S3."""
    return client_of(s3_endpoint)


def new_bucket(client: Any) -> str:
    """A new bucket's name."""
    name = f"lake-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def bucket(s3: Any) -> str:
    """A new bucket's name."""
    return new_bucket(s3)


@pytest.fixture
def s3_store(s3: Any, bucket: str) -> S3Store:
    """A prefix in a new bucket."""
    return S3Store(f"s3://{bucket}/output", s3)


@pytest.fixture
def folder_store(tmp_path: Path) -> LocalStore:
    """A folder that does not exist yet, with a blank and an umlaut in its name."""
    return LocalStore(tmp_path / "out püt")


@pytest.fixture(params=["folder", *S3_KINDS])
def store(request: pytest.FixtureRequest, client_of: Callable[[str], Any]) -> Store:
    """Every kind of store, one after the other."""
    if request.param == "folder":
        folder: Store = request.getfixturevalue("folder_store")
        return folder
    client = client_of(request.getfixturevalue(f"{request.param}_endpoint"))
    return S3Store(f"s3://{new_bucket(client)}/output", client)


@pytest.fixture
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state folder for one test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def pytest_unconfigure(config: pytest.Config) -> None:
    """End with the tests' own exit status. A whole run loads a dozen native libraries with threads of their own, and
    the interpreter was seen to die of SIGSEGV while it took them down, when all results had been told."""
    session = config.pluginmanager.get_plugin("session")
    if session is not None and not hasattr(config, "workerinput"):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(session.exitstatus))
