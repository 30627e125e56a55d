"""The notebook: as a script and as Jupyter runs it; and every figure it prints is counted again from the files."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta
from statsmodels.stats.proportion import proportion_confint

from tests.examples.conftest import EXAMPLES
from tests.examples.test_readme_queries import Files, passes, scores

NOTEBOOK = "choose_threshold.py"


@dataclass(frozen=True)
class Ran:
    """What the notebook printed, line by line, what it wrote down, and the labels that it made."""

    lines: list[str]
    choice: dict[str, Any]
    labels: dict[str, dict[str, str]]

    def after(self, start: str) -> list[str]:
        """The words of the first line that begins so, after its beginning."""
        return next(line for line in self.lines if line.startswith(start))[len(start) :].split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the examples, where the notebook may write."""
    copy = tmp_path_factory.mktemp("notebook") / "examples"
    shutil.copytree(EXAMPLES, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def run(folder: Path, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    # TMPDIR: the demo data that the notebook makes for itself.
    changed = (
        os.environ | {"TMPDIR": str(folder), "IPYTHONDIR": str(folder), "JUPYTER_RUNTIME_DIR": str(folder)} | environ
    )
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=changed, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.fixture(scope="module")
def ran(folder: Path) -> Ran:
    """The notebook as a plain script, without an output: on demo data that it makes."""
    done = run(folder, "-W", "error", NOTEBOOK)
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("liveness-history-*")
    with (made / "synthetic-labels.csv").open(newline="") as file:
        labels = {row["session_id"]: row for row in csv.DictReader(file)}
    return Ran(done.stdout.splitlines(), json.loads((folder / "chosen_threshold.json").read_text()), labels)


@pytest.fixture(scope="module")
def files(ran: Ran, folder: Path) -> Files:
    """The rows of the demo data that it was run on."""
    (made,) = folder.glob("liveness-history-*")
    return Files(made)


def told(count: int, of: int) -> list[str]:
    """A rate as the notebook prints it, with the interval from statsmodels."""
    low, high = proportion_confint(count, of, method="wilson")
    return f"{count / of:.4f} [{low:.4f}, {high:.4f}]".split()


def test_it_counts_what_is_missing(ran: Ran, files: Files) -> None:
    """By source and outcome, and the share without a score."""
    rows = files.sessions
    outcomes = sorted({row["outcome"] for row in rows})
    assert ran.after("outcome ")[: len(outcomes)] == outcomes
    for source in ("mobile", "web"):
        counted = Counter(row["outcome"] for row in rows if row["source"] == source)
        numbers = list(map(int, ran.after(f"{source} ")))
        assert numbers[:-1] == [*(counted[outcome] for outcome in outcomes), counted.total()]
    without = len(rows) - len(scores(rows))
    assert ran.after(f"without a score: {without:,} of {len(rows):,} sessions, ") == told(without, len(rows))


def test_its_quantiles_are_those_of_the_files(ran: Ran, files: Files) -> None:
    """Overall, by challenge and by day: of 100 − confidence, with what was scored and requested beside."""

    def distances(rows: list[dict[str, Any]], *shares: float) -> list[float]:
        found = np.quantile([100 - score for score in scores(rows)], shares)
        return [float(value) for value in found]

    overall = [float(ran.after(f"{share:.2f} ")[0]) for share in (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)]
    assert overall == pytest.approx(distances(files.sessions, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99), abs=6e-4)
    for kind in {(row["type"], row["version"]) for row in files.challenge.values()}:
        ids = {key for key, row in files.challenge.items() if (row["type"], row["version"]) == kind}
        rows = [row for row in files.sessions if (row["dt"], row["session_id"]) in ids]
        expected = [len(rows), len(scores(rows)), *distances(rows, 0.5, 0.9, 0.95)]
        lines = [line.split()[-6:] for line in ran.lines if f" {kind[1]} " in line]
        assert any(list(map(float, line[1:])) == pytest.approx(expected, abs=6e-4) for line in lines), kind
    for dt in {row["dt"] for row in files.sessions}:
        rows = [row for row in files.sessions if row["dt"] == dt]
        expected = [*distances(rows, 0.1, 0.25, 0.5, 0.75, 0.9), len(scores(rows)), len(rows)]
        assert list(map(float, ran.after(f"{dt} "))) == pytest.approx(expected, abs=6e-4)


def test_its_pass_rates_name_both_denominators(ran: Ran, files: Files) -> None:
    """Of scored and of requested sessions, each with its interval."""
    rows = files.sessions
    start = next(number for number, line in enumerate(ran.lines) if line.split()[:2] == ["threshold", "passed"])
    table = [line.split() for line in ran.lines[start + 1 : start + 9]]
    for threshold, passed, *rates in table:
        level = float(threshold)
        of = sum(row["status"] == "SUCCEEDED" and (row["confidence"] or 0) >= level for row in rows)
        assert [int(passed), rates] == [of, told(of, len(scores(rows))) + told(of, len(rows))]
        assert level != 90 or of == sum(map(passes, rows))
    assert [float(line[0]) for line in table] == [50, 80, 90, 95, 98, 99, 99.5, 99.9]


def test_the_threshold_is_chosen_on_earlier_people_and_its_errors_are_of_later_ones(ran: Ran, files: Files) -> None:
    """The choice, and each rate of ISO/IEC 30107-3, counted by hand from the labels that it made."""
    rows = [row | ran.labels[row["session_id"]] for row in files.sessions]
    cut = datetime.fromisoformat(next(line for line in ran.lines if "cut='" in line).split("cut='")[1].split("'")[0])
    dated = [row for row in rows if row["created_at"] is not None]
    person = {row["session_id"]: row["subject_id"] or row["session_id"] for row in rows}
    early = Counter[str]()
    for row in dated:
        early[person[row["session_id"]]] += 1 if row["created_at"] < cut else -1
    choosing = [row for row in dated if row["created_at"] < cut and early[person[row["session_id"]]] > 0]
    measuring = [row for row in dated if row["created_at"] >= cut and early[person[row["session_id"]]] <= 0]
    assert not {person[row["session_id"]] for row in choosing} & {person[row["session_id"]] for row in measuring}

    def answered(row: dict[str, Any]) -> bool:
        return row["status"] == "FAILED" or (row["status"] == "SUCCEEDED" and row["confidence"] is not None)

    def passed(row: dict[str, Any], threshold: float) -> bool:
        return row["status"] == "SUCCEEDED" and row["confidence"] >= threshold

    def share(of: list[dict[str, Any]], wanted: Callable[[dict[str, Any]], bool]) -> tuple[int, int]:
        return sum(map(wanted, of)), len(of)

    def apcers(of: list[dict[str, Any]], threshold: float) -> dict[str, tuple[int, int]]:
        attacks = [row for row in of if row["label"] == "attack" and answered(row)]
        return {
            species: share(
                [row for row in attacks if row["pai_species"] == species], lambda row: passed(row, threshold)
            )
            for species in ("mask", "print", "replay")
        }

    threshold = ran.choice["threshold"]
    assert max(count / n for count, n in apcers(choosing, threshold).values()) <= 0.05
    lower = max(
        score for score in scores([row for row in choosing if row["status"] == "SUCCEEDED"]) if score < threshold
    )
    assert max(count / n for count, n in apcers(choosing, lower).values()) > 0.05

    attacks = [row for row in measuring if row["label"] == "attack"]
    people = [row for row in measuring if row["label"] == "bona_fide"]
    expected = {f"APCER {species}": found for species, found in apcers(measuring, threshold).items()}
    expected["BPCER"] = share([row for row in people if answered(row)], lambda row: not passed(row, threshold))
    expected["APNRR"] = share(attacks, lambda row: not answered(row))
    expected["BPNRR"] = share(people, lambda row: not answered(row))
    for name, (count, n) in expected.items():
        found = ran.choice["measured"][name]
        assert (found["count"], found["of n"], found["rate"]) == (count, n, pytest.approx(count / n)), name
        assert ran.after(f"{name} ")[-2:] == [str(count), str(n)]
        low, high = proportion_confint(count, n, method="wilson")
        if count == 0:
            assert found["to"] >= beta.ppf(0.95, 1, n) - 1e-9, name  # Clopper and Pearson's, one-sided
        else:  # people repeat, so it is at least as wide as the interval of as many strangers
            assert found["95 % from"] <= low + 1e-9, name
            assert found["to"] >= high - 1e-9, name


def test_it_says_what_its_figures_are_not(ran: Ran) -> None:
    """The labels are synthetic, and the choice says so where it is kept."""
    assert any("SYNTHETIC LABELS" in line for line in ran.lines)
    assert ran.choice["labels"] == "synthetic, of no meaning"
    text = (EXAMPLES / NOTEBOOK).read_text()
    assert "Neither is 1 − BPCER" in text
    assert text.count("\n# %%\n") == 10


def test_jupyter_runs_it_and_shows_its_charts(folder: Path, history: Path, ran: Ran) -> None:
    """Through jupytext, on an output and labels of one's own; three charts, no warning, the same figures."""
    (made,) = folder.glob("liveness-history-*")
    environ = {"LIVENESS_ETL__OUTPUT__URI": str(history), "LABELS": str(made / "synthetic-labels.csv")}
    for command in (
        ["-m", "jupytext", "--to", "ipynb", NOTEBOOK],
        ["-m", "jupyter", "execute", "choose_threshold.ipynb", "--inplace"],
    ):
        done = run(folder, *command, **environ, CHOICE="of-jupyter.json")
        assert done.returncode == 0, done.stderr
    cells = json.loads((folder / "choose_threshold.ipynb").read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    printed = "".join("".join(output["text"]) for output in outputs if output.get("name") == "stdout").splitlines()
    shown = ["".join(output["data"]["image/svg+xml"]) for output in outputs if "data" in output]
    assert [chart.count("mark-line") + chart.count("mark-area") > 0 for chart in shown] == [True] * 3
    assert all("http" not in chart.replace("http://www.w3.org/", "") for chart in shown)
    assert not [output for output in outputs if output.get("name") == "stderr"]
    ours = json.loads((folder / "of-jupyter.json").read_text())
    assert printed[0] == f"output: {history}"
    assert ours | {"labels": None} == ran.choice | {"labels": None}
    assert ours["labels"] == environ["LABELS"]


def test_an_output_of_ones_own_needs_labels_of_ones_own(folder: Path, history: Path) -> None:
    """None are made up for it."""
    done = run(folder, NOTEBOOK, LIVENESS_ETL__OUTPUT__URI=str(history), CHOICE="not-written.json")
    assert done.returncode == 1
    assert done.stderr.strip() == "name a file of labels: pass rates alone cannot choose a threshold"
    assert not (folder / "not-written.json").exists()
