"""An answer's JSON against botocore's model: what botocore would pass over is refused, or noticed by name."""

import base64
import contextlib
import json
from collections import Counter
from typing import Any

import botocore.parsers
import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liveness_etl.extract.members import ANSWER, MOST_NAMES, OTHER, UNMODELLED, count_members, read_members
from liveness_etl.extract.retry import CallFailed
from liveness_etl.local import LocalConfig
from liveness_etl.local.answers import make_answer
from liveness_etl.transform.result import UnreadableAnswer, parse_result
from tests.running import ids

MODEL = botocore.session.get_session().get_service_model("rekognition")
SHAPE = MODEL.operation_model("GetFaceLivenessSessionResults").output_shape
READ = read_members(SHAPE)
(ONE,) = ids(1)
LEAST = {"SessionId": ONE, "Status": "SUCCEEDED"}


def unmodelled(answer: object, status: int = 200) -> set[str]:
    """The names that are noticed in an answer."""
    found: dict[str, Any] = {}
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    READ(response_dict={"status_code": status, "body": body}, customized_response_dict=found)
    return set(found.get(UNMODELLED, ()))


def test_answer_of_the_installed_model_holds_nothing_unknown() -> None:
    """All that the stand-in makes is modelled; so is a null."""
    for mode in ("s3", "inline"):
        config = LocalConfig(answer_any=True, image_mode=mode, image_bytes=64)
        for session_id in ids(200):
            assert not unmodelled(make_answer(config, session_id, "SUCCEEDED"))
    assert not unmodelled(LEAST | {"Confidence": None, "AuditImages": None, "Challenge": None})


def test_every_member_of_the_model_is_known_at_its_place() -> None:
    """A newer botocore models more, and then less is noticed: the model is read, not written down here."""
    assert unmodelled(LEAST | {"Bytes": "QQ==", "BoundingBox": {}}) == {"Bytes", "BoundingBox"}
    assert unmodelled(dict.fromkeys(SHAPE.members)) == set()


def test_unknown_members_are_noticed_by_their_dotted_names_wherever_they_stand() -> None:
    """In the answer, in structures, in entries of lists (once), whatever their value; nothing of the value is kept."""
    answer = LEAST | {
        "Score": {"Secret": 1},
        "ReferenceImage": {"Blur": None, "BoundingBox": {"Left": 0.1, "Depth": 1}, "S3Object": {"Etag": "x"}},
        "AuditImages": [{}, {"Blur": 1}, {"Blur": [2], "BoundingBox": {"Depth": 1}}],
        "Feedback": [{"Code": "A", "Language": "en"}],
    }
    assert unmodelled(answer) == {
        "Score",
        "ReferenceImage.Blur",
        "ReferenceImage.BoundingBox.Depth",
        "ReferenceImage.S3Object.Etag",
        "AuditImages.Blur",
        "AuditImages.BoundingBox.Depth",
        "Feedback.Language",
    }


@pytest.mark.parametrize("name", ["", "a b", "1st", "é", "x" * 64, "a.b", "a\n", "\ud800", "[red]", "/9j/4AAQ=="])
def test_name_that_is_no_plain_word_is_not_kept(name: str) -> None:
    """It may be anything, and it would stand in a table and on a terminal."""
    assert unmodelled(LEAST | {name: 1}) == {OTHER}


def test_error_is_not_looked_at() -> None:
    """It is no answer, and its members are others."""
    assert unmodelled({"__type": "ThrottlingException"}, status=400) == set()
    assert unmodelled(b"<html>", status=503) == set()


def test_number_of_different_names_is_bounded() -> None:
    """A server that makes up a name for each answer fills no memory; what was known before is still counted."""
    counts: Counter[str] = Counter()
    for number in range(1_000):
        count_members(counts, ["Known", f"New{number}", f"Newer{number}"])
    assert len(counts) == MOST_NAMES + 1
    assert counts["Known"] == 1_000
    assert counts[OTHER] == 1_000 - 24  # answers, not names


def test_names_of_one_answer_are_bounded_too() -> None:
    """A million of them in one answer are no more than in many."""
    counts: Counter[str] = Counter()
    count_members(counts, (f"New{number}" for number in range(1_000)))
    assert len(counts) == MOST_NAMES + 1


@pytest.mark.parametrize(
    "members",
    [
        {"SessionId": 1},
        {"Confidence": "99"},
        {"Confidence": True},
        {"Challenge": []},
        {"Challenge": ""},
        {"AuditImages": {}},
        {"AuditImages": ""},
        {"AuditImages": [None]},
        {"ReferenceImage": {"BoundingBox": {"Left": "0"}}},
        {"ReferenceImage": {"Bytes": 1}},
        *({"ReferenceImage": {"Bytes": text}} for text in ("Q", "QQ", "QQ=", "Q===", "QQ==QQ==", "QQ\n=", "QQ-_", "é")),
    ],
    ids=repr,
)
def test_member_that_botocore_would_bend_is_refused(members: dict[str, Any]) -> None:
    """The message names the member, if it is one, and no value."""
    with pytest.raises(CallFailed) as caught:
        unmodelled(LEAST | members)
    assert caught.value.code == "UnreadableAnswer"
    assert next(iter(members)) in caught.value.message


@given(st.binary(max_size=100))
def test_base64_is_decoded_whole(content: bytes) -> None:
    """What base64 gives is never refused."""
    assert unmodelled(LEAST | {"ReferenceImage": {"Bytes": base64.b64encode(content).decode()}}) == set()


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None))
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)
NAMES = ["SessionId", "Status", "Confidence", "Challenge", "ReferenceImage", "AuditImages", "Feedback", "Metadata", "x"]


def read(body: bytes) -> Any:
    """The answer that a body holds."""
    found: dict[str, Any] = {}
    READ(response_dict={"status_code": 200, "body": body}, customized_response_dict=found)
    return found[ANSWER]


def parsed_by_botocore(body: bytes) -> Any:
    parsed = botocore.parsers.JSONParser().parse({"status_code": 200, "headers": {}, "body": body}, SHAPE)
    del parsed["ResponseMetadata"]
    return parsed


def test_answer_is_what_botocore_makes_of_it() -> None:
    """All that the stand-in makes, inline images too."""
    for mode in ("s3", "inline"):
        config = LocalConfig(answer_any=True, image_mode=mode, image_bytes=64)
        for session_id in ids(100):
            body = json.dumps(make_answer(config, session_id, "SUCCEEDED")).encode()
            assert read(body) == parsed_by_botocore(body)


@given(st.dictionaries(st.sampled_from(NAMES), JSON).map(lambda members: LEAST | members) | JSON)
def test_any_json_is_refused_or_read_as_botocore_reads_it(answer: Any) -> None:
    """One failed call, or the very same answer, which we take or refuse without an error of another kind."""
    body = json.dumps(answer).encode()
    try:
        found = read(body)
    except CallFailed:
        return
    assert found == parsed_by_botocore(body)
    with contextlib.suppress(UnreadableAnswer):
        parse_result(ONE, found)
