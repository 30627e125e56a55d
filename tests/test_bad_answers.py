"""Whatever a server sends: the run ends, every id is accounted for, and good answers are as good as ever."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liveness_etl import pipeline
from liveness_etl.analysis.query import fetch
from liveness_etl.extract.answer_body import MAX_BODY_BYTES
from liveness_etl.extract.ask import Ask, Origin, answer_row
from liveness_etl.load.images import discard_images
from liveness_etl.load.publish import publish_partition
from liveness_etl.storage_folder import LocalStore
from liveness_etl.transform.result import UnreadableAnswer, parse_result
from tests.bad_answers import LEGAL, SECRET, bad_answers
from tests.hostile import Hostile, hostile
from tests.landing_rows import land
from tests.running import DT, ids, make_job, read_rows, write_manifest
from tests.transform.test_result import ANSWERS

GOOD_IDS = 150


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One run over good ids with a bad one after every other: its report, output, server, and bad ids by name."""
    folder = tmp_path_factory.mktemp("bad")
    with hostile() as elsewhere, hostile() as server:
        bad = bad_answers(elsewhere.endpoint_url)
        good_ids, bad_ids = ids(GOOD_IDS, 1), dict(zip(bad, ids(len(bad), 2), strict=True))
        server.scripts = {bad_ids[name]: send for name, (send, _) in bad.items()}
        mixed = [each for pair in zip(good_ids, bad_ids.values(), strict=False) for each in pair]
        rest = [*good_ids[len(bad_ids) :], *list(bad_ids.values())[len(good_ids) :]]
        job = make_job(
            write_manifest(folder / "manifest.csv", mixed + rest),
            folder / "output",
            server.endpoint_url,
            sweep__call_timeout_seconds=1,
            sweep__retry_attempts=2,
        )
        report = pipeline.run(job)
        yield report, folder / "output", server, bad_ids, {name: outcome for name, (_, outcome) in bad.items()}
        assert not elsewhere.asks


def test_every_id_has_one_row_with_the_outcome_that_its_answer_deserves(ran: Any) -> None:
    """Good ids among bad ones have their answers; nothing stays out of the tables because of a bad one."""
    report, output, _, bad_ids, outcomes = ran
    assert (report.exit_code, report.row["completed"], report.row["not_asked"]) == (3, True, 0)
    rows = {row["session_id"]: row for row in read_rows(output, "sessions")}
    assert len(rows) == len(read_rows(output, "sessions")) == GOOD_IDS + len(bad_ids)
    assert {name: rows[session_id]["outcome"] for name, session_id in bad_ids.items()} == outcomes
    for session_id in ids(GOOD_IDS, 1):
        assert (rows[session_id]["outcome"], rows[session_id]["confidence"]) == ("SUCCEEDED", 99.5)


def test_nothing_of_a_bad_answer_is_taken(ran: Any) -> None:
    """No member, no child row, no stored image; and the bad ids were asked again, as failures are."""
    _, output, server, bad_ids, outcomes = ran
    refused = {session_id: name for name, session_id in bad_ids.items() if name not in LEGAL}
    for row in read_rows(output, "sessions"):
        if row["session_id"] in refused:
            assert row["status"] is row["confidence"] is row["sdk_type"] is None
            assert (row["error_code"], row["attempts"]) == (outcomes[refused[row["session_id"]]], 2)
            assert server.asks[row["session_id"]] == 2
    for table in ("challenges", "bounding_boxes", "feedback"):
        assert not [row for row in read_rows(output, table) if row["session_id"] in refused]
    assert not list(output.glob("images/**/*.*"))


def test_no_text_of_a_bad_answer_is_kept(ran: Any) -> None:
    """It may be anything, a piece of an image too; and a message is short."""
    _, output, _, _, _ = ran
    for row in read_rows(output, "landing"):
        assert SECRET not in json.dumps(row, default=str)
        assert len(row["error_code"] or "") <= 63
        assert len(row["error_message"] or "") <= 500


def test_query_reads_what_was_published(ran: Any) -> None:
    """Strange texts of legal answers included."""
    _, output, _, bad_ids, outcomes = ran
    _, rows = fetch(str(output), "SELECT outcome, count(*) FROM sessions GROUP BY ALL ORDER BY ALL")
    expected = {outcome: list(outcomes.values()).count(outcome) for outcome in outcomes.values()}
    assert dict(rows) == expected | {"SUCCEEDED": expected["SUCCEEDED"] + GOOD_IDS}
    assert sum(dict(rows).values()) == GOOD_IDS + len(bad_ids)
    _, rows = fetch(str(output), "SELECT code, message FROM feedback WHERE code IS NOT NULL ORDER BY code")
    assert rows == [("'; --", '\u202e\U0001f600\n\r\t,"'), ("A\0B", "\0")]
    _, rows = fetch(str(output), "SELECT count(*) FROM bounding_boxes WHERE box_left = -1e308")
    assert rows == [(1,)]


def test_no_more_of_a_body_is_read_than_the_limit(ran: Any) -> None:
    """Of 50 MB, what the limit allows and what was under way already."""
    server: Hostile = ran[2]
    assert MAX_BODY_BYTES < max(server.sent.values()) < 3 * MAX_BODY_BYTES


@settings(max_examples=10, derandomize=True)
@given(st.lists(ANSWERS, min_size=1, max_size=30))
def test_whatever_is_taken_is_published_and_comes_back_as_it_was(answers: list[Mapping[str, Any]]) -> None:
    """Answers of odd members and odd texts: four tables that hold just what was read."""
    with tempfile.TemporaryDirectory() as folder:
        store, origin, taken, rows = LocalStore(Path(folder)), Origin("default", "us-east-1", "run-1"), {}, []
        for session_id, members in zip(ids(30), answers, strict=False):
            try:
                answer = parse_result(session_id, {**members, "SessionId": session_id})
            except UnreadableAnswer:
                continue
            taken[session_id], all_kept = discard_images(answer, DT)
            rows.append(
                answer_row(
                    origin, Ask(session_id, DT), taken[session_id], all_kept=all_kept, fetched_at=1.0, attempts=1
                )
            )
        if not rows:
            return
        land(store, rows, DT)
        assert publish_partition(store, DT).sessions == len(taken)
        sessions = {row["session_id"]: row for row in read_rows(Path(folder), "sessions")}
        assert {each: row["status"] for each, row in sessions.items()} == {
            each: result.status for each, result in taken.items()
        }
        assert {each: row["confidence"] for each, row in sessions.items()} == {
            each: result.confidence for each, result in taken.items()
        }
        feedback = sorted(
            (each, index, *entry) for each, result in taken.items() for index, entry in enumerate(result.feedback)
        )
        assert feedback == [tuple(row.values()) for row in read_rows(Path(folder), "feedback")]
        boxes = [
            (row["session_id"], row["image_type"], row["image_index"], row["s3_name"], row["image_sha256"])
            for row in read_rows(Path(folder), "bounding_boxes")
        ]
        assert sorted(boxes, key=str) == sorted(
            [
                (each, image.image_type, image.image_index, image.s3_name, image.image_sha256)
                for each, result in taken.items()
                for image in result.images
            ],
            key=str,
        )
