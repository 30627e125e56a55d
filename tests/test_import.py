"""Answers that a backend has read itself: imported, they are what a sweep would bring, and are not asked again."""

import base64
import gzip
import io
import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import boto3
import pytest

from liveness_etl import pipeline, upkeep
from liveness_etl.cli import main
from liveness_etl.errors import LivenessError, StoreError, UsageError
from liveness_etl.extract.ask import IMAGE_NOT_STORED
from liveness_etl.importing import ImportReport, import_answers
from liveness_etl.job import Job
from liveness_etl.load.landing import list_partitions
from liveness_etl.local import LocalConfig, LocalRekognition
from liveness_etl.settings import load_settings
from liveness_etl.show_command import show
from liveness_etl.storage_s3 import S3Store
from tests.running import CREATED_AT, DT, asks, ids, make_job, read_rows, write_manifest
from tests.safety.canary import MARKER, search, sightings

TABLES = ("sessions", "challenges", "bounding_boxes", "feedback")
COUNT = 40
MIXED = LocalConfig(
    answer_any=True,
    count_ids=True,
    image_mode="mixed",
    image_bytes=300,
    outcome_shares={"SUCCEEDED": 0.6, "FAILED": 0.2, "EXPIRED": 0.1, "CREATED": 0.1},
)
READ_AT = CREATED_AT.isoformat()


@pytest.fixture(scope="module")
def rekognition() -> Iterator[LocalRekognition]:
    with LocalRekognition(MIXED) as running:
        yield running


@pytest.fixture(scope="module")
def answers(rekognition: LocalRekognition) -> Sequence[dict[str, Any]]:
    """What a backend got through boto3, session by session."""
    client = boto3.client("rekognition", endpoint_url=rekognition.endpoint_url)
    found = [client.get_face_liveness_session_results(SessionId=session_id) for session_id in ids(COUNT)]
    client.close()
    assert {answer["Status"] for answer in found} == {"SUCCEEDED", "FAILED", "EXPIRED", "CREATED"}
    return found


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def as_python(answer: dict[str, Any]) -> str:
    return json.dumps(answer, default=str) + "\n"


def as_base64(answer: dict[str, Any]) -> str:
    return json.dumps(answer, default=encoded) + "\n"


def as_the_cli(answer: dict[str, Any]) -> str:
    """The AWS CLI's JSONFormatter, with bytes as they are on the wire."""
    shown = {name: value for name, value in answer.items() if name != "ResponseMetadata"}
    return json.dumps(shown, indent=4, default=encoded) + "\n"


def write_copies(
    path: Path, answers: Iterable[dict[str, Any]], form: Callable[[dict[str, Any]], str] = as_base64, **members: object
) -> Path:
    """A file of copies, each with these members beside the answer's own."""
    path.write_text("".join(form(answer | members) for answer in answers))
    return path


def do_import(
    output: Path | str,
    *files: Path | str,
    endpoint_url: str | None = None,
    stop: Any = None,
    progressed: Any = lambda counts: None,
    **overrides: object,
) -> ImportReport:
    """An import of files into one source's output, overrides are settings."""
    changed = {name.replace("__", "."): value for name, value in overrides.items()}
    settings = load_settings(
        None, {"output.uri": str(output), "output.endpoint_url": endpoint_url} | changed, environ={}
    )
    job = Job("import", str(files[0]), settings, settings.sources_or_default("us-east-1"), DT)
    return import_answers(job, [str(file) for file in files], stop=stop, progressed=progressed)


def published(output: Path, **overrides: object) -> dict[str, list[dict[str, Any]]]:
    """All rows of the tables, without what two outputs cannot share."""
    settings = load_settings(None, {"output.uri": str(output)}, environ={})
    for dt in pipeline.landed_partitions(settings, None, None):
        pipeline.publish_partition(settings, dt)
    found = {}
    for table in TABLES:
        rows = read_rows(output, table)
        for row in rows:
            if (row.get("image_uri") or "").startswith("file://"):
                row["image_uri"] = unquote(row["image_uri"]).partition("/images/")[2]
        found[table] = [
            {name: value for name, value in row.items() if name not in ("run_id", "fetched_at")} for row in rows
        ]
    return found


def sums_hold(report: ImportReport) -> bool:
    """The equations of a run's record."""
    row = report.row
    return bool(
        row["lines"] == row["requested"] + row["duplicates"] + row["rejected"] + row["forgotten"]
        and row["requested"] == row["already_final"] + row["landed"] + row["not_asked"]
        and row["landed"] == sum(count for _, count in row["by_outcome"])
    )


Command = Callable[..., tuple[int, str]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `import` in this process: its exit code and standard error. `given` is standard input."""

    def run(*arguments: str | Path, given: bytes = b"") -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["liveness-etl", "import", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, capsys.readouterr().err

    return run


# As if they had been swept


@pytest.fixture(scope="module")
def swept(rekognition: LocalRekognition, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """The tables of a sweep over the same sessions."""
    folder = tmp_path_factory.mktemp("swept")
    manifest = folder / "manifest.jsonl"
    manifest.write_text(
        "".join(
            json.dumps({"session_id": session_id, "created_at": READ_AT, "plan": "gold"}) + "\n"
            for session_id in ids(COUNT)
        )
    )
    job = make_job(
        manifest, folder / "output", rekognition.endpoint_url, command="sweep", manifest__attributes=("plan",)
    )
    pipeline.run(job)
    return published(folder / "output")


@pytest.mark.parametrize("form", [as_python, as_base64, as_the_cli])
def test_tables_are_those_of_a_sweep(
    form: Callable[[dict[str, Any]], str],
    answers: Sequence[dict[str, Any]],
    swept: dict[str, list[dict[str, Any]]],
    tmp_path: Path,
    output: Path,
) -> None:
    """Row for row, children, references, hashes, attributes and stored images, from all that writes answers down."""
    copies = write_copies(tmp_path / "copies.json", answers, form, created_at=READ_AT, plan="gold")
    report = do_import(output, copies, manifest__attributes=("plan",))
    assert (report.exit_code, report.row["landed"], report.row["calls"]) == (0, COUNT, 0)
    assert sums_hold(report)
    found = published(output)
    assert found == swept
    assert len(found["bounding_boxes"]) > COUNT
    stored = {str(path.relative_to(output / "images")) for path in (output / "images").rglob("*.*")}
    assert stored == {row["image_uri"] for row in found["bounding_boxes"] if row["image_sha256"]}
    settings = load_settings(None, {"output.uri": str(output)}, environ={})
    assert upkeep.verify(settings).exit_code == 0


def test_nothing_is_asked_again_but_what_was_pending(
    rekognition: LocalRekognition, answers: Sequence[dict[str, Any]], tmp_path: Path, output: Path
) -> None:
    """The run after an import asks for those alone whose copy says CREATED."""
    do_import(output, write_copies(tmp_path / "copies.jsonl", answers, created_at=READ_AT, fetched_at=READ_AT))
    before = asks(rekognition)
    manifest = write_manifest(tmp_path / "manifest.csv", ids(COUNT))
    report = pipeline.run(make_job(manifest, output, rekognition.endpoint_url))
    asked = {session_id for session_id, count in asks(rekognition).items() if count > before[session_id]}
    assert asked == {answer["SessionId"] for answer in answers if answer["Status"] == "CREATED"}
    assert report.row["already_final"] == COUNT - len(asked)
    assert len(read_rows(output, "sessions")) == COUNT


def test_copies_without_their_bytes_are_final_too(
    rekognition: LocalRekognition, answers: Sequence[dict[str, Any]], tmp_path: Path, output: Path
) -> None:
    """A backend that kept no images: the boxes are there, and nothing is asked for."""
    good = [answer for answer in answers if "Bytes" in answer.get("ReferenceImage", ())][:5]
    bare = [
        answer | {"ReferenceImage": {"BoundingBox": answer["ReferenceImage"]["BoundingBox"]}, "AuditImages": []}
        for answer in good
    ]
    report = do_import(output, write_copies(tmp_path / "copies.jsonl", bare, created_at=READ_AT))
    assert report.exit_code == 0
    manifest = write_manifest(tmp_path / "manifest.csv", [answer["SessionId"] for answer in good])
    assert pipeline.run(make_job(manifest, output, rekognition.endpoint_url)).row["calls"] == 0
    for row in read_rows(output, "bounding_boxes"):
        assert row["box_left"] is not None
        assert row["image_uri"] is row["image_sha256"] is row["s3_name"] is None


@pytest.mark.parametrize("members", [{}, {"fetched_at": READ_AT}])
def test_second_import_changes_no_table(
    members: dict[str, str], answers: Sequence[dict[str, Any]], tmp_path: Path, output: Path
) -> None:
    """Not even run_id: also where a copy does not tell when it came."""
    copies = write_copies(tmp_path / "copies.jsonl", answers, **members)
    do_import(output, copies)
    published(output)
    before = {table: read_rows(output, table) for table in TABLES}
    assert do_import(output, copies, copies).row["landed"] == 2 * COUNT
    published(output)
    assert {table: read_rows(output, table) for table in TABLES} == before


def test_best_copy_of_an_id_wins_wherever_it_stands(tmp_path: Path, output: Path) -> None:
    """A backend that polls keeps CREATED, SUCCEEDED and perhaps EXPIRED."""
    (one,) = ids(1)
    polled = [{"SessionId": one, "Status": status} for status in ("CREATED", "SUCCEEDED", "EXPIRED", "IN_PROGRESS")]
    report = do_import(output, write_copies(tmp_path / "copies.jsonl", polled))
    assert report.row["landed"] == 4
    assert [row["status"] for row in published(output)["sessions"]] == ["SUCCEEDED"]


# What is refused


def test_bad_lines_are_rejected_with_their_number_and_the_rest_lands(
    cli: Command, tmp_path: Path, output: Path
) -> None:
    """In the table rejects, without the line; in words on standard error, with the first of each kind."""
    one, two = ids(2)
    copies = tmp_path / "copies.jsonl"
    copies.write_text(
        f'{{"SessionId":"{one}","Status":"SUCCEEDED"}}\nsecret\n\n{{"SessionId":"secret","Status":"FAILED"}}\n'
        f'{{"SessionId":"{two}","Status":"FAILED","ReferenceImage":{{"Bytes":"secret!"}}}}\nsecret\n'
    )
    code, err = cli(copies, "--output", output, "--date", "2026-03-01", "--region", "us-east-1")
    assert code == 0
    assert "5 lines, 1 landed, 4 rejected" in err
    assert f"rejected: 2 (the first: {copies} line 2): the answer is no JSON" in err
    assert f"liveness-etl publish --output {output}" in err
    rejects = read_rows(output, "rejects")
    assert [(row["line_number"], row["manifest_uri"]) for row in rejects] == [(n, str(copies)) for n in (2, 4, 5, 6)]
    assert "secret" not in err + json.dumps(rejects)
    (run,) = read_rows(output, "runs")
    assert (run["command"], run["completed"], run["lines"], run["rejected"]) == ("import", True, 5, 4)
    assert [row["session_id"] for row in read_rows(output, "landing")] == [one]


def test_file_without_any_answer_is_wrong_usage(tmp_path: Path, output: Path) -> None:
    """Perhaps a manifest was given: it says what is wrong with the first line."""
    copies = tmp_path / "manifest.jsonl"
    copies.write_text(f'{{"session_id":"{ids(1)[0]}"}}\n' * 3)
    with pytest.raises(UsageError, match=r"none of 3 lines is an answer .* line 1: the answer has no Status"):
        do_import(output, copies)
    assert len(read_rows(output, "rejects")) == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["copies.csv", "--region", "us-east-1"], "no JSON Lines"),
        (["nothing.jsonl", "--region", "us-east-1"], "There is no file"),
        (["copies.jsonl", "--region", "us-east-1", "--source", "mars"], "--source mars is not one of"),
        (["copies.jsonl", "copies.csv", "--region", "us-east-1"], "no JSON Lines"),
        (["copies.jsonl", "--region", "us-east-1", "--date", "today"], "--date must be a date"),
    ],
)
def test_wrong_usage_is_one_sentence_and_leaves_no_trace(
    cli: Command, arguments: list[str], sentence: str, tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, and neither a record nor a row."""
    for name in ("copies.csv", "copies.jsonl"):
        (tmp_path / name).write_text(f'{{"SessionId":"{ids(1)[0]}","Status":"FAILED"}}\n')
    monkeypatch.chdir(tmp_path)
    code, err = cli("--date", "2026-03-01", *arguments, "--output", output)
    assert (code, err.count("\n")) == (2, 1)
    assert sentence in err
    assert not output.exists()


def test_more_bytes_than_the_limit_are_refused(tmp_path: Path, output: Path) -> None:
    """After decompression, so that a small file cannot keep a machine busy for days."""
    bomb = tmp_path / "bomb.jsonl.gz"
    bomb.write_bytes(gzip.compress(b"\n" * 3_000_000))
    with pytest.raises(LivenessError, match=r"more than 2,000,000 bytes after decompression"):
        do_import(output, bomb, manifest__max_bytes=2_000_000)


# In and out


def test_empty_file_is_an_empty_import(tmp_path: Path, output: Path) -> None:
    """Exit code 0, a record, no partition."""
    files = [tmp_path / name for name in ("none.jsonl", "none.jsonl.gz", "none.jsonl.zst")]
    for file in files:
        file.touch()
    report = do_import(output, *files)
    assert (report.exit_code, report.row["lines"], report.row["completed"]) == (0, 0, True)
    assert not read_rows(output, "landing")


def test_standard_input_is_read(cli: Command, answers: Sequence[dict[str, Any]], output: Path, tmp_path: Path) -> None:
    """`jq -c … | liveness-etl import -`; the record goes to --summary."""
    content = "".join(map(as_base64, answers)).encode() + b"no answer\n"
    summary = tmp_path / "summary.json"
    code, err = cli(
        "-", "--output", output, "--date", "2026-03-01", "--region", "us-east-1", "--summary", summary, given=content
    )
    assert code == 0
    assert "standard input line 41" in err
    assert json.loads(summary.read_text())["landed"] == COUNT


def test_objects_of_s3_are_imported_into_s3(
    answers: Sequence[dict[str, Any]], moto_endpoint: str, client_of: Callable[[str], Any]
) -> None:
    """All below a prefix, compressed or not."""
    s3 = client_of(moto_endpoint)
    s3.create_bucket(Bucket="copies")
    half = COUNT // 2
    content = ["".join(map(as_base64, part)).encode() for part in (answers[:half], answers[half:])]
    s3.put_object(Bucket="copies", Key="in/a.jsonl", Body=content[0])
    s3.put_object(Bucket="copies", Key="in/b.jsonl.gz", Body=gzip.compress(content[1]))
    report = do_import("s3://copies/out", "s3://copies/in/", endpoint_url=moto_endpoint, output__region="us-east-1")
    assert (report.exit_code, report.row["landed"]) == (0, COUNT)
    store = S3Store("s3://copies/out", s3)
    assert list_partitions(store) == [DT]
    assert any(entry.path.endswith("reference.jpg") for entry in store.list("images/"))


# What else can happen


def test_erased_session_does_not_come_back(answers: Sequence[dict[str, Any]], tmp_path: Path, output: Path) -> None:
    """Neither its row nor its images; it is counted."""
    gone = next(answer["SessionId"] for answer in answers if "Bytes" in answer.get("ReferenceImage", ()))
    upkeep.forget(load_settings(None, {"output.uri": str(output)}, environ={}), [gone])
    report = do_import(output, write_copies(tmp_path / "copies.jsonl", answers))
    assert (report.row["forgotten"], report.row["landed"], report.exit_code) == (1, COUNT - 1, 0)
    assert sums_hold(report)
    assert gone not in {row["session_id"] for row in read_rows(output, "landing")}
    assert not [path for path in output.rglob("*") if gone in str(path)]


def test_image_that_cannot_be_stored_is_mended_by_the_next_import(
    answers: Sequence[dict[str, Any]], tmp_path: Path, output: Path
) -> None:
    """The answer lands all the same, exit code 3; with the store in order the same import is complete."""
    copies = write_copies(tmp_path / "copies.jsonl", answers)
    output.mkdir()
    (output / "images").write_text("in the way")
    report = do_import(output, copies)
    lost = [row for row in published(output)["sessions"] if row["error_code"] == IMAGE_NOT_STORED]
    assert (report.exit_code, report.counts.unstored, report.row["landed"]) == (3, len(lost), COUNT)
    assert lost
    (output / "images").unlink()
    assert do_import(output, copies).exit_code == 0
    assert not [row for row in published(output)["sessions"] if row["error_code"]]


def test_output_that_cannot_be_written_is_said(
    answers: Sequence[dict[str, Any]], tmp_path: Path, output: Path, state_home: Path
) -> None:
    """The error of a store, what was read in a rescue part, and a record that says that it is not complete."""
    copies, stop = write_copies(tmp_path / "copies.jsonl", answers), threading.Event()
    output.mkdir()
    (output / "landing").write_text("in the way")
    with pytest.raises(StoreError, match="import the same files again"):
        # Without the stop the output is given a minute.
        do_import(output, copies, stop=stop, progressed=lambda _: threading.Timer(1.0, stop.set).start())
    assert [run["completed"] for run in read_rows(output, "runs")] == [False]
    assert list(state_home.rglob("*.parquet"))
    (output / "landing").unlink()
    assert do_import(output, copies).exit_code == 0


def test_stopped_import_keeps_what_has_landed(answers: Sequence[dict[str, Any]], tmp_path: Path, output: Path) -> None:
    """Exit code 3; its record says that it is not complete, and the same import again is."""
    copies = write_copies(tmp_path / "copies.jsonl", answers)
    settings = load_settings(None, {"output.uri": str(output)}, environ={})
    job = Job("import", str(copies), settings, settings.sources_or_default("us-east-1"), DT)
    stop = threading.Event()
    report = import_answers(job, [str(copies)], stop=stop, progressed=lambda counts: stop.set())
    assert (report.exit_code, report.row["completed"]) == (3, False)
    assert 0 < report.row["landed"] == len(read_rows(output, "landing")) < COUNT
    assert sums_hold(report)
    assert do_import(output, copies).exit_code == 0
    assert len(published(output)["sessions"]) == COUNT


@pytest.mark.parametrize("form", [as_python, as_base64, as_the_cli])
def test_image_bytes_reach_the_image_store_alone(
    cli: Command, form: Callable[[dict[str, Any]], str], tmp_path: Path, output: Path
) -> None:
    """Neither a row, nor a reject, nor a word: of good answers, of broken ones, and of what is no answer."""
    one, two, three = ids(3)
    image = {"Bytes": b"\xff\xd8\xff" + MARKER * 9}
    whole = {"SessionId": one, "Status": "SUCCEEDED", "ReferenceImage": image, "Other": image}
    broken = [whole | {"SessionId": two, "Confidence": "x"}, whole | {"SessionId": three, "Status": MARKER.hex()}]
    copies = write_copies(tmp_path / "copies.json", [whole, *broken], form)
    with copies.open("a") as file:
        file.write(form(whole)[:-30] + "\n" + form(whole).replace("Bytes", encoded(MARKER)) + form(image))
    code, err = cli(copies, "--output", output, "--date", "2026-03-01", "--region", "us-east-1", "--verbose")
    assert code == 0
    assert len(read_rows(output, "rejects")) >= 4
    assert MARKER in (output / "images" / f"dt={DT}" / one / "reference.jpg").read_bytes()
    assert (search(output, besides=[output / "images"]), sightings(err.encode())) == ({}, [])


def test_show_does_not_say_of_a_copy_that_it_was_never_asked(
    answers: Sequence[dict[str, Any]], tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """When it came is what nobody told."""
    do_import(output, write_copies(tmp_path / "copies.jsonl", answers[:1]))
    capsys.readouterr()
    show(load_settings(None, {"output.uri": str(output)}, environ={}).output, answers[0]["SessionId"], "table")
    shown = capsys.readouterr().out
    assert "at an unknown time" in shown
    assert "never asked" not in shown
