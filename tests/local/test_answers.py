"""What made-up sessions answer."""

import base64
import json
import re
from collections import Counter
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.model import ListShape, Shape, StringShape, StructureShape

from liveness_etl.local import LocalConfig, LocalRekognition, session_ids
from liveness_etl.local.answers import make_answer
from liveness_etl.local.config import LARGEST_IMAGE_BYTES
from tests.local.raw import ask

CONFIG = LocalConfig(seed=7, answer_any=True)
IDS = list(session_ids(7, 3000))


def find_faults(shape: Shape, value: Any, path: str = "answer") -> list[str]:
    """What of a JSON value breaks botocore's own description of it, as sentences."""
    if isinstance(shape, StructureShape):
        if not isinstance(value, dict):
            return [f"{path} is no object"]
        faults = [f"{path}.{name} is missing" for name in shape.required_members if name not in value]
        faults += [f"{path}.{name} is not in the model" for name in value if name not in shape.members]
        for name in value.keys() & shape.members.keys():
            faults += find_faults(shape.members[name], value[name], f"{path}.{name}")
        return faults
    if isinstance(shape, ListShape):
        if not isinstance(value, list):
            return [f"{path} is no list"]
        faults = find_length_faults(shape, len(value), path)
        for index, member in enumerate(value):
            faults += find_faults(shape.member, member, f"{path}[{index}]")
        return faults
    if shape.type_name == "float":
        if isinstance(value, bool) or not isinstance(value, int | float):
            return [f"{path} is no number"]
        return [] if "max" not in shape.metadata else find_length_faults(shape, value, path)
    if not isinstance(value, str):
        return [f"{path} is no text"]
    if shape.type_name == "blob":
        return find_length_faults(shape, len(base64.b64decode(value, validate=True)), path)
    assert isinstance(shape, StringShape), shape
    faults = find_length_faults(shape, len(value), path)
    if shape.enum and value not in shape.enum:
        faults.append(f"{path} is not in the enum")
    pattern = shape.metadata.get("pattern")
    if pattern and not re.fullmatch(pattern, value):
        faults.append(f"{path} does not match the pattern")
    return faults


def find_length_faults(shape: Shape, size: float, path: str) -> list[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    faults = []
    if least is not None and size < least:
        faults.append(f"{path} is below the least")
    if most is not None and size > most:
        faults.append(f"{path} is above the most")
    return faults


@pytest.fixture(scope="module")
def output_shape(aws: boto3.Session) -> Shape:
    service_model = aws.client("rekognition").meta.service_model
    shape = service_model.operation_model("GetFaceLivenessSessionResults").output_shape
    assert shape is not None
    return shape


@pytest.fixture(scope="module")
def finished() -> list[dict[str, Any]]:
    return [make_answer(CONFIG, session_id, "SUCCEEDED") for session_id in IDS]


def test_every_answer_of_the_server_fits_the_service_model(output_shape: Shape) -> None:
    """Nothing that AWS could not have sent is sent, whatever the outcome and the image mode."""
    statuses = Counter()
    with LocalRekognition(CONFIG) as rekognition:
        for mode in ("s3", "inline", "mixed", "none"):
            rekognition.configure(image_mode=mode, image_bytes=300)
            for status, body in ask(rekognition.port, IDS[:1000]):
                answer = json.loads(body)
                if status == 200:
                    assert find_faults(output_shape, answer) == []
                statuses[answer.get("Status", answer.get("__type"))] += 1
    assert statuses.keys() == {
        "SUCCEEDED",
        "FAILED",
        "CREATED",
        "IN_PROGRESS",
        "EXPIRED",
        "SessionNotFoundException",
    }


def test_the_largest_image_is_still_within_the_model(output_shape: Shape) -> None:
    """The upper end of image_bytes is the service's own."""
    config = replace(CONFIG, image_mode="inline", image_bytes=LARGEST_IMAGE_BYTES)
    for session_id in IDS[:20]:
        assert find_faults(output_shape, make_answer(config, session_id, "SUCCEEDED")) == []


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("Status", "DONE"),
        ("Status", None),
        ("Confidence", 100.5),
        ("Surprise", 1),
        ("Feedback", [{"Code": "FACE_NOT_VISIBLE", "Message": "m"}] * 11),
        ("Challenge", {"Type": "FaceMovementChallenge"}),
        ("ReferenceImage", {"Bytes": ""}),
        ("ReferenceImage", {"BoundingBox": {"Left": "0.5"}}),
        ("SessionId", "nonsense"),
    ],
)
def test_the_comparison_with_the_model_finds_what_is_wrong(output_shape: Shape, member: str, value: Any) -> None:
    """The check of these tests is no rubber stamp."""
    answer = {"SessionId": IDS[0], "Status": "SUCCEEDED", member: value}
    assert find_faults(output_shape, answer) != []


def test_the_same_seed_and_id_answer_the_same_and_another_seed_differs() -> None:
    """A benchmark can be repeated, and varied."""
    ids = IDS[:50]
    once = [make_answer(CONFIG, session_id, "SUCCEEDED") for session_id in ids]
    assert once == [make_answer(CONFIG, session_id, "SUCCEEDED") for session_id in ids]
    other = replace(CONFIG, seed=8)
    assert all(a != make_answer(other, i, "SUCCEEDED") for a, i in zip(once, ids, strict=True))


def test_scores_of_succeeded_sessions_have_two_humps(finished: list[dict[str, Any]]) -> None:
    """Live people crowd below 100, attacks are low, and little lies between."""
    scores = [answer["Confidence"] for answer in finished]
    low = sum(score < 40 for score in scores) / len(scores)
    between = sum(40 <= score < 85 for score in scores) / len(scores)
    high = sum(score >= 95 for score in scores) / len(scores)
    assert 0.03 < low < 0.10
    assert between < 0.02
    assert high > 0.85
    assert sum(score > 99.9 for score in scores) / len(scores) > 0.15


def test_challenges_differ_in_their_scores(finished: list[dict[str, Any]]) -> None:
    """An analysis by challenge has something to find."""
    live: dict[tuple[str, str], list[float]] = {}
    for answer in finished:
        if "Challenge" in answer and answer["Confidence"] > 60:
            challenge = (answer["Challenge"]["Type"], answer["Challenge"]["Version"])
            live.setdefault(challenge, []).append(answer["Confidence"])
    means = {challenge: sum(scores) / len(scores) for challenge, scores in live.items()}
    assert len(means) == 4
    assert means["FaceMovementAndLightChallenge", "2.0.0"] > means["FaceMovementChallenge", "1.0.0"] + 0.5


def test_every_legal_oddity_occurs(finished: list[dict[str, Any]]) -> None:
    """Absent members, boxes outside of the image, images without a box, 0 to 4 audit images."""
    images = [
        image
        for answer in finished
        for image in [answer.get("ReferenceImage"), *answer.get("AuditImages", [])]
        if image is not None
    ]
    boxes = [image["BoundingBox"] for image in images if "BoundingBox" in image]
    assert len(boxes) < len(images)
    for side in ("Left", "Top"):
        assert any(box[side] < 0 for box in boxes)
        assert any(box[side] > 1 for box in boxes)
    for member in ("ReferenceImage", "AuditImages", "Challenge", "Feedback", "Metadata"):
        assert 0 < sum(member in answer for answer in finished) < len(finished)
    assert {len(answer["AuditImages"]) for answer in finished if "AuditImages" in answer} == {0, 1, 2, 3, 4}
    assert max(len(answer.get("Feedback", [])) for answer in finished) == 10
    assert 0 < sum("Version" in image["S3Object"] for image in images) < len(images)


def test_failed_sessions_have_no_feedback_and_seldom_a_score() -> None:
    """Feedback belongs to SUCCEEDED alone."""
    failed = [make_answer(CONFIG, session_id, "FAILED") for session_id in IDS]
    assert not any("Feedback" in answer for answer in failed)
    assert 0.02 < sum("Confidence" in answer for answer in failed) / len(failed) < 0.10


@pytest.mark.parametrize("status", ["CREATED", "IN_PROGRESS", "EXPIRED"])
def test_unfinished_sessions_answer_their_status_alone(status: str) -> None:
    """No result before the end, and none after the expiry."""
    assert make_answer(CONFIG, IDS[0], status) == {"SessionId": IDS[0], "Status": status}


def test_inline_images_are_jpegs_of_the_wanted_size_that_differ_and_hold_the_marker() -> None:
    """Tests of leaks look for the marker, in the bytes or in their base64."""
    marker = b"do-not-leak!"
    config = replace(CONFIG, image_mode="inline", image_bytes=1000, image_marker=marker)
    encoded = [
        image["Bytes"]
        for session_id in IDS[:50]
        for answer in [make_answer(config, session_id, "SUCCEEDED")]
        for image in [answer.get("ReferenceImage", {}), *answer.get("AuditImages", [])]
        if image
    ]
    decoded = [base64.b64decode(text) for text in encoded]
    assert len(decoded) > 100
    assert len(set(decoded)) == len(decoded)
    assert {len(image) for image in decoded} == {1000}
    assert all(image.startswith(b"\xff\xd8\xff") and image.endswith(b"\xff\xd9") for image in decoded)
    assert all(marker in image for image in decoded)
    assert all(base64.b64encode(marker).decode() in text for text in encoded)


def test_image_mode_decides_how_images_come() -> None:
    """S3Object, Bytes, one way or the other for each session, or none."""
    kinds = {}
    for mode in ("s3", "inline", "mixed", "none"):
        config = replace(CONFIG, image_mode=mode, image_bytes=64)
        kinds[mode] = Counter(
            kind
            for session_id in IDS[:200]
            for image in [make_answer(config, session_id, "SUCCEEDED").get("ReferenceImage", {})]
            for kind in image.keys() & {"Bytes", "S3Object"}
        )
    assert kinds["s3"].keys() == {"S3Object"}
    assert kinds["inline"].keys() == {"Bytes"}
    assert min(kinds["mixed"]["Bytes"], kinds["mixed"]["S3Object"]) > 50
    assert not kinds["none"]


def test_s3_objects_are_named_as_in_public_backends(finished: list[dict[str, Any]]) -> None:
    """`<prefix>/<session id>/reference.jpg`."""
    answer = next(answer for answer in finished if "ReferenceImage" in answer)
    s3_object = answer["ReferenceImage"]["S3Object"]
    assert s3_object["Bucket"] == "liveness-images"
    assert s3_object["Name"] == f"sessions/{answer['SessionId']}/reference.jpg"


def test_members_of_a_newer_service_are_added_where_they_belong() -> None:
    """To the answer, to structures and entries that are there; what is there already stays as it is."""
    extra = {"Score": 1, "Challenge": {"Level": 2}, "AuditImages": {"Blur": 3, "BoundingBox": {"Depth": 4, "Left": 5}}}
    config = LocalConfig(answer_any=True, extra_members=extra)
    for session_id in IDS[:200]:
        plain = make_answer(LocalConfig(answer_any=True), session_id, "SUCCEEDED")
        newer = make_answer(config, session_id, "SUCCEEDED")
        assert newer.pop("Score") == 1
        assert "Challenge" not in plain or newer["Challenge"].pop("Level") == 2
        for image in newer.get("AuditImages", []):
            assert image.pop("Blur") == 3
            assert "BoundingBox" not in image or image["BoundingBox"].pop("Depth") == 4
        assert newer == plain
