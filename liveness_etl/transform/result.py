"""One API answer as a SessionResult: checked whole or refused whole, and free of image bytes.

The shape is that of botocore's model of GetFaceLivenessSessionResults (rekognition 2016-06-27, SDK 1.44.5).
Only `Status` and the right `SessionId` make an answer; every other member may be absent, and absent is None.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

_MAX_IMAGES = 100  # the API returns at most 4 audit images; a longer list is a broken answer
_MAX_FEEDBACK = 100  # the API returns at most 10
_MAX_TEXT = 4096  # longer than any documented member
_STATUS = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")  # it becomes an outcome, which people group by


class UnreadableAnswer(Exception):
    """A 200 that is no answer: a missing or wrong SessionId or Status, or a member of the wrong type.

    The message names the member and never quotes its value.
    """


@dataclass(frozen=True, slots=True)
class Box:
    """A bounding box in ratios of the image's sides, as returned; may lie outside 0-1."""

    left: float | None
    top: float | None
    width: float | None
    height: float | None


@dataclass(frozen=True, slots=True)
class Image:
    """One returned image: where it is, never what it shows. Sizes in bytes."""

    image_type: str
    image_index: int
    box: Box | None = None
    s3_bucket: str | None = None
    s3_name: str | None = None
    s3_version: str | None = None
    image_uri: str | None = None
    image_sha256: str | None = None
    image_size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class SessionResult:
    """What the API said of one session. `confidence` is 0-100; `feedback` holds (code, message)."""

    session_id: str
    status: str
    confidence: float | None = None
    challenge: tuple[str | None, str | None] | None = None
    sdk_type: str | None = None
    images: tuple[Image, ...] = ()
    feedback: tuple[tuple[str | None, str | None], ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """A result, and beside it the inline bytes of its images (None for an image without); has no repr."""

    result: SessionResult
    image_bytes: tuple[bytes | None, ...]
    unmodelled: frozenset[str] = frozenset()
    """Names of members that botocore's model does not know, and so are not in the result."""


KeepImages = Callable[[Answer, date], tuple[SessionResult, bool]]
"""Stores or drops an answer's image bytes; returns the result with references, and whether all were kept."""


def parse_result(session_id: str, answer: Mapping[str, Any], *, unmodelled: frozenset[str] = frozenset()) -> Answer:
    """The parsed response of one call as an Answer. Raises UnreadableAnswer."""
    status = _text(answer, "Status")
    if not status:
        raise UnreadableAnswer("the answer has no Status")
    if not _STATUS.fullmatch(status):
        raise UnreadableAnswer("Status is no name")
    if answer.get("SessionId") != session_id:
        raise UnreadableAnswer("the answer is not about the session that was asked for")
    confidence = _number(answer, "Confidence")
    if confidence is not None and not 0 <= confidence <= 100:
        raise UnreadableAnswer("Confidence lies outside 0-100")
    challenge = _member(answer, "Challenge", dict)
    metadata = _member(answer, "Metadata", dict)
    reference = _member(answer, "ReferenceImage", dict)
    audits = _list(answer, "AuditImages", _MAX_IMAGES)
    found = [] if reference is None else [_image("reference", 0, reference)]
    found += [_image("audit", index, image) for index, image in enumerate(audits)]
    result = SessionResult(
        session_id=session_id,
        status=status,
        confidence=confidence,
        challenge=None if challenge is None else (_text(challenge, "Type"), _text(challenge, "Version")),
        sdk_type=None if metadata is None else _text(metadata, "SDKType"),
        images=tuple(image for image, _ in found),
        feedback=tuple(
            (_text(entry, "Code"), _text(entry, "Message")) for entry in _list(answer, "Feedback", _MAX_FEEDBACK)
        ),
    )
    return Answer(result, tuple(content for _, content in found), unmodelled)


def _image(image_type: str, index: int, image: Mapping[str, Any]) -> tuple[Image, bytes | None]:
    box = _member(image, "BoundingBox", dict)
    target = _member(image, "S3Object", dict) or {}
    content = _member(image, "Bytes", bytes)
    bucket, name = _text(target, "Bucket"), _text(target, "Name")
    return (
        Image(
            image_type=image_type,
            image_index=index,
            box=None
            if box is None
            else Box(_number(box, "Left"), _number(box, "Top"), _number(box, "Width"), _number(box, "Height")),
            s3_bucket=bucket,
            s3_name=name,
            s3_version=_text(target, "Version"),
            image_uri=f"s3://{bucket}/{name}" if bucket and name else None,
        ),
        content or None,
    )


def _member(members: Mapping[str, Any], name: str, kind: type) -> Any:
    value = members.get(name)
    if value is not None and not isinstance(value, kind):
        raise UnreadableAnswer(f"{name} has the wrong type")
    return value


def _text(members: Mapping[str, Any], name: str) -> str | None:
    value = members.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise UnreadableAnswer(f"{name} has the wrong type")
    if len(value) > _MAX_TEXT:
        raise UnreadableAnswer(f"{name} is too long")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UnreadableAnswer(f"{name} is no valid text") from None
    return value


def _number(members: Mapping[str, Any], name: str) -> float | None:
    value = members.get(name)
    if value is None:
        return None
    if type(value) not in (int, float):
        raise UnreadableAnswer(f"{name} has the wrong type")
    try:
        number = float(value)
    except OverflowError:
        raise UnreadableAnswer(f"{name} is no finite number") from None
    if not math.isfinite(number):
        raise UnreadableAnswer(f"{name} is no finite number")
    return number


def _list(members: Mapping[str, Any], name: str, longest: int) -> list[Mapping[str, Any]]:
    value: list[Any] = _member(members, name, list) or []
    if len(value) > longest:
        raise UnreadableAnswer(f"{name} has {len(value)} entries")
    if not all(isinstance(entry, dict) for entry in value):
        raise UnreadableAnswer(f"an entry of {name} has the wrong type")
    return value
