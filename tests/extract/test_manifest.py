"""Manifests read to the end: fixture pairs, formats on top of formats, sources, dates, limits."""

import gzip
import hashlib
import json
import time
import tracemalloc
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from liveness_etl.errors import ManifestError
from liveness_etl.extract.manifest import InputFile, ManifestOptions, find_manifest, read_manifest
from tests.extract.manifest_reading import NOW, RUN_DATE, Objects, read_files, read_path, session_id

MANIFESTS = Path(__file__).parent / "manifests"
SITUATIONS = sorted(path.stem for path in MANIFESTS.glob("*.result"))
ONE = session_id(1)


def manifest(folder: Path, content: str | bytes, name: str = "ids.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("block_bytes", [1, 60, 4 << 20])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_situation_gives_its_result_for_any_size_of_block(situation: str, block_bytes: int) -> None:
    """The fixture file `<situation>` reads as `<situation>.result` says: one JSON object per id or reject."""
    options = ManifestOptions(attributes=("country",), max_line_bytes=200)
    read = read_path(MANIFESTS / situation, options, block_bytes=block_bytes)
    result = [
        {
            "line": row["line_number"],
            "session_id": row["session_id"],
            "created_at": row["created_at"] and row["created_at"].isoformat(timespec="milliseconds"),
            "dt": row["dt"].isoformat(),
            **row["attributes"],
        }
        for row in read.ids
    ]
    result += [{"line": number, "rejected": reason} for number, reason in read.reasons]
    expected = [json.loads(line) for line in (MANIFESTS / f"{situation}.result").read_text("utf-8").splitlines()]
    assert sorted(result, key=lambda row: row["line"]) == expected


@pytest.mark.parametrize(
    "name", ["a.csv", "a.jsonl", "a.ndjson", "a.json", "a.txt", "a.csv.gz", "a.CSV.ZST", "a.parquet"]
)
def test_empty_file_is_an_empty_run(tmp_path: Path, name: str) -> None:
    """A file of no bytes has no lines and no error, whatever its format and even without a date."""
    read = read_path(manifest(tmp_path, b"", name), run_date=None)
    assert (read.lines, read.sha256) == (0, hashlib.sha256(b"").hexdigest())


def test_header_alone_is_an_empty_run_even_without_created_at_and_date(tmp_path: Path) -> None:
    """Without lines nothing needs a date."""
    assert read_path(manifest(tmp_path, "session_id\n"), run_date=None).lines == 0


@pytest.mark.parametrize("name", ["ids.txt.gz", "ids.txt.zst"])
def test_compressed_parts_one_after_the_other_are_read_as_one(tmp_path: Path, name: str) -> None:
    """gzip members and zstd frames may be concatenated, as log shippers do; the hash is of the stored bytes."""
    compress = gzip.compress if name.endswith("gz") else zstandard.compress
    stored = compress(f"{ONE}\n".encode()) + compress(f"{session_id(2)}\n".encode())
    read = read_path(manifest(tmp_path, stored, name))
    assert read.numbers == [1, 2]
    assert read.sha256 == hashlib.sha256(stored).hexdigest()


@pytest.mark.parametrize("name", ["ids.txt.gz", "ids.txt.zst"])
@pytest.mark.parametrize("damage", ["cut", "no such format", "followed by something else"])
def test_damaged_compression_is_an_error(tmp_path: Path, name: str, damage: str) -> None:
    """A file that ends early must not pass for a shorter one."""
    compress = gzip.compress if name.endswith("gz") else zstandard.compress
    stored = compress("".join(f"{session_id(i)}\n" for i in range(1000)).encode())
    broken = {"cut": stored[:-3], "no such format": b"plain text", "followed by something else": stored + b"?"}[damage]
    with pytest.raises(ManifestError, match="damaged or incomplete"):
        read_path(manifest(tmp_path, broken, name))


def test_hash_is_of_all_files_in_order(tmp_path: Path) -> None:
    """One hash for the manifest as a whole, Parquet (which is not read front to end) among them."""
    first = manifest(tmp_path, f"{ONE}\n", "a.txt")
    pq.write_table(pa.table({"session_id": [session_id(2)]}), tmp_path / "b.parquet")
    last = manifest(tmp_path, f"{session_id(3)}\n", "c.txt")
    read = read_path(tmp_path / "*")
    stored = b"".join(path.read_bytes() for path in (first, tmp_path / "b.parquet", last))
    assert read.sha256 == hashlib.sha256(stored).hexdigest()
    assert [row["session_id"] for row in read.ids] == [session_id(i) for i in (1, 2, 3)]


def test_hash_is_refused_before_the_end(tmp_path: Path) -> None:
    """A hash of half a manifest would be taken for that of a whole one; each iteration begins anew."""
    files = find_manifest(str(manifest(tmp_path, ONE, "a.txt")), RUN_DATE, None)
    options = ManifestOptions(max_bytes=len(ONE))
    reader = read_manifest(
        files, options, run_date=RUN_DATE, sources=("eu",), default_source="eu", now=NOW, inputs=None
    )
    for _ in range(2):
        chunks = iter(reader)
        assert next(chunks).lines == 1
        with pytest.raises(ValueError, match="to its end"):
            _ = reader.sha256
        assert list(chunks) == []
        assert reader.sha256 == hashlib.sha256(ONE.encode()).hexdigest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"id,created_at\n{ONE},\n", r"no column 'session_id'.*\(id, created_at\).*manifest\.session_id_column"),
        ("Session_ID\n", r"\(Session_ID\)"),
        (f"session_id;x\n{ONE};1\n", r"comma-separated.*\(session_id;x\)"),
        (f"session_id,session_id\n{ONE},{ONE}\n", "2 columns named 'session_id'"),
        (f"session_id,source, source\n{ONE},,\n", "2 columns named 'source'"),
        (b"session_id\xff\n", "header of .* is not UTF-8"),
        (b'"session_id\n', "header of .* has quotes"),
        ("session_id," + "x" * 70_000, "header of .* is longer"),
    ],
)
def test_unusable_header_is_an_error_that_says_what_to_do(tmp_path: Path, content: str | bytes, message: str) -> None:
    """The columns found and the key to set are in the message."""
    with pytest.raises(ManifestError, match=message):
        read_path(manifest(tmp_path, content))


def test_columns_that_are_not_read_may_be_named_twice(tmp_path: Path) -> None:
    """Only the names that matter must be unique."""
    assert read_path(manifest(tmp_path, f"x,session_id,x\n1,{ONE},2\n")).numbers == [2]


def test_message_about_a_missing_header_holds_no_id(tmp_path: Path) -> None:
    """The first line of a file without a header is data, and data stays out of messages."""
    with pytest.raises(ManifestError, match="no header") as error:
        read_path(manifest(tmp_path, f"{ONE},jane.doe\n{session_id(2)},john.doe\n"))
    assert ONE not in str(error.value)
    assert "jane" not in str(error.value)


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    """The three names come from the configuration."""
    options = ManifestOptions(session_id_column="SessionId", created_at_column="at", source_column="where")
    path = manifest(tmp_path, f"where,SessionId,at\nus,{ONE},2026-02-27\n")
    [row] = read_path(path, options, sources=("eu", "us")).ids
    assert (row["source"], row["dt"]) == ("us", date(2026, 2, 27))


def test_json_lines_without_any_session_id_are_an_error(tmp_path: Path) -> None:
    """A wrong key is a wrong column name, not a million rejects."""
    with pytest.raises(ManifestError, match=r"no column 'session_id'.*manifest\.session_id_column"):
        read_path(manifest(tmp_path, f'{{"id": "{ONE}"}}\n', "a.jsonl"))


def test_deep_or_huge_json_is_a_reject(tmp_path: Path) -> None:
    """Neither deep nesting nor a number of thousands of digits ends the run."""
    lines = [
        "[" * 60_000,
        '{"session_id": ' + "[" * 60_000,
        '{"a": ' + "9" * 60_000 + "}",
        f'{{"session_id": "{ONE}"}}',
    ]
    read = read_path(manifest(tmp_path, "\n".join(lines), "a.jsonl"))
    assert read.reasons == [(number, "is not a JSON object") for number in (1, 2, 3)]
    assert read.numbers == [4]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", f"session_id\n{ONE}\n"),
        ("a.txt", f"{ONE}\n"),
        ("a.jsonl", f'{{"session_id": "{ONE}"}}\n'),
    ],
)
def test_no_created_at_at_all_needs_a_date(tmp_path: Path, name: str, content: str) -> None:
    """A guessed date would put a rerun into another partition."""
    path = manifest(tmp_path, content, name)
    with pytest.raises(ManifestError, match="--date"):
        read_path(path, run_date=None)
    assert [row["dt"] for row in read_path(path).ids] == [RUN_DATE]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_without_a_date_lines_without_a_usable_time_are_rejected(tmp_path: Path, name: str) -> None:
    """Where other lines have a time, one that has none (or an implausible one) is a reject, not an error."""
    times = ["", "2026-02-27T23:00:00-02:00", "1999-01-01"]
    if name == "a.csv":
        content = "session_id,created_at\n" + "".join(f"{ONE},{time}\n" for time in times)
    else:
        content = "\n" + "".join(f'{{"session_id": "{ONE}", "created_at": "{time}"}}\n' for time in times)
    read = read_path(manifest(tmp_path, content, name), run_date=None)
    assert [reason for _, reason in read.reasons] == ["has no usable created_at, and the run has no date"] * 2
    assert [(row["line_number"], row["dt"]) for row in read.ids] == [(3, date(2026, 2, 28))]


def test_source_is_the_only_one_where_a_line_names_none(tmp_path: Path) -> None:
    """With one source an empty name means that one; another name is a reject."""
    read = read_path(manifest(tmp_path, f"session_id,source\n{ONE},\n{ONE}, eu \n{ONE},us\n"))
    assert [row["source"] for row in read.ids] == ["eu", "eu"]
    assert read.reasons == [(4, "source is not one of [sources]")]


def test_with_several_sources_every_line_must_name_one(tmp_path: Path) -> None:
    """Guessing an account would ask the wrong one."""
    path = manifest(tmp_path, f"session_id,source\n{ONE},us\n{ONE},\n{ONE},mars\n{ONE},eu\n")
    read = read_path(path, sources=("eu", "us"))
    assert [row["source"] for row in read.ids] == ["us", "eu"]
    assert read.reasons == [(3, "has no source, and [sources] has several"), (4, "source is not one of [sources]")]


@pytest.mark.parametrize("sources", [("eu",), ("eu", "us")])
def test_unknown_source_everywhere_is_an_error(tmp_path: Path, sources: tuple[str, ...]) -> None:
    """The configuration is wrong then, not the lines; the message names the sources there are."""
    path = manifest(tmp_path, f"session_id,source\n{ONE},mars\nnonsense,venus\n")
    with pytest.raises(ManifestError, match=r"names one of \[sources\] \(eu.*manifest\.source_column"):
        read_path(path, sources=sources)


def test_one_known_source_anywhere_makes_the_others_rejects(tmp_path: Path) -> None:
    """It need be neither in the first chunk nor in the last."""
    path = manifest(tmp_path, f"session_id,source\n{ONE},mars\n{ONE},eu\n{ONE},venus\n")
    assert read_path(path, block_bytes=1).numbers == [3]


@pytest.mark.parametrize(("name", "content"), [("a.csv", f"session_id\n{ONE}\n"), ("a.txt", ONE)])
def test_no_source_column_with_several_sources_is_an_error(tmp_path: Path, name: str, content: str) -> None:
    """The column is required as soon as there are several."""
    with pytest.raises(ManifestError, match=r"no column 'source'.*several \[sources\]"):
        read_path(manifest(tmp_path, content, name), sources=("eu", "us"))


def test_attributes_are_those_configured_that_the_line_has(tmp_path: Path) -> None:
    """Other columns are dropped, and a configured one may be missing from the file."""
    options = ManifestOptions(attributes=("b", "nowhere", "a"))
    path = manifest(tmp_path, f"a,session_id,b,c\n1,{ONE},2,3\n,{ONE},2,3\n,{ONE},,\n")
    assert [row["attributes"] for row in read_path(path, options).ids] == [{"a": "1", "b": "2"}, {"b": "2"}, {}]
    assert [row["attributes"] for row in read_path(path).ids] == [None] * 3


def test_bytes_are_limited_after_decompression_over_all_files(tmp_path: Path) -> None:
    """Files that stay below the limit one by one exceed it together."""
    for name in ("a.txt.gz", "b.txt.gz"):
        manifest(tmp_path, gzip.compress(b"\n" * 600), name)
    assert read_path(tmp_path / "*.gz", ManifestOptions(max_bytes=1200)).lines == 0
    with pytest.raises(ManifestError, match=r"manifest\.max_bytes"):
        read_path(tmp_path / "*.gz", ManifestOptions(max_bytes=1199))


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_bomb_is_not_expanded_into_memory(tmp_path: Path, name: str) -> None:
    """A gigabyte in one line, packed into 33 kB, takes the memory of a block: it meets the limit first."""
    path = manifest(tmp_path, zstandard.compress(b"\0" * (1 << 30)), f"{name}.zst")
    tracemalloc.start()
    try:
        with pytest.raises(ManifestError, match=r"manifest\.max_bytes"):
            read_path(path, ManifestOptions(max_bytes=100 << 20))
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


def test_overlong_line_is_rejected_without_being_held(tmp_path: Path) -> None:
    """100 MB without a line end cost one reject; the lines around it are read."""
    content = f"{ONE}\n".encode() + b"x" * (100 << 20) + f"\n{session_id(2)}\n".encode()
    path = manifest(tmp_path, zstandard.compress(content), "a.txt.zst")
    del content
    tracemalloc.start()
    try:
        read = read_path(path)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()
    assert read.reasons == [(2, "is longer than manifest.max_line_bytes")]
    assert read.numbers == [1, 3]


def test_quotes_that_never_close_do_not_make_reading_quadratic(tmp_path: Path) -> None:
    """Each line here opens a quote and leaves it open, whether it stands within one or not."""
    path = manifest(tmp_path, "session_id,a\n" + 'x","y\n' * 30_000)
    started = time.process_time()
    assert len(read_path(path).rejects) == 30_000
    assert time.process_time() - started < 10


def test_objects_are_read_and_named_without_query() -> None:
    """A query string may hold credentials: it is used to read and never shown or kept."""
    uri = "s3://bucket/ids.txt?X-Amz-Signature=secret"
    objects = Objects({uri: b"nonsense\n"})
    read = read_files(find_manifest(uri, None, objects), inputs=objects)
    assert read.rejects == [
        {"manifest_uri": "s3://bucket/ids.txt", "line_number": 1, "reason": "session id is not a UUID"}
    ]
    assert objects.opened == [uri]


def test_rejects_name_their_own_file(tmp_path: Path) -> None:
    """Line numbers start again in every file."""
    for name in ("a.txt", "b.txt"):
        manifest(tmp_path, f"{ONE}\nnonsense\n", name)
    read = read_path(tmp_path / "*.txt")
    assert [(reject["manifest_uri"], reject["line_number"]) for reject in read.rejects] == [
        (str(tmp_path / "a.txt"), 2),
        (str(tmp_path / "b.txt"), 2),
    ]


def test_file_that_went_away_is_an_error(tmp_path: Path) -> None:
    """Between finding and reading a file may be moved."""
    with pytest.raises(ManifestError, match="cannot be read"):
        read_files([InputFile(str(tmp_path / "gone.csv"), 5, "")])
