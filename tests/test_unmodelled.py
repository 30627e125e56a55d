"""Members that the installed botocore drops: counted in the run's record, named once, never kept."""

import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from botocore import __version__ as botocore_version

from liveness_etl import pipeline, run_plan, run_report, run_sweep
from liveness_etl.analysis.query import fetch
from liveness_etl.cli import main
from liveness_etl.local import LocalConfig, LocalRekognition
from tests.running import ids, make_job, read_rows, write_manifest

NEWER = LocalConfig(
    answer_any=True,
    outcome_shares={"SUCCEEDED": 1.0},
    extra_members={"Score": "SECRET", "ReferenceImage": {"Blur": "SECRET"}, "AuditImages": {"Blur": "SECRET"}},
)
COUNTED = "SELECT unmodelled_members FROM runs ORDER BY run_id"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_manifest(tmp_path / "manifest.csv", ids(30))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


def test_run_against_a_newer_service_names_what_it_could_not_keep(
    manifest: Path, output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One warning, with what to do; the record counts the answers; no value is anywhere; a rerun asks nothing."""
    with LocalRekognition(NEWER) as rekognition:
        options = ["--output", str(output), "--endpoint-url", rekognition.endpoint_url, "--region", "us-east-1"]
        monkeypatch.setattr(sys, "argv", ["liveness-etl", "run", str(manifest), *options, "--max-tps", "500"])
        for warnings in (1, 0):
            with pytest.raises(SystemExit) as ended:
                main()
            assert ended.value.code == 0
            printed = capsys.readouterr().err
            assert printed.count("Score") == printed.count("upgrade boto3") == warnings
            assert (f"botocore {botocore_version} does not know" in printed) == bool(warnings)
    (first,), (second,) = fetch(str(output), COUNTED)[1]
    boxes = [(row["session_id"], row["image_type"]) for row in read_rows(output, "bounding_boxes")]
    audited = {session_id for session_id, kind in boxes if kind == "audit"}
    referenced = {session_id for session_id, kind in boxes if kind == "reference"}
    assert first == {"Score": 30, "ReferenceImage.Blur": len(referenced), "AuditImages.Blur": len(audited)}
    assert second == {}
    assert {row["status"] for row in read_rows(output, "sessions")} == {"SUCCEEDED"}
    assert not [path for path in output.rglob("*") if path.is_file() and b"SECRET" in path.read_bytes()]


def test_slices_of_a_run_are_counted_together(manifest: Path, output: Path) -> None:
    """Whoever asked for an answer; the record of a killed run has none yet."""
    with LocalRekognition(NEWER) as rekognition:
        job = make_job(manifest, output, rekognition.endpoint_url)
        plan, row = run_plan.plan_run(job)
        assert read_rows(output, "runs")[0]["unmodelled_members"] == {}
        sweeps = tuple(run_sweep.sweep_source(job, plan, "default", part=part, parts=2) for part in range(2))
        assert [sweep.counts.unmodelled_members["Score"] for sweep in sweeps] == [15, 15]
        run_report.finish_run(job, plan, row, sweeps, (), completed=True)
    (record,) = read_rows(output, "runs")
    assert record["unmodelled_members"]["Score"] == 30


def test_records_without_the_column_are_read_beside_ones_with_it(manifest: Path, output: Path) -> None:
    """Older files stay as they are."""
    with LocalRekognition(NEWER) as rekognition:
        pipeline.run(make_job(manifest, output, rekognition.endpoint_url))
    (record,) = output.glob("runs/*/*.parquet")
    older = record.parents[1] / "dt=2026-01-01" / "20260101T000000000000Z-00000000.parquet"
    older.parent.mkdir()
    table = pq.read_table(record, partitioning=None)
    old = table.drop_columns(["unmodelled_members", "run_id"]).add_column(0, "run_id", [[older.stem]])
    pq.write_table(old, older)
    _, rows = fetch(str(output), COUNTED)
    assert rows[0] == (None,)
    assert rows[1][0]["Score"] == 30
    assert fetch(str(output), "SELECT count(*) FROM runs WHERE completed")[1] == [(2,)]
