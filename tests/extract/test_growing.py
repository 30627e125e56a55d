"""Which objects of a growing manifest are looked at, and in which order: decided by plain values."""

import os
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from liveness_etl.errors import ManifestError
from liveness_etl.extract.growing import (
    GrowingFile,
    considered_dates,
    first_chunk,
    is_growing,
    list_growing,
    sort_files,
)
from liveness_etl.extract.manifest import InputFile
from tests.extract.manifest_reading import Objects

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0


def file(name: str, age: float, size: int = 10) -> GrowingFile:
    return GrowingFile(InputFile(name, size, f"tag of {name}", NOW - age), None)


@pytest.mark.parametrize(
    ("uri", "growing"),
    [
        ("s3://backend/sessions/", True),
        ("s3://backend/sessions/{date}/", True),
        ("s3://backend/sessions/one.csv", False),
        ("incoming/*.csv", True),
        ("incoming/one.csv", False),
        ("https://host/*/", False),
    ],
)
def test_a_prefix_and_a_glob_grow_and_a_file_does_not(uri: str, growing: bool) -> None:
    """An address tells by itself."""
    assert is_growing(uri) == growing


def test_a_local_file_with_a_star_in_its_name_does_not_grow(tmp_path: Path) -> None:
    """As everywhere, a file of that name goes before the pattern."""
    (tmp_path / "a*.csv").touch()
    assert not is_growing(str(tmp_path / "a*.csv"))


def test_objects_are_sorted_by_what_can_still_be_alive_in_them() -> None:
    """Written within the sessions' life and a minute of clock differences: fresh. All else youngest first, up to the
    first day that is considered; what is done is nowhere."""
    files = [file("older", 5_000), file("done", 1), file("new", 30), file("slack", 239), file("old", 241)]
    files += [file("left", 3 * DAY), file("left and done", 3 * DAY)]
    found = sort_files(
        files, {files[1].version, files[-1].version}, now=NOW, ttl_seconds=180, first_day=date(2026, 2, 28)
    )
    assert [each.file.uri for each in found.fresh] == ["new", "slack"]
    assert [each.file.uri for each in found.expired] == ["old", "older"]
    assert found.left_alone == 1


def test_another_version_of_a_done_object_is_not_done() -> None:
    """The ETag or the size differs."""
    old, new = file("one", 10), file("one", 5, size=11)
    assert sort_files([new], {old.version}, now=NOW, ttl_seconds=180, first_day=date(2026, 3, 1)).fresh == (new,)
    renamed = GrowingFile(old.file._replace(uri="two"), None)
    retagged = GrowingFile(old.file._replace(etag="other"), None)
    assert len({each.version for each in (old, new, renamed, retagged)}) == 4
    assert old.version == file("one", 99).version


def test_expired_objects_are_taken_in_chunks_of_at_least_one() -> None:
    """By bytes or by number, whichever is first."""
    files = tuple(file(str(number), 500, size=40) for number in range(6))
    assert len(first_chunk(files, most_bytes=100, most_files=100)) == 2
    assert len(first_chunk(files, most_bytes=10, most_files=100)) == 1
    assert len(first_chunk(files, most_bytes=10**6, most_files=4)) == 4
    assert first_chunk((), most_bytes=10, most_files=4) == ()


def test_dates_are_those_of_the_lookback_and_the_run() -> None:
    """The oldest first."""
    assert considered_dates(date(2026, 3, 1), 2) == [date(2026, 2, 27), date(2026, 2, 28), date(2026, 3, 1)]


def test_a_dated_prefix_is_listed_for_each_date_which_is_that_of_its_lines() -> None:
    """A line without created_at belongs to its prefix's day, not to the day of the sweep."""
    objects = Objects(
        {"s3://b/2026-03-01/a.csv": b"x", "s3://b/2026-03-02/b.csv": b"x", "s3://b/2026-02-01/c.csv": b""}
    )
    dates = [date(2026, 3, 1), date(2026, 3, 2)]
    found = list_growing("s3://b/{date}/", dates, objects, must_exist=True).files
    assert [(each.file.uri, each.date) for each in found] == [
        ("s3://b/2026-03-01/a.csv", dates[0]),
        ("s3://b/2026-03-02/b.csv", dates[1]),
    ]


def test_an_object_of_an_unknown_kind_does_not_hide_the_others() -> None:
    """It is a sentence. Empty markers are not even that."""
    listing = list_growing(
        "s3://b/",
        [None],
        Objects({"s3://b/a.csv": b"x", "s3://b/b.bak": b"x", "s3://b/_SUCCESS": b""}),
        must_exist=True,
    )
    assert [each.file.uri for each in listing.files] == ["s3://b/a.csv"]
    (problem,) = listing.problems
    assert problem.startswith("s3://b/b.bak has an unknown extension (.bak)")


def test_nothing_there_is_an_error_where_the_contract_says_so(tmp_path: Path) -> None:
    """A glob or a date that matches nothing, at the start; an empty prefix is an empty run."""
    nothing = str(tmp_path / "*.csv")
    with pytest.raises(ManifestError, match="check the pattern"):
        list_growing(nothing, [None], None, must_exist=True)
    assert list_growing(nothing, [None], None, must_exist=False).files == ()
    assert list_growing("s3://b/", [None], Objects({}), must_exist=True).files == ()
    with pytest.raises(ManifestError, match="check the pattern"):
        list_growing("s3://b/{date}/", [date(2026, 3, 1)], Objects({}), must_exist=True)


def test_local_files_have_the_time_of_their_last_change(tmp_path: Path) -> None:
    """Folders that match are no files."""
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "one.csv").write_text("session_id\n")
    os.utime(tmp_path / "one.csv", (NOW, NOW))
    (found,) = list_growing(str(tmp_path / "*.csv"), [None], None, must_exist=True).files
    assert (found.file.uri, found.file.modified) == (str(tmp_path / "one.csv"), NOW)
