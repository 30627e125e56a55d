"""What is said of a run in Prefect: pure functions of its figures, without Prefect."""

from collections import Counter
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from liveness_etl.extract.sweep import SweepCounts
from liveness_etl.run_report import Progress, SweepReport
from tests.flows.conftest import FLOWS


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """flows/nightly_figures.py."""
    monkeypatch.syspath_prepend(str(FLOWS))
    import nightly_figures

    found: ModuleType = nightly_figures
    return found


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("s3://backend/sessions/{date}.csv", "2026-03-01.csv"),
        ("s3://backend/sessions/{date}/", "2026-03-01/"),
        ("s3://backend/ids.csv?X-Amz-Signature=secret", "ids.csv"),
        ("manifests/what?.csv", "what?.csv"),
        ("manifests/7F3C0D1E-5a2b-4c8d-9e6f-0123456789ab.csv", "***.csv"),
        ("s3://backend/account-123456789012.csv", "account-************.csv"),
        (None, ""),
    ],
)
def test_name_tells_the_manifests_last_part_and_nothing_secret(figures: ModuleType, uri: str | None, name: str) -> None:
    """No bucket, no folder, no query string, no id, no account number."""
    assert figures.manifest_name(uri, "2026-03-01") == name


def report(requested: int, not_asked: int, *sweeps: tuple[str, dict[str, int], int]) -> Any:
    """A run's report as far as it is read: each sweep's source, ids by outcome, and how many are incomplete."""
    reports = [
        SweepReport(source, SweepCounts(incomplete=incomplete), Counter(by_outcome), 0, False)
        for source, by_outcome, incomplete in sweeps
    ]
    return SimpleNamespace(plan=SimpleNamespace(requested=requested), row={"not_asked": not_asked}, sweeps=reports)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (report(5, 0), "5 of 5 final"),
        (report(0, 0), "0 of 0 final"),
        (
            report(
                50_000,
                0,
                ("eu", {"SUCCEEDED": 47_000, "EXPIRED": 113, "AccessDeniedException": 12}, 12),
                ("us", {"ThrottlingException": 2_000, "ProvisionedThroughputExceededException": 875}, 2_875),
            ),
            "47,113 of 50,000 final, 12 denied, 2,875 waiting on the quota of us",
        ),
        (report(10, 0, ("eu", {"SUCCEEDED": 8, "CREATED": 2}, 0)), "10 of 10 final or pending"),
        (report(10, 4, ("eu", {"SUCCEEDED": 6, "NotAsked": 4}, 0)), "6 of 10 final, 4 not asked"),
        (report(10, 0, ("eu", {"SUCCEEDED": 10}, 3)), "7 of 10 final, 3 without all of their images"),
        (report(10, 0, ("eu", {"SUCCEEDED": 9, "TimeoutError": 1}, 1)), "9 of 10 final, 1 with TimeoutError"),
    ],
)
def test_state_accounts_for_every_id(figures: ModuleType, given: Any, says: str) -> None:
    """Final ones first, then what keeps the others from it."""
    assert figures.standing(given) == says


@pytest.mark.parametrize(
    ("allowed_tps", "throttled", "says"),
    [
        (25.0, 0, "prod 1/2: 40 of 100, 10/s, 0 throttled"),
        (25.0, 3, "prod 1/2: 40 of 100, 10/s, 3 throttled"),
        (10.0, 30, "prod 1/2: 40 of 100, 10/s, 30 throttled, waiting on the quota of prod"),
    ],
)
def test_progress_says_what_it_waits_for(figures: ModuleType, allowed_tps: float, throttled: int, says: str) -> None:
    """The quota, where the service throttles below the ceiling."""
    progress = Progress("prod 1/2", 100, 40, 70, throttled, allowed_tps, 25.0)
    assert figures.progress_line(progress, 10.0) == says
