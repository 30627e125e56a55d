"""The merge engine: what it can neither hold nor spill is said in a sentence."""

from pathlib import Path

import pytest

from liveness_etl.engine import open_engine
from liveness_etl.errors import StoreError


def test_rows_that_can_be_neither_held_nor_spilled_are_an_error_for_the_user(tmp_path: Path) -> None:
    """As where the disk is full; here a file stands in the place of the folder to spill into."""
    (tmp_path / "spill").write_text("")
    with (
        pytest.raises(StoreError, match="out of memory or of disk"),
        open_engine(tmp_path, "20MB") as engine,
    ):
        engine.execute("CREATE TABLE numbers AS SELECT hash(range) AS number FROM range(10_000_000) ORDER BY number")
