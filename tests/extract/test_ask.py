"""The landing rows of an id, and whether a rerun would ask for it again."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from liveness_etl.extract.ask import Ask, Origin, Row, answer_row, failure_row, is_incomplete, not_asked_row
from liveness_etl.transform.result import Box, Image, SessionResult
from liveness_etl.transform.tables import LANDING
from tests.running import DT, ids

TTL = 180.0
DAY = 86_400.0
NOON = 1_772_366_400.25
ORIGIN = Origin("eu", "eu-west-1", "run-1")
(ONE,) = ids(1)
ASK = Ask(ONE, DT, NOON, (("user", "u1"),))


def answered(status: str, *, ask: Ask = ASK, all_kept: bool = True, fetched_at: float = NOON) -> Row:
    return answer_row(ORIGIN, ask, SessionResult(ONE, status), all_kept=all_kept, fetched_at=fetched_at, attempts=1)


def failed(code: str, *, ask: Ask = ASK, fetched_at: float = NOON) -> Row:
    return failure_row(ORIGIN, ask, code=code, message="", fetched_at=fetched_at, attempts=1)


@pytest.mark.parametrize(
    "row",
    [answered("SUCCEEDED"), failed("InternalServerError"), not_asked_row(ORIGIN, ASK)],
    ids=["answer", "failure", "not-asked"],
)
def test_every_row_has_the_columns_of_landing(row: Row) -> None:
    """All of them, and with values of the right type."""
    assert list(row) == LANDING.names
    table = pa.Table.from_pylist([row], schema=LANDING)
    table.validate(full=True)
    assert (row["session_id"], row["source"], row["region"], row["run_id"]) == (ONE, "eu", "eu-west-1", "run-1")
    assert table["attributes"].to_pylist() == [[("user", "u1")]]
    assert row["created_at"] == datetime.fromtimestamp(NOON, UTC)


def test_an_answer_keeps_all_that_the_api_said() -> None:
    """Challenge, confidence, SDK type, feedback in order, images with and without a box."""
    result = SessionResult(
        ONE,
        "SUCCEEDED",
        confidence=99.5,
        challenge=("FaceMovementChallenge", None),
        sdk_type="AmplifyWeb",
        images=(
            Image("reference", 0, Box(-0.1, 0.2, 0.3, None), "bucket", "name", "v1", "s3://bucket/name"),
            Image("audit", 0, None, image_sha256="00", image_size_bytes=3),
        ),
        feedback=(("A", "a"), ("B", None)),
    )
    row = answer_row(ORIGIN, ASK, result, all_kept=True, fetched_at=NOON + 1, attempts=3)
    (stored,) = pa.Table.from_pylist([row], schema=LANDING).to_pylist()
    assert stored["confidence"] == 99.5
    assert stored["challenge"] == {"type": "FaceMovementChallenge", "version": None}
    assert stored["sdk_type"] == "AmplifyWeb"
    assert stored["feedback"] == [{"code": "A", "message": "a"}, {"code": "B", "message": None}]
    reference, audit = stored["images"]
    assert reference["box"] == {"left": -0.1, "top": 0.2, "width": 0.3, "height": None}
    assert (reference["image_uri"], reference["s3_version"]) == ("s3://bucket/name", "v1")
    assert (audit["box"], audit["image_sha256"], audit["image_size_bytes"]) == (None, "00", 3)
    assert (stored["attempts"], stored["error_code"]) == (3, None)


def test_an_answer_whose_image_was_not_stored_says_so() -> None:
    """The status stays, beside the error."""
    row = answered("SUCCEEDED", all_kept=False)
    assert (row["status"], row["error_code"]) == ("SUCCEEDED", "ImageNotStored")
    assert row["error_message"]


def test_an_id_that_was_not_reached_has_no_time_and_no_attempts() -> None:
    """error_code NotAsked, attempts 0, fetched_at NULL."""
    row = not_asked_row(ORIGIN, ASK)
    assert (row["error_code"], row["attempts"], row["fetched_at"]) == ("NotAsked", 0, None)


@pytest.mark.parametrize(
    ("row", "incomplete"),
    [
        (answered("SUCCEEDED"), False),
        (answered("FAILED"), False),
        (answered("EXPIRED"), False),
        (answered("CREATED"), False),
        (answered("SOMETHING_NEW"), False),
        (failed("SessionNotFoundException"), False),
        (failed("InvalidParameterException"), False),
        (failed("ThrottlingException"), True),
        (failed("UnreadableAnswer"), True),
        (failed("AccessDeniedException"), True),
        (not_asked_row(ORIGIN, ASK), True),
        (answered("SUCCEEDED", all_kept=False), True),
        (answered("SUCCEEDED", all_kept=False, fetched_at=NOON + 2 * TTL), True),
        (answered("SUCCEEDED", all_kept=False, fetched_at=NOON + 2 * TTL + 1), False),
    ],
)
def test_an_id_is_incomplete_when_its_only_row_is_an_error_or_a_lost_image(row: Row, incomplete: bool) -> None:
    """Rank 0 and -1, and rank 4 as long as its image may still be read."""
    assert is_incomplete(ASK, row, TTL) == incomplete


@pytest.mark.parametrize(
    ("prior_rank", "row", "incomplete"),
    [
        (5, failed("InternalServerError"), False),  # asked again though final
        (1, failed("InternalServerError"), False),  # still pending
        (0, failed("InternalServerError"), True),
        (-1, failed("InternalServerError"), True),
        (0, answered("SUCCEEDED"), False),
        (4, failed("InternalServerError"), True),
        (4, answered("SUCCEEDED"), False),
        (4, answered("EXPIRED"), False),  # nothing better will come
        (4, failed("SessionNotFoundException"), False),
    ],
)
def test_earlier_rows_of_an_id_count_too(prior_rank: int, row: Row, incomplete: bool) -> None:
    """A good answer is never made incomplete by a later error, a lost image is settled by a later EXPIRED."""
    ask = Ask(ONE, DT, NOON, None, prior_rank, NOON)
    assert is_incomplete(ask, row, TTL) == incomplete


@pytest.mark.parametrize(("seconds", "incomplete"), [(DAY - 1, True), (DAY, False)])
def test_a_lost_image_of_a_session_of_unknown_age_is_settled_a_day_after_the_first_read(
    seconds: float, incomplete: bool
) -> None:
    """Without created_at the first read stands in for it."""
    ask = Ask(ONE, DT, None, None, 4, NOON)
    row = answered("SUCCEEDED", ask=ask, all_kept=False, fetched_at=NOON + seconds)
    assert is_incomplete(ask, row, TTL) == incomplete
    first = Ask(ONE, DT)
    assert is_incomplete(first, answered("SUCCEEDED", ask=first, all_kept=False), TTL)


@pytest.mark.parametrize(
    ("created_at", "now", "expired"), [(NOON, NOON + 180, False), (NOON, NOON + 181, True), (None, NOON * 2, False)]
)
def test_a_session_has_expired_only_where_its_age_is_known(created_at: float | None, now: float, expired: bool) -> None:
    """Unknown age is no proof."""
    assert Ask(ONE, DT, created_at).expired(now, TTL) == expired
