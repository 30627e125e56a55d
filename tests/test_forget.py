"""The command `forget`, in processes of its own where something else goes on meanwhile."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from liveness_etl import pipeline, upkeep
from liveness_etl.cli import main
from liveness_etl.local import LocalConfig, LocalRekognition
from liveness_etl.settings import load_settings
from liveness_etl.storage_folder import LocalStore
from tests.load.erasing import holders
from tests.running import asks, ids, make_job, read_rows, wait_until, write_manifest

INLINE = LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 1.0}, count_ids=True, image_mode="inline")
ONE, TWO, THREE = ids(3)


@pytest.fixture
def rekognition() -> Iterator[LocalRekognition]:
    with LocalRekognition(INLINE) as running:
        yield running


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


@pytest.fixture
def landed(rekognition: LocalRekognition, output: Path, tmp_path: Path) -> Path:
    """The manifest of a run with twenty sessions and their images."""
    manifest = write_manifest(tmp_path / "manifest.csv", ids(20))
    pipeline.run(make_job(manifest, output, rekognition.endpoint_url))
    return manifest


def started(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "liveness_etl", *map(str, arguments)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )


def forget(output: Path, *arguments: str | Path, given: str | None = None) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a process."""
    process = started("forget", "--output", output, *arguments)
    out, err = process.communicate(given, timeout=120)
    return process.returncode, out, err


def in_process(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["liveness-etl", "forget", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def sums_hold(row: dict[str, object]) -> bool:
    """The equations of a run's record."""
    count = {name: value for name, value in row.items() if isinstance(value, int)}
    return (
        count["lines"] == count["requested"] + count["duplicates"] + count["rejected"] + count["forgotten"]
        and count["requested"] == count["already_final"] + count["landed"] + count["not_asked"]
    )


def test_forgotten_session_is_nowhere_in_the_output_and_is_not_asked_again(
    landed: Path, rekognition: LocalRekognition, output: Path
) -> None:
    """Every file of the output is searched, names, bytes and values; then the manifest is run again."""
    assert len(holders(LocalStore(output), ONE)) > 5
    code, out, err = forget(output, "--from", "-", given=f"\n  {ONE.upper()}  \r\n\n{ONE}\n")
    assert (code, err) == (0, "")
    assert "landing rows erased                1\n" in out
    assert "backups, replicas" in out
    assert ONE not in out
    assert holders(LocalStore(output), ONE) == []
    assert len(read_rows(output, "sessions")) == 19
    report = pipeline.run(make_job(landed, output, rekognition.endpoint_url))
    assert (report.row["forgotten"], report.row["requested"], report.exit_code) == (1, 19, 0)
    assert sums_hold(dict(report.row))
    assert asks(rekognition)[ONE] == 1
    assert holders(LocalStore(output), ONE) == []


def test_ids_may_be_given_again_and_in_both_ways(landed: Path, output: Path, tmp_path: Path) -> None:
    """What is gone already is counted, and is no error."""
    (tmp_path / "ids.txt").write_text(f"\ufeff{TWO}\n{THREE}\n")
    assert forget(output, ONE, "--from", tmp_path / "ids.txt")[0] == 0
    code, out, _ = forget(output, ONE, TWO)
    assert code == 0
    assert "session ids                        2 (2 of them were erased before)\n" in out
    assert len(read_rows(output, "sessions")) == 17


def test_output_without_anything_is_said_and_keeps_the_ids_out(output: Path) -> None:
    """Perhaps a mistyped address, perhaps a first run that is still to come."""
    code, out, err = forget(output, ONE)
    assert (code, err) == (0, "Nothing has been landed there.\n")
    assert "landing rows erased                0\n" in out


@pytest.mark.parametrize(
    ("arguments", "given", "sentence"),
    [
        ([], None, "no session ids: give them as arguments or with --from FILE (or --expired)"),
        (["--from", "-"], "\n\n", "no session ids: give them as arguments or with --from FILE (or --expired)"),
        ([ONE, "secret"], None, "argument 2 is not a session id (a UUID): nothing was erased"),
        (["--from", "-"], f"{ONE}\n\nsecret\n", "line 3 of standard input is not a session id (a UUID): nothing was"),
        (["--from", "-"], f"{ONE}\n\udcff\n", "line 2 of standard input is not a session id"),
        (["--from", "missing.txt"], None, "missing.txt cannot be read: No such file or directory"),
        (["--expired"], None, "nothing expires: set output.retention_days or images.retention_days"),
        (["--expired", ONE], None, "--expired erases by age: give it alone"),
        (["--expired", "--with-source-images"], None, "--expired erases by age: give it alone"),
    ],
)
def test_wrong_usage_is_exit_code_2_before_anything_is_erased(
    arguments: Sequence[str],
    given: str | None,
    sentence: str,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One sentence, which says where the id stands and not what stands there."""
    stdin = io.TextIOWrapper(io.BytesIO((given or "").encode("utf-8", "surrogateescape")))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert in_process(monkeypatch, "--output", output, *arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {sentence}")
    assert "secret" not in printed.err
    assert not output.exists()


def test_expired_partitions_are_erased_by_the_configured_days(
    landed: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images first, then the rest; a second time there is nothing left to do."""
    config = tmp_path / "config.toml"
    config.write_text("[images]\nretention_days = 1\n")
    assert in_process(monkeypatch, "--expired", "--output", output, "--config", config) == 0
    assert len(read_rows(output, "sessions")) == 20
    assert not list((output / "images").rglob("*.*"))
    config.write_text("[output]\nretention_days = 1\n")
    capsys.readouterr()
    assert in_process(monkeypatch, "--expired", "--output", output, "--config", config) == 0
    assert "partitions erased                    1\n" in capsys.readouterr().out
    assert read_rows(output, "sessions") == []
    assert len(read_rows(output, "runs")) == 1


def test_partition_that_is_young_enough_is_kept(rekognition: LocalRekognition, output: Path, tmp_path: Path) -> None:
    """Days are counted from today, in UTC."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    manifest = write_manifest(tmp_path / "manifest.csv", [ONE], yesterday)
    pipeline.run(make_job(manifest, output, rekognition.endpoint_url))
    expired = upkeep.expire(load_settings(None, {"output.uri": str(output), "output.retention_days": 2}, environ={}))
    assert expired.partitions == ()
    assert len(read_rows(output, "sessions")) == 1


def test_session_forgotten_while_it_is_in_flight_does_not_land(output: Path, tmp_path: Path) -> None:
    """Two processes: a run whose answers take a while, and a forget of ids that it asked for or is about to ask."""
    every = ids(60)
    manifest = write_manifest(tmp_path / "manifest.csv", every)
    slow = LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 1.0}, image_mode="inline", latency_seconds=1.5)
    with LocalRekognition(slow) as rekognition:
        options = ("--endpoint-url", rekognition.endpoint_url, "--region", "us-east-1", "--max-tps", "20")
        run = started("run", manifest, "--output", output, *options, "--quiet")
        wait_until(lambda: rekognition.stats()["requests"] > 30)
        forgotten = [*every[:3], *every[-3:], every[25]]
        code, out, _ = forget(output, *forgotten)
        assert code == 0
        assert "the plans (.tmp/) of 1 runs that may be under way" in out
        _, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    store = LocalStore(output)
    assert [holders(store, one) for one in forgotten] == [[]] * 7
    assert {row["session_id"] for row in read_rows(output, "sessions")} == set(every) - set(forgotten)
    (row,) = read_rows(output, "runs")
    assert row["landed"] == 60
    assert sums_hold(row)


@pytest.mark.slow
def test_forget_publish_and_sweep_at_the_same_time_in_processes(
    landed: Path, rekognition: LocalRekognition, output: Path, tmp_path: Path
) -> None:
    """Each does its work, and in the end the tables hold all but the forgotten ones."""
    more = write_manifest(tmp_path / "more.csv", ids(40))
    options = ("--endpoint-url", rekognition.endpoint_url, "--region", "us-east-1", "--quiet")
    others = [
        started("sweep", more, "--output", output, "--max-tps", "20", *options),
        *(started("publish", "--output", output, "--rebuild", "--quiet") for _ in range(2)),
        *(started("forget", "--output", output, one) for one in ids(4)),
    ]
    for other in others:
        _, err = other.communicate(timeout=120)
        assert other.returncode == 0, err
    pipeline.publish_partition(load_settings(None, {"output.uri": str(output)}, environ={}), read_dt(output))
    assert {row["session_id"] for row in read_rows(output, "sessions")} == set(ids(40)) - set(ids(4))
    assert [holders(LocalStore(output), one) for one in ids(4)] == [[]] * 4


def read_dt(output: Path):  # type: ignore[no-untyped-def]  # a date
    (dt,) = pipeline.landed_partitions(load_settings(None, {"output.uri": str(output)}, environ={}), None, None)
    return dt
