"""What a user gets: sdist and wheel, built and installed into empty environments, far from this checkout."""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
THIS_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHER_VERSIONS = [version for version in ("3.11", "3.12", "3.13") if version != THIS_VERSION]


def clean_environment() -> dict[str, str]:
    """Nothing that leads back to this checkout or to its environment."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def call(folder: Path, *command: str | Path, code: int = 0) -> str:
    """Run a command in a folder; what it printed on standard output."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code in (0, 3) else done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist of the checkout, and a wheel made of that sdist alone."""
    source, target = tmp_path_factory.mktemp("source") / "checkout", tmp_path_factory.mktemp("dist")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*_cache", ".venv", ".git", "build", "dist")
    shutil.copytree(ROOT, source, ignore=ignored)
    call(target, sys.executable, "-m", "build", "--outdir", target, source)
    return target


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """The wheel."""
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def sdist(built: Path) -> Path:
    """The sdist."""
    (found,) = built.glob("*.tar.gz")
    return found


def python_of(version: str) -> Path | None:
    """A Python of this version that works, from PATH or from pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    for found in (shutil.which(f"python{version}"), *pyenv.glob(f"versions/{version}.*/bin/python")):
        if found is not None:  # a shim of pyenv's is there, and says that there is none
            said = subprocess.run(
                [found, "-c", "import ensurepip, sys; print(*sys.version_info[:2], sep='.')"],
                capture_output=True,
                text=True,
                check=False,
                env=clean_environment(),
            )
            if said.stdout.strip() == version:
                return Path(found)
    return None


@pytest.fixture(scope="module")
def environments(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel, without any extra, in an empty environment of each Python; the environments' folders of programs.

    Made at the same time, since pip keeps one core busy for a minute; and not compiled, which takes a third of that.
    """
    pythons = {THIS_VERSION: Path(sys.executable)}
    pythons |= {version: python for version in OTHER_VERSIONS if (python := python_of(version)) is not None}
    folder = tmp_path_factory.mktemp("environments")

    def make(version: str) -> Path:
        call(folder, pythons[version], "-m", "venv", folder / version)
        programs = folder / version / "bin"
        call(folder, programs / "python", "-m", "pip", "install", "--quiet", "--no-compile", wheel)
        return programs

    with ThreadPoolExecutor() as pool:
        return dict(zip(pythons, pool.map(make, pythons), strict=True))


@pytest.fixture
def installed(environments: dict[str, Path]) -> Path:
    """That of the Python which runs the tests."""
    return environments[THIS_VERSION]


@pytest.fixture
def stand_in(installed: Path, tmp_path: Path) -> Iterator[str]:
    """The address of `liveness-etl local-rekognition`, as it was installed."""
    process = subprocess.Popen(
        [installed / "liveness-etl", "local-rekognition", "--port", "0"],
        cwd=tmp_path,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.communicate()


def test_sdist_holds_package_flows_and_configuration_and_nothing_else(sdist: Path) -> None:
    """No tests (they need a checkout), nothing compiled, and hidden only what the build goes by."""
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert {name.partition("/")[0] for name in names} - {""} == {
        ".gitignore",
        "PKG-INFO",
        "README.md",
        "config",
        "flows",
        "liveness_etl",
        "pyproject.toml",
    }
    assert {"flows/nightly.py", "config/default.toml", "config/iam/run.json"} <= set(names)
    assert not [name for name in names if re.search(r"/\.|\.pyc$|__pycache__", name)]


def test_wheel_holds_the_package_alone(wheel: Path) -> None:
    """The report's page and the mark of types are files that a build may forget; the core is small by declaration."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        told = email.message_from_bytes(archive.read(metadata))
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"liveness_etl"}
    pages = {f"liveness_etl/analysis/page.{kind}" for kind in ("html", "css", "js")}
    assert pages | {"liveness_etl/py.typed"} <= set(names)
    core = [need for need in told.get_all("Requires-Dist", []) if "extra ==" not in need]
    assert not [need for need in core if need.startswith(("pandas", "distributed", "vl-convert", "pytest"))]
    assert {"all", "dask", "notebook", "pandas", "report", "s3-query"} <= set(told.get_all("Provides-Extra", []))


def test_commands_work_in_an_empty_environment(installed: Path, stand_in: str, tmp_path: Path) -> None:
    """From the first command of README to `doctor`, and what an extra is needed for says so."""
    program, python = installed / "liveness-etl", installed / "python"
    assert call(tmp_path, program, "--help").endswith(
        call(tmp_path, python, "-m", "liveness_etl", "--help").removeprefix("Usage: python -m liveness_etl")
    )
    call(tmp_path, python, "-m", "pip", "check")
    call(tmp_path, program, "demo", "--sessions", "50")
    output = ("--output", "liveness-demo")
    rows = call(tmp_path, program, "query", *output, "--format", "csv", "SELECT count(*) AS sessions FROM sessions")
    assert rows.split() == ["sessions", "50"]
    call(tmp_path, program, "verify", *output)
    call(tmp_path, program, "report", *output, "--json", "report.json")
    assert "liveness-etl[report]" in call(tmp_path, program, "report", *output, "--html", "report.html", code=2)
    pandas = "import liveness_etl; liveness_etl.read_results('liveness-demo')"
    said = subprocess.run([python, "-c", pandas], cwd=tmp_path, env=clean_environment(), capture_output=True, text=True)
    assert "pip install 'liveness-etl[pandas]'" in said.stderr
    findings = call(tmp_path, program, "doctor", *output, "--endpoint-url", stand_in, "--region", "us-east-1")
    assert "fail" not in findings
    call(tmp_path, program, "doctor", *output, "--endpoint-url", "http://127.0.0.1:9", "--region", "us-east-1", code=3)


def test_sdist_can_be_installed(installed: Path, sdist: Path, tmp_path: Path) -> None:
    """In the place of the wheel."""
    pip = (installed / "python", "-m", "pip")
    call(tmp_path, *pip, "uninstall", "--quiet", "--yes", "liveness-etl")
    call(tmp_path, *pip, "install", "--quiet", "--no-deps", sdist)
    assert "doctor" in call(tmp_path, installed / "liveness-etl", "--help")


@pytest.mark.parametrize("version", OTHER_VERSIONS)
def test_demo_runs_on_every_python_that_this_machine_has(
    version: str, environments: dict[str, Path], tmp_path: Path
) -> None:
    """In an empty environment of its own."""
    if version not in environments:
        pytest.skip(f"there is no Python {version} here")
    program = environments[version] / "liveness-etl"
    assert "Pass rate by challenge type" in call(tmp_path, program, "demo", "--sessions", "50")
