"""What a person sees of `doctor`: a table for 80 columns, and exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from liveness_etl.doctor.finding import Finding
from liveness_etl.doctor_command import show_findings


def test_a_person_with_nothing_set_up_is_told_what_to_do(tmp_path: Path) -> None:
    """As a process without a terminal: lines of 80 columns, no colours, no traceback, exit code 3."""
    environ = {name: value for name, value in os.environ.items() if name != "AWS_ACCESS_KEY_ID"}
    environ |= {"PREFECT_HOME": str(tmp_path), "AWS_SECRET_ACCESS_KEY": "s3cr3t"}
    environ.pop("COLUMNS", None)
    done = subprocess.run(
        [sys.executable, "-m", "liveness_etl", "doctor"],
        capture_output=True,
        text=True,
        env=environ,
        timeout=120,
        check=False,
    )
    assert done.returncode == 3
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\x1b" not in done.stdout
    assert "s3cr3t" not in done.stdout
    assert done.stdout.startswith("fail  default: credentials  no AWS credentials found")
    assert "mend: give --output" in done.stdout
    assert done.stderr.startswith("ok: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("statuses", "code"), [((), 0), (("ok", "warn"), 0), (("warn", "fail", "ok"), 3)])
def test_only_failures_change_the_exit_code(statuses: tuple[str, ...], code: int) -> None:
    """A warning is no hindrance to a run."""
    findings = [Finding(status, "a", "b", "c") for status in statuses]  # type: ignore[arg-type]
    assert show_findings(findings, "json") == code


def test_what_others_said_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither escapes nor rich's markup."""
    show_findings([Finding("fail", "a", "\x1b[31mred [bold]\n", "\x07")], "table")
    assert capsys.readouterr().out.split() == ["fail", "a", r"\x1b[31mred", r"[bold]\n", "mend:", r"\x07"]
