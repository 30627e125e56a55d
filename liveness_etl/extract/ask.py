"""An id to ask for, and what becomes of it: its landing row, and whether a rerun would ask again."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from liveness_etl.transform.normalize import IMAGE_NOT_STORED, NOT_ASKED, rank
from liveness_etl.transform.result import Image, SessionResult

Row = dict[str, object]
"""A landing row: the columns of `tables.LANDING` by name."""

_DAY_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One id of the plan. Times are epoch seconds; `prior_rank` is the best rank of its earlier rows, and
    `first_read` when the first of them was read."""

    session_id: str
    dt: date
    created_at: float | None = None
    attributes: tuple[tuple[str, str], ...] | None = None
    prior_rank: int | None = None
    first_read: float | None = None

    def expired(self, now: float, ttl_seconds: float) -> bool:
        """Whether it is certain that the session has outlived its results."""
        return self.created_at is not None and now > self.created_at + ttl_seconds


@dataclass(frozen=True)
class Origin:
    """Who asks: columns that all rows of one sweep share."""

    source: str
    region: str
    run_id: str


def answer_row(
    origin: Origin, ask: Ask, result: SessionResult, *, all_kept: bool, fetched_at: float | None, attempts: int
) -> Row:
    """The row of an answer, with references to its images; `all_kept` False makes it ImageNotStored. `fetched_at` is
    None where nobody knows when it came (a copy of an answer)."""
    row = _row(origin, ask, fetched_at, attempts)
    row["status"] = result.status
    row["confidence"] = result.confidence
    if result.challenge is not None:
        row["challenge"] = {"type": result.challenge[0], "version": result.challenge[1]}
    row["sdk_type"] = result.sdk_type
    row["images"] = [_image(image) for image in result.images]
    row["feedback"] = [{"code": code, "message": message} for code, message in result.feedback]
    if not all_kept:
        row["error_code"] = IMAGE_NOT_STORED
        row["error_message"] = "an image of the answer could not be stored"
    return row


def failure_row(origin: Origin, ask: Ask, *, code: str, message: str, fetched_at: float, attempts: int) -> Row:
    """The row of an id whose last call brought no answer."""
    return _row(origin, ask, fetched_at, attempts) | {"error_code": code, "error_message": message}


def not_asked_row(origin: Origin, ask: Ask) -> Row:
    """The row of an id that a run did not reach."""
    return _row(origin, ask, None, 0) | {"error_code": NOT_ASKED}


def is_incomplete(ask: Ask, row: Row, ttl_seconds: float) -> bool:
    """Whether, after this row, the id's best rank is 0 or -1, or a 4 that is not final (exit code 3)."""
    new = rank(row["status"], row["error_code"])  # type: ignore[arg-type]
    best = new if ask.prior_rank is None else max(new, ask.prior_rank)
    if best != 4:
        return best < 1
    if new in (2, 3):
        return False
    fetched_at = row["fetched_at"]
    if new != 4 or not isinstance(fetched_at, datetime):
        return True
    if ask.created_at is not None:
        return fetched_at.timestamp() <= ask.created_at + 2 * ttl_seconds
    return ask.first_read is None or fetched_at.timestamp() < ask.first_read + _DAY_SECONDS


def _row(origin: Origin, ask: Ask, fetched_at: float | None, attempts: int) -> Row:
    return {
        "session_id": ask.session_id,
        "source": origin.source,
        "region": origin.region,
        "status": None,
        "confidence": None,
        "challenge": None,
        "sdk_type": None,
        "images": [],
        "feedback": [],
        "created_at": None if ask.created_at is None else datetime.fromtimestamp(ask.created_at, UTC),
        "fetched_at": None if fetched_at is None else datetime.fromtimestamp(fetched_at, UTC),
        "attempts": attempts,
        "error_code": None,
        "error_message": None,
        "attributes": ask.attributes,
        "run_id": origin.run_id,
    }


def _image(image: Image) -> Row:
    box = image.box  # written out: dataclasses.asdict is many times slower, and this runs for every answer
    return {
        "image_type": image.image_type,
        "image_index": image.image_index,
        "box": None if box is None else {"left": box.left, "top": box.top, "width": box.width, "height": box.height},
        "s3_bucket": image.s3_bucket,
        "s3_name": image.s3_name,
        "s3_version": image.s3_version,
        "image_uri": image.image_uri,
        "image_sha256": image.image_sha256,
        "image_size_bytes": image.image_size_bytes,
    }
