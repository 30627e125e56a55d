"""Files that are small and expand without end: refused in seconds, in little memory, before any call."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from liveness_etl.engine import open_engine
from liveness_etl.errors import ManifestError
from liveness_etl.extract import plan
from liveness_etl.extract.ceiling import Ceiling
from liveness_etl.extract.manifest import IDS
from tests.running import ids

MEBIBYTE = 1024 * 1024
_MEASURED = """
import atexit, re, sys
from pathlib import Path
from liveness_etl.cli import main
atexit.register(lambda: print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]))
main()
"""


def run(manifest: Path, tmp_path: Path) -> tuple[int, str, int]:
    """Exit code, standard error and peak memory in MiB of `liveness-etl run`."""
    command = ["run", manifest, "--output", tmp_path / "output", "--date", "2026-03-01", "--region", "us-east-1"]
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *map(str, command), "--endpoint-url", "http://127.0.0.1:9"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"LIVENESS_ETL__MANIFEST__MAX_BYTES": str(1024 * MEBIBYTE)},
    )
    return done.returncode, done.stderr, int(done.stdout.split()[-1]) // 1024


def zeros_in_frames(path: Path) -> None:
    """10 GiB of zeros as 160 frames of zstd: 320 kB."""
    frame = zstandard.ZstdCompressor().compress(bytes(64 * MEBIBYTE))
    path.with_suffix(".csv.zst").write_bytes(frame * 160)


def zeros_in_one_line(path: Path) -> None:
    """A line of 1.2 GiB in one frame."""
    with path.with_suffix(".jsonl.zst").open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as writer:
        for _ in range(20):
            writer.write(bytes(64 * MEBIBYTE))


def repeated_value(path: Path) -> None:
    """A value of a mebibyte, 200,000 times by way of a dictionary: one kilobyte that stands for 195 GiB."""
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 200_000, pa.int32()), pa.array(["x" * MEBIBYTE]))
    pq.write_table(pa.table({"session_id": values}), path.with_suffix(".parquet"), compression="zstd")


def pages_of_zeros(path: Path) -> None:
    """1.2 GiB in plain pages, which the footer admits."""
    rows = pa.table({"session_id": pa.array(["x" * MEBIBYTE] * 64)})
    with pq.ParquetWriter(
        path.with_suffix(".parquet"), rows.schema, compression="zstd", use_dictionary=False, data_page_size=MEBIBYTE
    ) as writer:
        for _ in range(17):
            writer.write_table(rows)


@pytest.mark.slow
@pytest.mark.parametrize("bomb", [zeros_in_frames, zeros_in_one_line, repeated_value, pages_of_zeros])
def test_bomb_is_refused_in_little_memory(bomb: Callable[[Path], None], tmp_path: Path) -> None:
    """Exit code 2 with the one sentence, and nothing is written."""
    bomb(tmp_path / "bomb")
    (manifest,) = tmp_path.iterdir()
    code, err, peak = run(manifest, tmp_path)
    assert (code, err.count("\n")) == (2, 1)
    assert "more than 1,073,741,824 bytes after decompression" in err
    assert not (tmp_path / "output").exists()
    assert peak < 600


@pytest.mark.slow
def test_long_values_of_a_dictionary_are_rejects(tmp_path: Path) -> None:
    """Within the limit of bytes they are lines that are too long, and need no memory either."""
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 500, pa.int32()), pa.array(["x" * MEBIBYTE]))
    pq.write_table(pa.table({"session_id": values}), tmp_path / "long.parquet")
    code, err, peak = run(tmp_path / "long.parquet", tmp_path)
    assert code == 0, err
    assert "500 malformed lines" in err
    assert peak < 600


def partitions(count: int) -> pa.RecordBatch:
    """Ids of as many days."""
    days = [date(2000, 1, 1) + timedelta(days=day) for day in range(count)]
    columns = {
        "session_id": ids(count),
        "created_at": [datetime(day.year, day.month, day.day, tzinfo=UTC) for day in days],
        "source": ["default"] * count,
        "dt": days,
        "line_number": range(count),
        "attributes": [None] * count,
    }
    return pa.RecordBatch.from_pydict({name: list(values) for name, values in columns.items()}, schema=IDS)


def test_manifest_that_touches_too_many_days_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before landing is looked at for any of them: each would cost a folder in every table."""
    monkeypatch.setattr(plan, "MOST_PARTITIONS", 300)
    looked_at: list[date] = []
    options = plan.PlanOptions(
        regions={"default": "us-east-1"},
        ceiling_of=lambda _: Ceiling(25.0, "given"),
        now=datetime(2026, 3, 1, tzinfo=UTC),
        ttl_seconds=180,
    )

    def plan_for(count: int) -> plan.Plan:
        with open_engine(tmp_path, "256MB") as engine:
            chunks = [(partitions(count), count, 0)]
            return plan.plan_manifest(engine, chunks, lambda dt, _: looked_at.append(dt) or [], tmp_path, options)

    assert len(plan_for(300).partitions) == 300
    looked_at.clear()
    with pytest.raises(ManifestError, match=re.escape("touches 301 days, and a run takes 300")):
        plan_for(301)
    assert not looked_at
