"""One Prefect server for all tests in here, and the flow as a worker would load it."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FLOWS = Path(__file__).parents[2] / "flows"


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty PREFECT_HOME, and no word to the outside. Before Prefect is imported: it reads its environment then."""
    home = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("PREFECT_"):
                patch.delenv(name)
        patch.setenv("PREFECT_HOME", str(home))
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        patch.setenv("DO_NOT_TRACK", "1")
        yield home


@pytest.fixture(scope="session")
def nightly_module(prefect_home: Path) -> Iterator[ModuleType]:
    """flows/nightly.py, loaded by its entrypoint, while a Prefect server with a new database runs."""
    from prefect.testing.utilities import prefect_test_harness
    from prefect.utilities.importtools import load_script_as_module

    with prefect_test_harness(server_startup_timeout=120):
        yield load_script_as_module(str(FLOWS / "nightly.py"))
