"""What a deployment's parameters may mean: a configuration by its name alone, a manifest beside the configured one."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from liveness_etl.errors import LeaseHeld, UsageError
from liveness_etl.load.lease import held_leases
from liveness_etl.settings import Settings, load_settings
from liveness_etl.storage_folder import LocalStore
from tests.flows.conftest import FLOWS
from tests.running import DT


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """flows/deployed_job.py, with configurations in a folder of the test's own."""
    monkeypatch.syspath_prepend(str(FLOWS))
    monkeypatch.setenv("LIVENESS_ETL_CONFIG_FOLDER", str(tmp_path / "config"))
    (tmp_path / "config").mkdir()
    import deployed_job

    found: ModuleType = deployed_job
    return found


def configured(manifest: str) -> Settings:
    """A configuration with this manifest.uri."""
    return load_settings(None, {"manifest.uri": manifest}, environ={})


def test_configuration_is_found_by_its_name(module: ModuleType, tmp_path: Path) -> None:
    """NAME.toml in the folder; of another name the message says what there is."""
    (tmp_path / "config" / "eu.toml").write_text('[output]\nuri = "somewhere"\n')
    assert module.named_settings("eu").output.uri == "somewhere"
    with pytest.raises(UsageError, match=r"no such configuration in .*config \(there: eu\)"):
        module.named_settings("us")


@pytest.mark.parametrize("name", ["../eu", "config/eu", "/etc/eu", "eu.toml", "", "eu\n", ".", "..", "a" * 65])
def test_configurations_name_is_no_path(module: ModuleType, tmp_path: Path, name: str) -> None:
    """Whatever stands there."""
    (tmp_path / "eu.toml").write_text("")
    (tmp_path / "config" / "eu.toml").write_text("")
    with pytest.raises(UsageError, match="no such configuration"):
        module.named_settings(name)


@pytest.mark.parametrize(
    ("configured_uri", "manifest"),
    [
        ("s3://backend/sessions/{date}.csv", None),
        ("s3://backend/sessions/{date}.csv", "s3://backend/sessions/extra.csv"),
        ("s3://backend/sessions/{date}/ids.csv", "s3://backend/sessions/late/2026-03-01.jsonl.gz"),
        ("s3://backend/sessions/", "s3://backend/sessions/2026/"),
        ("s3://backend-{date}/ids.csv", "s3://backend-{date}/ids.csv"),
        ("/data/manifests/*.csv", "/data/manifests/b.csv"),
        ("/data/manifests/{date}.csv", "/data/manifests/{date}-late.csv"),
        ("manifests/ids.csv", "manifests/2026/*.csv"),
    ],
)
def test_manifest_beside_the_configured_one_is_allowed(
    module: ModuleType, configured_uri: str, manifest: str | None
) -> None:
    """In the same folder, or below the same prefix."""
    assert module.allowed_manifest(manifest, configured(configured_uri)) == (manifest or configured_uri)


@pytest.mark.parametrize(
    ("configured_uri", "manifest"),
    [
        ("s3://backend/sessions/{date}.csv", "s3://backend/secrets.csv"),
        ("s3://backend/sessions/{date}.csv", "s3://backend-of-others/sessions/a.csv"),
        ("s3://backend/sessions/{date}.csv", "s3://backend/sessions/../secrets.csv"),
        ("s3://backend/sessions/{date}.csv", "/etc/passwd"),
        ("s3://backend-{date}/ids.csv", "s3://backend-of-others/ids.csv"),
        ("s3://backend/sessions/{date}.csv", "https://example.com/ids.csv"),
        ("/data/manifests/*.csv", "/data/other/b.csv"),
        ("/data/manifests/*.csv", "/data/manifests/../other/b.csv"),
        ("/data/manifests/*.csv", "/data/manifests-of-others/b.csv"),
        ("/data/manifests/*.csv", "s3://backend/data/manifests/b.csv"),
        ("/data/manifests/*.csv", "/data/manifests/b.csv\n"),
        ("manifests/ids.csv", "/etc/passwd"),
        ("manifests/ids.csv", ""),
    ],
)
def test_manifest_elsewhere_is_refused(module: ModuleType, configured_uri: str, manifest: str) -> None:
    """And the message says where it may be."""
    with pytest.raises(UsageError, match="may only be below"):
        module.allowed_manifest(manifest, configured(configured_uri))


def test_link_out_of_the_manifests_folder_is_refused(module: ModuleType, tmp_path: Path) -> None:
    """What is named is followed to where it really is."""
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "elsewhere").symlink_to(tmp_path)
    (tmp_path / "secret.csv").write_text("session_id\n")
    with pytest.raises(UsageError):
        module.allowed_manifest(
            str(tmp_path / "manifests/elsewhere/secret.csv"), configured(f"{tmp_path}/manifests/*.csv")
        )


def test_run_waits_until_its_sources_are_free(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says whom it waits for, tries again as soon as that has ended, and ends as it would have."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    (tmp_path / "config" / "eu.toml").write_text(
        f'[manifest]\nuri = "m/*.csv"\n[output]\nuri = "{tmp_path / "output"}"\n'
    )
    job = module.configured_job("run", "eu", None, DT, None)
    others = held_leases(LocalStore(tmp_path / "output"), ["default"], "the-other-run", 1.0, lambda: None)
    others.__enter__()
    said: list[str] = []

    def run(job: object, stop: threading.Event) -> str:
        if len(said) < 1:
            raise LeaseHeld("source default is being swept by run the-other-run")
        return "done"

    def say(line: str) -> None:
        said.append(line)
        threading.Timer(0.1, lambda: others.__exit__(None, None, None)).start()

    assert module.run_when_free(run, job, threading.Event(), say) == "done"
    assert said == ["source default is being swept by run the-other-run; this run waits for it"]


def test_run_that_waits_ends_when_it_is_stopped(module: ModuleType, tmp_path: Path) -> None:
    """With the sentence that names the holder."""
    (tmp_path / "config" / "eu.toml").write_text(
        f'[manifest]\nuri = "m/*.csv"\n[output]\nuri = "{tmp_path / "output"}"\n'
    )
    job = module.configured_job("run", "eu", None, DT, None)
    stop = threading.Event()
    stop.set()

    def run(job: object, stop: threading.Event) -> Callable[[], None]:
        raise LeaseHeld("held")

    with (
        held_leases(LocalStore(tmp_path / "output"), ["default"], "the-other-run", 1.0, lambda: None),
        pytest.raises(LeaseHeld, match="held"),
    ):
        module.run_when_free(run, job, stop, lambda line: None)
