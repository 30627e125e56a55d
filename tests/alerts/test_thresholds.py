"""What a run's record says against the limits."""

from typing import Any

import pytest

from liveness_etl.alerts.thresholds import Limits, exceeds, reasons

LIMITS = Limits(max_error_share=0.01, max_expired_share=0.05, max_not_found_share=0.05, min_requested=1)


def row(requested: int, *, command: str = "run", already_final: int = 0, not_asked: int = 0, **outcomes: int) -> Any:
    """A record, the ids that are not accounted for as SUCCEEDED."""
    rest = requested - already_final - not_asked - sum(outcomes.values())
    by_outcome = sorted({**outcomes, "SUCCEEDED": rest}.items())
    return {
        "command": command,
        "requested": requested,
        "already_final": already_final,
        "not_asked": not_asked,
        "rejected": 0,
        "by_outcome": by_outcome,
        "completed": True,
    }


def test_quiet_run_has_no_reason() -> None:
    """At the limits is within them; pending and failed sessions, and a status yet unknown, are no errors."""
    assert reasons(row(1000, EXPIRED=50, SessionNotFoundException=50, InternalServerError=10), LIMITS) == []
    assert reasons(row(1000, CREATED=300, IN_PROGRESS=200, FAILED=400, PAUSED_BY_USER=100), LIMITS) == []


def test_expired_share_names_count_limit_and_remedy() -> None:
    """As a person would put it."""
    assert reasons(row(50_000, EXPIRED=3_650), LIMITS) == [
        "7.3 % of 50,000 ids were EXPIRED (alerts.max_expired_share = 5 %): sweep every minute"
    ]


def test_errors_are_named_by_their_most_common_codes() -> None:
    """Ids that were not reached count among them, and codes of no session do not."""
    found = reasons(
        row(10_000, not_asked=300, AccessDeniedException=120, ThrottlingException=7, UnreadableAnswer=3, Other=2),
        LIMITS,
    )
    assert found == [
        "4.32 % of 10,000 ids ended in an error (alerts.max_error_share = 1 %): "
        "NotAsked 300, AccessDeniedException 120, ThrottlingException 7, …"
    ]


def test_both_codes_of_no_such_session_count_together() -> None:
    """Neither alone is above the limit."""
    (found,) = reasons(row(1_000, SessionNotFoundException=30, InvalidParameterException=30), LIMITS)
    assert found.startswith("6 % of 1,000 ids are unknown to Rekognition (alerts.max_not_found_share = 5 %): ")


def test_a_run_is_judged_by_its_manifest_a_sweep_by_what_was_open() -> None:
    """After a day of sweeps the night's `run` has the dead rest to ask, which is no outage; a sweep whose every new
    id is dead is one, however many are final."""
    assert reasons(row(50_000, already_final=48_000, EXPIRED=2_000), LIMITS) == []
    (found,) = reasons(row(50_000, command="sweep", already_final=49_900, EXPIRED=100), LIMITS)
    assert found == (
        "100.0 % of 100 ids were EXPIRED (alerts.max_expired_share = 5 %): sweep more often, or at a higher max_tps"
    )


@pytest.mark.parametrize("command", ["run", "sweep", "import"])
def test_run_that_asked_nothing_has_no_reason(command: str) -> None:
    """A run again, when all is final."""
    assert reasons(row(500, command=command, already_final=500), LIMITS) == []


def test_too_few_ids_is_a_reason_for_a_run_alone() -> None:
    """A minute without a new session is no news; a manifest of none is. That lines were malformed tells why."""
    assert reasons(row(0, command="sweep"), LIMITS) == []
    assert reasons(row(0) | {"rejected": 7}, LIMITS) == [
        "the manifest had 0 ids and 7 malformed lines (alerts.min_requested = 1): is it whole?"
    ]
    assert reasons(row(0), Limits(0, 0, 0, min_requested=0)) == []


def test_run_that_did_not_end_by_itself_is_not_judged() -> None:
    """Shares of what it got to say nothing."""
    assert reasons(row(1_000, EXPIRED=900) | {"completed": False}, LIMITS) == []


@pytest.mark.parametrize(
    ("count", "of", "alarming"),
    [
        (1, 3, False),  # a third of them, but it is one session
        (2, 10, False),
        (3, 3, True),
        (12, 200, False),
        (20, 200, True),
        (51, 1_000, True),
        (50, 1_000, False),
        (2_501, 50_000, True),
        (0, 0, False),
        (0, 10, False),
    ],
)
def test_few_ids_need_more_than_bad_luck(count: int, of: int, alarming: bool) -> None:
    """Below 1,000 ids a share above the limit is told if chance has it in less than 1 of 100 runs."""
    assert exceeds(count, of, 0.05) is alarming


def test_limit_of_zero_is_one_too_many() -> None:
    """Who wants to hear of each, hears of each; and a limit of one is never exceeded."""
    assert exceeds(1, 20, 0.0)
    assert not exceeds(20, 20, 1.0)
