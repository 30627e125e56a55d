"""Which sessions there are, and how they move from CREATED to their end."""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from liveness_etl.local import LocalConfig, LocalRekognition, session_ids
from liveness_etl.local.sessions import Session, outcome_at, stateless_outcome
from tests.local import raw

ONE, TWO, THREE = session_ids(1, 3)
NOON = 1_760_000_000.0
NEVER_UNSTARTED = {"SUCCEEDED": 1.0}


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def status_of(client: Any, session_id: str) -> str:
    """The status, or the error code."""
    try:
        return client.get_face_liveness_session_results(SessionId=session_id)["Status"]
    except ClientError as error:
        return error.response["Error"]["Code"]


def test_session_ids_are_lower_case_uuids_the_same_for_the_same_seed() -> None:
    """A longer series begins like a shorter one."""
    ids = list(session_ids(5, 1000))
    assert len(set(ids)) == 1000
    assert all(re.fullmatch("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", i) for i in ids)
    assert list(session_ids(5, 10)) == ids[:10]
    assert set(session_ids(6, 1000)).isdisjoint(ids)


def test_an_added_session_goes_from_created_to_its_end_and_expires(connect: Callable[[str], Any]) -> None:
    """Every step happens at its age, by the clock that was given."""
    clock = Clock(NOON)
    config = LocalConfig(outcome_shares=NEVER_UNSTARTED, start_seconds=5, finish_seconds=20)
    with LocalRekognition(config, clock=clock) as rekognition:
        client = connect(rekognition.endpoint_url)
        rekognition.add_session(ONE)
        rekognition.add_session(TWO, outcome="FAILED")
        seen = []
        for age in (0, 4.9, 5, 19.9, 20, 179.9, 180, 1000):
            clock.now = NOON + age
            seen.append((status_of(client, ONE), status_of(client, TWO)))
        assert seen == [
            ("CREATED", "CREATED"),
            ("CREATED", "CREATED"),
            ("IN_PROGRESS", "IN_PROGRESS"),
            ("IN_PROGRESS", "IN_PROGRESS"),
            ("SUCCEEDED", "FAILED"),
            ("SUCCEEDED", "FAILED"),
            ("EXPIRED", "EXPIRED"),
            ("EXPIRED", "EXPIRED"),
        ]
        rekognition.configure(expired_answer="SessionNotFoundException")
        assert status_of(client, ONE) == "SessionNotFoundException"
        rekognition.configure(ttl_seconds=None)
        assert status_of(client, ONE) == "SUCCEEDED"


def test_sessions_can_be_added_with_the_time_of_their_creation(connect: Callable[[str], Any]) -> None:
    """A manifest's created_at and the server's expiry agree."""
    with LocalRekognition(LocalConfig(outcome_shares=NEVER_UNSTARTED), clock=lambda: NOON) as rekognition:
        rekognition.add_sessions([(ONE, NOON - 300), (TWO, NOON - 30), (THREE, NOON - 10)])
        client = connect(rekognition.endpoint_url)
        assert [status_of(client, each) for each in (ONE, TWO, THREE)] == [
            "EXPIRED",
            "SUCCEEDED",
            "IN_PROGRESS",
        ]


def test_a_share_of_added_sessions_is_never_started() -> None:
    """Some people never open the camera; their session stays CREATED until it expires."""
    config = LocalConfig(outcome_shares={"SUCCEEDED": 0.6, "FAILED": 0.2, "CREATED": 0.1, "EXPIRED": 0.1})
    session = Session(NOON)
    seen = Counter(outcome_at(config, each, session, NOON + 100) for each in session_ids(1, 4000))
    assert seen.keys() == {"SUCCEEDED", "FAILED", "CREATED"}
    assert 0.10 < seen["CREATED"] / 4000 < 0.13
    assert 0.20 < seen["FAILED"] / 4000 < 0.25


def test_an_unknown_id_is_not_found_unless_any_is_answered(connect: Callable[[str], Any]) -> None:
    """answer_any makes a finished session of every UUID."""
    with LocalRekognition(LocalConfig(outcome_shares=NEVER_UNSTARTED)) as rekognition:
        client = connect(rekognition.endpoint_url)
        assert status_of(client, ONE) == "SessionNotFoundException"
        rekognition.configure(answer_any=True)
        assert status_of(client, ONE) == "SUCCEEDED"


def test_outcomes_of_any_id_follow_the_shares_and_depend_on_seed_and_id_alone() -> None:
    """The same id answers the same at every ask, and in every process."""
    config = LocalConfig(answer_any=True)
    ids = list(session_ids(1, 5000))
    outcomes = [stateless_outcome(config, each) for each in ids]
    seen = Counter(outcomes)
    assert seen.keys() == config.outcome_shares.keys()
    for outcome, share in config.outcome_shares.items():
        assert seen[outcome] / 5000 == pytest.approx(share, abs=0.015)
    assert outcomes == [stateless_outcome(config, each) for each in ids]
    assert outcomes != [stateless_outcome(replace(config, seed=1), each) for each in ids]


def test_a_created_session_brings_its_images_the_way_it_asked_for(connect: Callable[[str], Any]) -> None:
    """With OutputConfig they are in that bucket, without it they come inline; AuditImagesLimit holds."""
    clock = Clock(NOON)
    with LocalRekognition(LocalConfig(outcome_shares=NEVER_UNSTARTED), clock=clock) as rekognition:
        client = connect(rekognition.endpoint_url)
        output = {"S3Bucket": "my-bucket", "S3KeyPrefix": "p/q"}
        in_s3 = [
            client.create_face_liveness_session(Settings={"OutputConfig": output, "AuditImagesLimit": 2})
            for _ in range(10)
        ]
        inline = [client.create_face_liveness_session() for _ in range(10)]
        assert len({created["SessionId"] for created in in_s3 + inline}) == 20
        assert status_of(client, inline[0]["SessionId"]) == "CREATED"
        clock.now += 60
        for created in in_s3:
            answer = client.get_face_liveness_session_results(SessionId=created["SessionId"])
            assert len(answer.get("AuditImages", [])) <= 2
            for image in [answer.get("ReferenceImage"), *answer.get("AuditImages", [])]:
                if image is not None:
                    assert image["S3Object"]["Bucket"] == "my-bucket"
                    assert image["S3Object"]["Name"].startswith(f"p/q/{created['SessionId']}/")
        for created in inline:
            answer = client.get_face_liveness_session_results(SessionId=created["SessionId"])
            assert answer.get("AuditImages", []) == []
            assert answer.get("ReferenceImage", {"Bytes": b"\xff\xd8"})["Bytes"].startswith(b"\xff\xd8")


def test_a_client_request_token_names_one_session(connect: Callable[[str], Any]) -> None:
    """CreateFaceLivenessSession is idempotent by its token."""
    with LocalRekognition() as rekognition:
        client = connect(rekognition.endpoint_url)
        ids = [client.create_face_liveness_session(ClientRequestToken=token)["SessionId"] for token in ("a", "a", "b")]
        assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    "settings",
    [{"AuditImagesLimit": 5}, {"AuditImagesLimit": "2"}, {"OutputConfig": {}}, {"OutputConfig": "x"}, "x"],
)
def test_creating_a_session_with_nonsense_is_an_invalid_parameter(connect: Callable[[str], Any], settings: Any) -> None:
    """As the service would say."""
    with LocalRekognition() as rekognition, raw.connect(rekognition.port) as connection:
        connection.sendall(raw.request(json.dumps({"Settings": settings}).encode(), raw.CREATE))
        status, body = next(raw.answers(connection))
        assert (status, json.loads(body)["__type"]) == (400, "InvalidParameterException")
