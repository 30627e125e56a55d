"""One API answer: what is absent, what is refused, and what never shows in a message."""

import math
from datetime import date
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liveness_etl.extract.ask import Ask, Origin, answer_row
from liveness_etl.masking import masked
from liveness_etl.transform import tables
from liveness_etl.transform.result import Answer, Box, Image, SessionResult, UnreadableAnswer, parse_result

SESSION_ID = "0f5c2b6e-6c3c-4b0e-9d0a-5b1f0d9c1a2b"
LEAST = {"SessionId": SESSION_ID, "Status": "SUCCEEDED"}
SECRET = "secret-value-of-the-answer"


def parse(**members: Any) -> SessionResult:
    return parse_result(SESSION_ID, LEAST | members).result


def test_status_and_the_right_id_make_an_answer() -> None:
    """Every other member may be absent, and absent is None, never zero and never an empty text."""
    answer = parse_result(SESSION_ID, LEAST)
    assert answer.result == SessionResult(SESSION_ID, "SUCCEEDED")
    assert answer.result.confidence is answer.result.challenge is answer.result.sdk_type is None
    assert answer.image_bytes == ()


def test_full_answer_is_taken_as_it_is() -> None:
    """Every member of the model arrives under its name, the reference image first."""
    answer = parse_result(
        SESSION_ID,
        LEAST
        | {
            "Confidence": 99.5,
            "Challenge": {"Type": "FaceMovementAndLightChallenge", "Version": "2.0.0"},
            "Metadata": {"SDKType": "WEB"},
            "ReferenceImage": {
                "BoundingBox": {"Left": 0.25, "Top": 0.5, "Width": 0.125, "Height": 1},
                "S3Object": {"Bucket": "faces", "Name": "a/b.jpg", "Version": "v1"},
            },
            "AuditImages": [{"Bytes": b"\xff\xd8\xff"}, {}],
            "Feedback": [{"Code": "A", "Message": "b"}, {"Code": "C"}],
            "ResponseMetadata": {"HTTPStatusCode": 200},
        },
    )
    assert answer.result == SessionResult(
        SESSION_ID,
        "SUCCEEDED",
        99.5,
        ("FaceMovementAndLightChallenge", "2.0.0"),
        "WEB",
        (
            Image("reference", 0, Box(0.25, 0.5, 0.125, 1.0), "faces", "a/b.jpg", "v1", "s3://faces/a/b.jpg"),
            Image("audit", 0),
            Image("audit", 1),
        ),
        (("A", "b"), ("C", None)),
    )
    assert answer.image_bytes == (None, b"\xff\xd8\xff", None)


def test_empty_members_are_there_with_nothing_in_them() -> None:
    """An empty structure is no structure's absence: the image and the challenge exist, their members do not."""
    result = parse(Challenge={}, Metadata={}, ReferenceImage={}, AuditImages=[], Feedback=[{}])
    assert result.challenge == (None, None)
    assert result.sdk_type is None
    assert result.images == (Image("reference", 0),)
    assert result.feedback == ((None, None),)


def test_box_outside_the_image_is_legal() -> None:
    """Left and Top may be negative or above 1; a missing side is None."""
    result = parse(ReferenceImage={"BoundingBox": {"Left": -0.25, "Top": 1.5, "Width": 3}})
    assert result.images[0].box == Box(-0.25, 1.5, 3.0, None)


def test_status_that_this_version_does_not_know_is_kept() -> None:
    """A new status of the service is data, not an error."""
    assert parse(Status="PAUSED").status == "PAUSED"


def test_image_without_a_whole_s3_object_has_no_address() -> None:
    """A bucket without a name is kept as it is and refers to nothing."""
    image = parse(ReferenceImage={"S3Object": {"Bucket": "faces"}}).images[0]
    assert (image.s3_bucket, image.s3_name, image.image_uri) == ("faces", None, None)


@pytest.mark.parametrize(
    "members",
    [
        {"Status": None},
        {"Status": ""},
        {"Status": 5},
        {"Status": ["SUCCEEDED"]},
        {"SessionId": None},
        {"SessionId": SECRET},
        {"SessionId": SESSION_ID.upper()},
        {"SessionId": [SESSION_ID]},
        {"Confidence": SECRET},
        {"Confidence": "99.5"},
        {"Confidence": True},
        {"Confidence": math.nan},
        {"Confidence": math.inf},
        {"Confidence": 1e308},
        {"Confidence": -0.001},
        {"Confidence": 10**400},
        {"Challenge": SECRET},
        {"Challenge": [{"Type": SECRET}]},
        {"Challenge": {"Type": 7}},
        {"Metadata": [SECRET]},
        {"Metadata": {"SDKType": {}}},
        {"ReferenceImage": SECRET},
        {"ReferenceImage": {"Bytes": SECRET}},
        {"ReferenceImage": {"S3Object": SECRET}},
        {"ReferenceImage": {"S3Object": {"Bucket": 1}}},
        {"ReferenceImage": {"BoundingBox": [0.1, 0.2, 0.3, 0.4]}},
        {"ReferenceImage": {"BoundingBox": {"Left": "0.5"}}},
        {"ReferenceImage": {"BoundingBox": {"Left": math.nan}}},
        {"ReferenceImage": {"BoundingBox": {"Width": -math.inf}}},
        {"AuditImages": {"0": {}}},
        {"AuditImages": [{}, SECRET]},
        {"AuditImages": [{}] * 101},
        {"Feedback": SECRET},
        {"Feedback": [None]},
        {"Feedback": [{}] * 101},
        {"Feedback": [{"Message": "x" * 4097}]},
        {"Challenge": {"Type": f"{SECRET}\ud800"}},
    ],
    ids=repr,
)
def test_wrong_member_makes_the_whole_answer_unreadable(members: dict[str, Any]) -> None:
    """A wrong type, a number that is none, too much of something or half a character: refused, and not quoted."""
    with pytest.raises(UnreadableAnswer) as caught:
        parse(**members)
    said = str(caught.value)
    assert said
    assert SECRET not in said
    assert SESSION_ID not in said
    assert len(said) < 80


@pytest.mark.parametrize("member", ["SessionId", "Status"])
def test_answer_without_id_or_status_is_unreadable(member: str) -> None:
    """A cut body reaches us as a dict with members missing."""
    with pytest.raises(UnreadableAnswer):
        parse_result(SESSION_ID, {name: value for name, value in LEAST.items() if name != member})


def test_answer_does_not_show_its_image_bytes() -> None:
    """Neither repr nor str of an Answer holds bytes, so that no log line or exception can."""
    answer = parse_result(SESSION_ID, LEAST | {"ReferenceImage": {"Bytes": b"face"}})
    assert isinstance(answer, Answer)
    assert "face" not in f"{answer!r} {answer} {answer.result!r}"


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)) | st.binary()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


def structure(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly the member's own type, sometimes anything, and any of them absent."""
    return st.fixed_dictionaries({}, optional={name: value | JSON for name, value in members.items()})


TEXT = st.text(st.characters(codec=None), max_size=20)
IMAGES = structure(
    BoundingBox=structure(Left=st.floats(), Top=st.floats(), Width=st.floats(), Height=st.integers()),
    S3Object=structure(Bucket=TEXT, Name=TEXT, Version=TEXT),
    Bytes=st.binary(max_size=20),
)
ANSWERS = st.fixed_dictionaries(
    {"SessionId": st.just(SESSION_ID), "Status": st.sampled_from(["SUCCEEDED", "FAILED", "EXPIRED"]) | TEXT},
    optional={
        "Confidence": st.floats(0, 100) | SCALARS,
        "Challenge": structure(Type=TEXT, Version=TEXT),
        "Metadata": structure(SDKType=TEXT),
        "ReferenceImage": IMAGES,
        "AuditImages": st.lists(IMAGES, max_size=5) | JSON,
        "Feedback": st.lists(structure(Code=TEXT, Message=TEXT), max_size=5) | JSON,
    },
)


@given(st.dictionaries(st.sampled_from(["SessionId", "Status", "Confidence", "AuditImages", "x"]), JSON) | ANSWERS)
def test_whatever_the_answer_holds_it_is_landed_or_refused(answer: dict[str, Any]) -> None:
    """No JSON raises anything but UnreadableAnswer, and what is parsed makes a row that Parquet takes as it is."""
    try:
        parsed = parse_result(SESSION_ID, answer)
    except UnreadableAnswer:
        return
    assert len(parsed.image_bytes) == len(parsed.result.images)
    origin, ask = Origin("default", "us-east-1", "run"), Ask(SESSION_ID, date(2026, 1, 1), 1_767_225_600.0)
    row = answer_row(origin, ask, parsed.result, all_kept=True, fetched_at=1_767_225_601.0, attempts=1)
    landed = pa.Table.from_pylist([row], schema=tables.LANDING)
    landed.validate(full=True)
    back = landed.to_pylist()[0]
    assert (back["status"], back["confidence"]) == (answer["Status"], answer.get("Confidence"))
    assert len(back["images"]) == len(parsed.result.images)


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("User: arn:aws:iam::123456789012:user/jane is not authorized", "User: arn:*** is not authorized"),
        ("role (arn:aws-cn:sts::123456789012:assumed-role/r/s), denied", "role (arn:***), denied"),
        ("account 123456789012 is not enabled", "account ************ is not enabled"),
        ("123456789012,210987654321", "************,************"),
        ("id 1234567890123 and 12345678901", "id 1234567890123 and 12345678901"),
        (f"cannot parse {'/9j+' * 40}==, sorry", "cannot parse ***, sorry"),
        ("half a character \ud800", "half a character ?"),
        ("", ""),
    ],
)
def test_message_is_kept_without_account_or_image_data(message: str, kept: str) -> None:
    """ARNs, account numbers and long runs of base64 are masked; other digits and words stay."""
    assert masked(message) == kept


def test_message_is_cut() -> None:
    """A service that sends a page of text fills no column with it."""
    assert len(masked("word " * 10_000)) == 500
