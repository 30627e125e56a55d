"""`verify` as an operator types it."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from liveness_etl.analysis import findings
from liveness_etl.analysis.findings import finding
from tests.analysis.conftest import FIRST, Output
from tests.analysis.test_verify import SESSIONS, rewrite
from tests.running import ids


def verify(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "liveness_etl", "verify", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=os.environ)


def test_sound_output_ends_with_0(folder_output: Output) -> None:
    """Nothing on standard output; what was looked at on standard error."""
    ended = verify("--output", folder_output.store.uri, "--manifest", folder_output.manifest)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "verified 2026-03-01: 24 sessions" in ended.stderr
    assert "partitions: 2, sessions: 36" in ended.stderr


def test_findings_end_with_3_and_name_no_id(folder_output: Output) -> None:
    """The table may go to a log: it says where, how many and what to do."""
    rewrite(folder_output.store, SESSIONS, lambda table: table.slice(1))
    ended = verify("--output", folder_output.store.uri, "--quiet")
    assert ended.returncode == 3
    assert "row-missing" in ended.stdout
    assert "--rebuild" in ended.stdout
    assert not any(session_id in ended.stdout + ended.stderr for session_id in ids(36))


@pytest.mark.parametrize("form", ["json", "csv"])
def test_machine_readable_findings_name_ids(form: str, folder_output: Output) -> None:
    """Whoever asks for them gets the rows to look at."""
    rewrite(folder_output.store, SESSIONS, lambda table: table.slice(1))
    ended = verify("--output", folder_output.store.uri, "--format", form)
    rows = json.loads(ended.stdout) if form == "json" else list(csv.DictReader(io.StringIO(ended.stdout)))
    (row,) = rows
    assert (row["finding"], row["where"], int(row["count"])) == ("row-missing", SESSIONS, 1)
    assert min(ids(24)) in row["session_ids"]
    assert min(ids(24)) not in ended.stderr


def test_empty_folder_is_an_output_without_defects(tmp_path: Path) -> None:
    """Nothing has landed, and it says so."""
    ended = verify("--output", tmp_path)
    assert ended.returncode == 0
    assert "nothing has landed there yet" in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--output", "no-such-folder"], "check --output"),
        (["--output", ".", "--format", "xml"], "--format must be"),
        (["--output", ".", "--date", str(FIRST)], "--manifest"),
        ([], "no output"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], sentence: str) -> None:
    """One sentence, and no folder is made."""
    ended = verify(*arguments)
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert not Path("no-such-folder").exists()


@pytest.mark.parametrize("check", [*findings._ADVICE, *findings._NOTES])
def test_every_finding_says_what_to_do(check: str) -> None:
    """All words that an advice names are given by those who find it; none is left in braces."""
    found = finding(check, "somewhere", dt=FIRST, first=FIRST, last=FIRST, elsewhere=0)
    assert len(found.advice) > 20
    assert "{" not in found.advice
