"""What a manifest's name leads to."""

import os
from datetime import date
from pathlib import Path

import pytest

from liveness_etl.errors import ManifestError
from liveness_etl.extract.manifest import find_manifest
from liveness_etl.extract.manifest_files import Format, format_of
from tests.extract.manifest_reading import Objects

DAY = date(2026, 3, 1)


def names(folder: Path, uri: str, run_date: date | None = DAY) -> list[str]:
    return [str(Path(file.uri).relative_to(folder)) for file in find_manifest(str(folder / uri), run_date, None)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.csv", "a.csv", "deep/er/c.csv", "x[1].csv", "2026-03-01.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("session_id\n")
    return tmp_path


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("a.csv", ["a.csv"]),
        ("*.csv", ["a.csv", "b.csv", "x[1].csv"]),
        ("**/*.csv", ["a.csv", "b.csv", "deep/er/c.csv", "x[1].csv"]),
        ("deep*/**", ["deep/er/c.csv"]),
        ("x[1].csv", ["x[1].csv"]),
        ("{date}.txt", ["2026-03-01.txt"]),
        ("{date}*", ["2026-03-01.txt"]),
    ],
)
def test_paths_globs_and_dates_find_files_in_order(folder: Path, uri: str, found: list[str]) -> None:
    """Folders are left out of what a glob matches, and a file of just that name is meant before any pattern."""
    assert names(folder, uri) == found


def test_found_file_has_its_size(folder: Path) -> None:
    """The size is that of the stored bytes."""
    [file] = find_manifest(str(folder / "a.csv"), None, None)
    assert (file.uri, file.size) == (str(folder / "a.csv"), 11)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("nothing.csv", "no file .*nothing.csv: check"),
        ("*.zip", "No file matches .*: check the pattern"),
        ("no-{date}.csv", "no file .*no-2026-03-01.csv: check .*--date"),
        ("no-{date}-*.csv", "No file matches .*no-2026-03-01"),
        ("", "is a folder: give a glob such as"),
        ("deep/", "is a folder: give a glob such as"),
        ("pipe.csv", "no regular file"),
        ("dangling.csv", "no file"),
        ("n" * 300 + ".csv", "cannot be read"),
        ("nul\0.csv", "no file"),
        ("table.xlsx", r"unknown extension \(\.xlsx\).*\.parquet"),
        ("README", "unknown extension"),
        ("table.csv.bz2", r"unknown extension \(\.csv\.bz2\)"),
        ("table.parquet.gz", r"unknown extension \(\.parquet\.gz\)"),
        ("table.gz", "unknown extension"),
    ],
)
def test_what_is_no_manifest_is_an_error_that_says_what_to_do(folder: Path, uri: str, message: str) -> None:
    """Nothing was called yet, and the message tells the next step."""
    for name in ("table.xlsx", "README", "table.csv.bz2", "table.parquet.gz", "table.gz"):
        (folder / name).touch()
    os.mkfifo(folder / "pipe.csv")
    (folder / "dangling.csv").symlink_to(folder / "gone.csv")
    with pytest.raises(ManifestError, match=message):
        names(folder, uri)


def test_symbolic_link_is_followed(folder: Path) -> None:
    """`latest.csv` may point to today's file."""
    (folder / "latest.csv").symlink_to(folder / "a.csv")
    assert names(folder, "latest.csv") == ["latest.csv"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_without_read_permission_is_an_error(folder: Path) -> None:
    """Found before any call, not in the middle of the run."""
    (folder / "a.csv").chmod(0)
    with pytest.raises(ManifestError, match="Permission denied"):
        names(folder, "a.csv")


def test_date_in_the_name_needs_a_date(folder: Path) -> None:
    """Today is not guessed."""
    with pytest.raises(ManifestError, match="give the run a --date"):
        names(folder, "{date}.txt", None)


@pytest.mark.parametrize("uri", ["https://host/ids.csv?token=secret", "gs://bucket/ids.csv", "file:///ids.csv"])
def test_other_schemes_are_an_error_without_their_query(uri: str) -> None:
    """Only local paths and s3:// are read."""
    with pytest.raises(ManifestError, match=r"neither a local path nor an s3:// URI") as error:
        find_manifest(uri, DAY, None)
    assert "secret" not in str(error.value)


def test_object_and_prefix_are_found() -> None:
    """Empty markers below a prefix are left out: they hold no ids."""
    objects = Objects(
        {
            "s3://b/p/": b"",
            "s3://b/p/_SUCCESS": b"",
            "s3://b/p/b.csv": b"x",
            "s3://b/p/a.txt.gz": b"xx",
            "s3://b/p/empty.csv": b"",
            "s3://b/2026-03-01.csv": b"x",
        }
    )
    found = find_manifest("s3://b/p/", None, objects)
    assert [file.uri for file in found] == ["s3://b/p/a.txt.gz", "s3://b/p/b.csv", "s3://b/p/empty.csv"]
    assert [file.uri for file in find_manifest("s3://b/{date}.csv", DAY, objects)] == ["s3://b/2026-03-01.csv"]


def test_empty_prefix_is_an_empty_run_unless_a_date_is_in_it() -> None:
    """A prefix that the day has not filled is told apart from one that nobody fills."""
    assert find_manifest("s3://b/p/", None, Objects({})) == []
    with pytest.raises(ManifestError, match="no object below s3://b/2026-03-01/: check the --date"):
        find_manifest("s3://b/{date}/", DAY, Objects({}))


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://b/gone.csv?secret", "no object s3://b/gone.csv: check the name"),
        ("s3://b/p/*.csv", "prefix must end in /"),
        ("s3://b/p/", r"s3://b/p/report.pdf has an unknown extension \(\.pdf\)"),
    ],
)
def test_missing_or_unknown_objects_are_an_error(uri: str, message: str) -> None:
    """As with local files; a prefix is taken as a whole or not at all."""
    with pytest.raises(ManifestError, match=message) as error:
        find_manifest(uri, DAY, Objects({"s3://b/p/report.pdf": b"x"}))
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("a.csv", Format("csv")),
        ("A.JSONL.GZ", Format("json", "gzip")),
        ("a.2026.03.01.ndjson.zst", Format("json", "zstd")),
        ("s3://b/a.txt?versionId=1.csv", Format("text")),
        ("s3://b/a.csv/", None),
        ("folder.csv/a", None),
        (".csv", None),
    ],
)
def test_format_follows_the_name(uri: str, expected: Format | None) -> None:
    """Upper case counts as lower case, a query string and folders do not count."""
    assert format_of(uri) == expected
