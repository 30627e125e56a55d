"""The command `show`: what it prints, and its exit codes."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from liveness_etl.cli import main
from liveness_etl.load import publish
from liveness_etl.load.tombstones import put_tombstones
from liveness_etl.storage_folder import LocalStore
from tests.landing_rows import DT, image, land, row, session_id

Show = Callable[..., tuple[int, str, str]]
HOSTILE = "\x1b[2Jred\x07\nnext line"


@pytest.fixture
def show(folder_store: LocalStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Show:
    """Runs the command over an output with one session of many things; exit code, standard output and error."""
    box = {"left": -0.1, "top": 0.25, "width": 0.5, "height": 0.4}
    images = [image(kind="reference", box=box, image_uri="s3://faces/r.jpg", s3_bucket="faces"), image(0)]
    land(
        folder_store,
        [
            row(1, None, error_code="ThrottlingException", run_id="run-0"),
            row(1, images=images, confidence=98.76543, feedback=[{"code": "DARK", "message": HOSTILE}]),
        ],
    )
    publish.publish_partition(folder_store, DT)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["liveness-etl", "show", *arguments, "--output", folder_store.uri])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, printed.out, printed.err

    return run


def test_session_is_printed_for_people(show: Show) -> None:
    """Row, children and landing rows; upper case and blanks around the id do not matter."""
    code, out, err = show(f" {session_id(1).upper()} ")
    assert (code, err) == (0, "")
    for line in (
        f"dt={DT}",
        "  confidence     98.76543",
        "  box        left -0.1000  top 0.2500  width 0.5000  height 0.4000",
        "  image_uri  s3://faces/r.jpg",
        "landing: 2 rows",
        "  2026-01-01 08:00:00.000Z  ThrottlingException  0 images  1 call",
        "  2026-01-01 08:00:00.000Z  SUCCEEDED  confidence 98.7654  2 images  1 call",
    ):
        assert line in out.splitlines()
    assert max(map(len, out.splitlines())) <= 80


def test_what_came_from_outside_cannot_steer_the_terminal(show: Show) -> None:
    """Control characters are shown, not sent."""
    _, out, _ = show(session_id(1))
    assert r"\x1b[2Jred\x07\nnext line" in out
    assert "\x1b" not in out


def test_json_has_every_row_as_it_is_stored(show: Show) -> None:
    """For scripts; the terminal's short forms are not in it."""
    code, out, _ = show(session_id(1), "--format", "json")
    document = json.loads(out)
    assert (code, document["session_id"], document["forgotten"]) == (0, session_id(1), False)
    (partition,) = document["partitions"]
    assert (partition["dt"], partition["session"]["confidence"]) == (DT.isoformat(), 98.76543)
    assert [len(partition[name]) for name in ("challenges", "bounding_boxes", "feedback", "landing")] == [0, 2, 1, 2]
    assert partition["feedback"][0]["message"] == HOSTILE
    assert partition["landing"][0]["fetched_at"] == "2026-01-01T08:00:00+00:00"


def test_session_that_is_not_published_yet_is_said_to_be_in_landing_alone(show: Show, folder_store: LocalStore) -> None:
    """Exit code 0: it is there."""
    land(folder_store, [row(5)])
    code, out, _ = show(session_id(5))
    assert code == 0
    assert "not published yet" in out
    assert json.loads(show(session_id(5), "--format", "json")[1])["partitions"][0]["session"] is None


def test_unknown_session_is_exit_code_3(show: Show) -> None:
    """In a sentence without the id; the JSON is there for scripts."""
    code, out, err = show(session_id(9))
    assert (code, out) == (3, "")
    assert err.startswith("no such session")
    assert session_id(9) not in err
    code, out, _ = show(session_id(9), "--format", "json")
    assert (code, json.loads(out)["partitions"]) == (3, [])


def test_erased_session_is_said_to_be_erased(show: Show, folder_store: LocalStore) -> None:
    """Not: that there never was one."""
    put_tombstones(folder_store, [session_id(9)], datetime.now(UTC))
    code, out, err = show(session_id(9))
    assert (code, out) == (3, "")
    assert "erased" in err
    assert json.loads(show(session_id(9), "--format", "json")[1])["forgotten"] is True


@pytest.mark.parametrize("given", ["no id", "' OR true --", "", session_id(1) + "0", "..", "${jndi:x}"])
def test_what_is_no_session_id_is_exit_code_2(show: Show, given: str) -> None:
    """Before anything is read, and without repeating it."""
    code, out, err = show(given)
    assert (code, out) == (2, "")
    assert err.startswith("error: SESSION_ID must be a UUID")
    assert len(err.splitlines()) == 1


def test_unknown_format_is_exit_code_2(show: Show) -> None:
    """One sentence."""
    assert show(session_id(1), "--format", "csv")[::2] == (2, "error: --format must be table or json\n")
