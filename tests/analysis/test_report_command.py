"""The command `report` as a user calls it."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.analysis.made_tables import session, write_tables


def call(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `liveness-etl report` in a process of its own."""

    command = [sys.executable, "-m", "liveness_etl", "report", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | (env or {}))


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of 100 sessions."""
    folder = tmp_path_factory.mktemp("output")
    write_tables(folder, [session(number, confidence=number) for number in range(100)])
    return folder


def test_page_and_data_are_written_and_summed_up(output: Path, tmp_path: Path) -> None:
    """Both files hold the same report; the summary is on standard output."""
    html, data = tmp_path / "r.html", tmp_path / "r.json"
    done = call("--output", output, "--html", html, "--json", data)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2026-03-10: all 100 requested have a final answer." in done.stdout
    assert "At the threshold 80, 20.0% of the requested sessions pass." in done.stdout
    report = json.loads(data.read_text())
    assert report["first"] == report["last"] == "2026-03-10"
    assert report["headline"]["sentence"] in html.read_text()


def test_settings_reach_the_report(output: Path, tmp_path: Path) -> None:
    """Threshold, smallest cell and time zone come from [report], and nothing says that they are not read."""
    data = tmp_path / "r.json"
    names = {"THRESHOLD": "40", "MIN_CELL": "25", "TIMEZONE": "Asia/Tokyo"}
    env = {f"LIVENESS_ETL__REPORT__{name}": value for name, value in names.items()}
    done = call("--output", output, "--json", data, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(data.read_text())
    assert report["generated_at"].endswith("+09:00")
    assert report["explorer"]["default"] == 40
    passed = report["explorer"]["passed"]
    assert all(one == next_one or one - next_one >= 25 for one, next_one in pairwise(passed))


def test_without_files_it_says_how_to_get_them(output: Path) -> None:
    """A short summary, and the two options."""
    done = call("--output", output)
    assert done.returncode == 0
    assert "--html FILE" in done.stdout


def test_empty_output_is_no_error(tmp_path: Path) -> None:
    """A page that says so, exit 0."""
    html = tmp_path / "r.html"
    done = call("--output", tmp_path / "none", "--html", html)
    assert done.returncode == 0
    assert "There are no sessions in these tables yet" in html.read_text()


def test_missing_extra_is_named_before_anything_is_read(output: Path, tmp_path: Path) -> None:
    """Where vl-convert-python cannot be imported: exit 2, and the command that installs it."""
    (tmp_path / "vl_convert.py").write_text("raise ImportError")

    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = call("--output", output, "--html", tmp_path / "r.html", env={"PYTHONPATH": path})
    assert done.returncode == 2
    assert "pip install 'liveness-etl[report]'" in done.stderr
    assert call("--output", output, "--json", tmp_path / "r.json", env={"PYTHONPATH": path}).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--from", "2026-03-11", "--to", "2026-03-10"), 2, "--from is later than --to"),
        (("--from", "yesterday"), 2, "--from must be a date"),
        (("--labels", "no-such.csv"), 2, "no such labels file"),
        (("--json", "/no-such-folder/r.json"), 1, "cannot write"),
    ],
)
def test_wrong_usage_is_one_sentence(output: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    """No traceback for what a user can cause."""
    done = call("--output", output, *arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
