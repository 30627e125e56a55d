"""Two weeks of demo data, made once, as a user makes them."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "config" / "examples"


@pytest.fixture(scope="package")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `demo_history.py` fills: an output, its manifest and its configuration."""
    folder = tmp_path_factory.mktemp("examples") / "history"
    subprocess.run([sys.executable, str(EXAMPLES / "demo_history.py"), str(folder)], check=True, timeout=120)
    return folder
