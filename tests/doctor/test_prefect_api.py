"""The Prefect API that flows would use: asked over HTTP, its key never shown."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

from liveness_etl.doctor.prefect_api import prefect_finding
from tests.http_services import Service, serving
from tests.processes import free_port

SECRET = "pnu_0123456789abcdef"


@contextmanager
def prefect(told: str | None, key: str | None = None) -> Iterator[str]:
    """As Prefect's server does: /api/health, /api/admin/version (None: as Prefect Cloud, not there), and a key."""

    class Answering(Service):
        def reply(self) -> None:
            answers = {"/api/health": True} | ({} if told is None else {"/api/admin/version": told})
            allowed = key is None or self.headers["Authorization"] == key
            content = json.dumps(answers.get(self.path)).encode() if allowed else b"{}"
            self.answer(401 if not allowed else 200 if self.path in answers else 404, content)

    with serving(Answering) as url:
        yield f"{url}/api"


def found(tmp_path: Path, **environ: str) -> tuple[str, str, str]:
    """Status, what and mend, with an empty PREFECT_HOME."""
    finding = prefect_finding({"PREFECT_HOME": str(tmp_path)} | environ)
    assert SECRET not in finding.what + finding.mend
    assert finding.mend or finding.status == "ok"
    return finding.status, finding.what, finding.mend


def test_no_address_is_no_problem(tmp_path: Path) -> None:
    """A flow then starts a server of its own."""
    assert found(tmp_path)[0] == "ok"


def test_versions_are_compared(tmp_path: Path) -> None:
    """An older server is a warning, another major version a failure; Prefect Cloud does not say."""
    ours = version("prefect")
    for told, status in ((ours, "ok"), ("3.0.0", "warn"), ("4.0.0", "fail"), (None, "ok"), ("many", "ok")):
        with prefect(told) as url:
            assert found(tmp_path, PREFECT_API_URL=url)[0] == status, told


def test_the_key_is_sent_and_not_told(tmp_path: Path) -> None:
    """As Prefect's own client: an auth string before a key, a key before nothing."""
    with prefect("3.9.1", f"Bearer {SECRET}") as url:
        assert found(tmp_path, PREFECT_API_URL=url, PREFECT_API_KEY=SECRET)[0] == "ok"
        status, what, mend = found(tmp_path, PREFECT_API_URL=url, PREFECT_API_KEY=f"wrong-{SECRET}")
    assert (status, "refuses the key (HTTP 401)" in what, "PREFECT_API_KEY" in mend) == ("fail", True, True)
    with prefect("3.9.1", "Basic dXNlcjpwYXNz") as url:
        assert found(tmp_path, PREFECT_API_URL=url, PREFECT_API_AUTH_STRING="user:pass", PREFECT_API_KEY="x")[0] == "ok"
        assert found(tmp_path, PREFECT_API_URL=url.replace("//", "//user:pass@"))[0] == "ok"


def test_a_server_that_is_down(tmp_path: Path) -> None:
    """The address without its password; how to start one."""
    port = free_port()
    status, what, mend = found(tmp_path, PREFECT_API_URL=f"http://me:{SECRET}@127.0.0.1:{port}/api")
    assert (status, what) == ("fail", f"http://127.0.0.1:{port} does not answer (Connection refused)")
    assert "prefect server start" in mend


@pytest.mark.parametrize("url", ["127.0.0.1:4200", "file:///etc/passwd", "http://host:port/api", "http://[1/"])
def test_what_is_no_address(url: str, tmp_path: Path) -> None:
    """Nothing is opened."""
    assert found(tmp_path, PREFECT_API_URL=url)[:2] == ("fail", "PREFECT_API_URL is no address")


def test_an_address_that_lacks_api(tmp_path: Path) -> None:
    """The user interface answers there, and the path is what is wrong."""
    with prefect("3.9.1") as url:
        status, what, mend = found(tmp_path, PREFECT_API_URL=url.removesuffix("/api"))
    assert (status, what.endswith("answers with HTTP 404")) == ("fail", True)
    assert mend == "PREFECT_API_URL should end in /api"


def test_the_active_profile_of_prefect_is_read(tmp_path: Path) -> None:
    """`prefect config set` writes it; the environment wins."""
    with prefect("3.0.0", f"Bearer {SECRET}") as url:
        (tmp_path / "profiles.toml").write_text(
            f'active = "team"\n[profiles.team]\nPREFECT_API_URL = "{url}"\nPREFECT_API_KEY = "{SECRET}"\n'
        )
        assert found(tmp_path)[0] == "warn"
        assert found(tmp_path, PREFECT_PROFILE="other")[0] == "ok"
        assert found(tmp_path, PREFECT_API_URL="nowhere")[0] == "fail"
