"""A manifest that was written to do harm: its values become rows or rejects, never paths, SQL, shell or markup."""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liveness_etl.cli import main
from liveness_etl.local import LocalConfig, LocalRekognition
from tests.running import DT, ids, read_rows

MINE = "the value that nobody else shall see"
HOSTILE = [
    "../../escaped",
    "/tmp/escaped",
    "..\\..\\escaped",
    "'; DROP TABLE lines; --",
    "' OR 1=1 --",
    "\"; COPY (SELECT 1) TO 'escaped.csv'; --",
    "$(touch escaped)",
    "`touch escaped`",
    "; touch escaped #",
    "| touch escaped",
    "%s%n{0}{self.__class__}",
    "{date}",
    "=HYPERLINK('http://evil.example')",
    "\x1b]0;owned\x07\x1b[31m",
    "[/red][bold]x",
    "a\u202egnp.exe",
    "two\nlines",
    "tab\tbed",
    "\ufeff",
    "x" * 60_000,
    "x" * 1_000_000,
    "dt=2026-01-01/session_id",
    "CON",
    "-rf",
    "s3://evil/x",
    "file:///etc/passwd",
    "NULL",
    "null",
    "\\N",
    "💣" * 50,
]
NAMES = ("na'me", 'x"; DROP TABLE lines; --', "$(touch escaped)", "../../escaped", "session_id'); --", "{0}", "[/b]")
"""Columns that a configuration lists as attributes."""


@pytest.fixture(scope="module")
def rekognition() -> Iterator[LocalRekognition]:
    with LocalRekognition(LocalConfig(answer_any=True, outcome_shares={"SUCCEEDED": 1.0})) as running:
        yield running


Command = Callable[..., int]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder some levels down, and the current one: nothing may appear above the output or beside it."""
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(place: Path, rekognition: LocalRekognition, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`liveness-etl run MANIFEST` into `output`; its exit code."""

    def run(manifest: str, *more: str) -> int:
        options = ("--output", "output", "--endpoint-url", rekognition.endpoint_url, "--region", "us-east-1")
        monkeypatch.setattr(sys, "argv", ["liveness-etl", "run", manifest, *options, "--max-tps", "500", *more])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return run


def names_below(folder: Path) -> set[str]:
    """Every file and folder, but for what is in the output."""
    return {
        str(path.relative_to(folder)) for path in folder.rglob("*") if "output" not in path.relative_to(folder).parts
    }


def all_values(output: Path, table: str) -> str:
    """A table's rows as text."""
    return json.dumps(read_rows(output, table), default=str)


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def write_parquet(path: Path, rows: list[dict[str, str]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


FORMATS: dict[str, Callable[[Path, list[dict[str, str]]], None]] = {
    "m.csv": write_csv,
    "m.jsonl": write_json,
    "m.parquet": write_parquet,
}


@pytest.mark.parametrize("name", FORMATS)
def test_hostile_ids_sources_and_times_are_rejects_without_their_values(name: str, run: Command, place: Path) -> None:
    """Each is a line that is not asked for; the tables hold the good one alone."""
    good = ids(1)[0]
    rows = [{"session_id": f"{value}{MINE}", "created_at": str(DT), "source": "default"} for value in HOSTILE]
    rows += [{"session_id": good, "created_at": str(DT), "source": f"{value}{MINE}"} for value in HOSTILE]
    rows += [{"session_id": good, "created_at": f"{value}{MINE}", "source": "default"} for value in HOSTILE]
    rows += [{"session_id": good[:-1] + suffix, "created_at": str(DT), "source": "default"} for suffix in "\n\x00/é'"]
    FORMATS[name](place / name, [*rows, {"session_id": good, "created_at": str(DT), "source": "default"}])
    before = names_below(place.parents[2])
    assert run(name, "--date", str(DT)) == 0
    assert names_below(place.parents[2]) == before
    assert [row["session_id"] for row in read_rows(place / "output", "sessions")] == [good]
    assert len(read_rows(place / "output", "rejects")) == len(rows)
    assert {path.name for path in (place / "output" / "landing").iterdir()} == {f"dt={DT}"}
    for table in ("rejects", "runs", "landing", "sessions"):
        assert MINE not in all_values(place / "output", table)


@pytest.mark.parametrize("name", FORMATS)
def test_hostile_attributes_are_kept_as_they_stand(
    name: str, run: Command, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and values, to the last character; a terminal that shows them obeys none."""
    values = [value for value in HOSTILE if len(value) < 1_000 and value.strip() == value and value != "\ufeff"]
    rows = [
        {"session_id": session_id, "created_at": str(DT)} | dict.fromkeys(NAMES, value)
        for session_id, value in zip(ids(len(values)), values, strict=True)
    ]
    FORMATS[name](place / name, rows)
    config = place / "config.toml"
    config.write_text(f"[manifest]\nattributes = {json.dumps(NAMES)}\n")
    before = names_below(place.parents[2])
    assert run(name, "--config", "config.toml") == 0
    assert names_below(place.parents[2]) == before
    kept = {row["session_id"]: row["attributes"] for row in read_rows(place / "output", "sessions")}
    for row in rows:
        assert kept[row["session_id"]] == {attribute: row[attribute] for attribute in NAMES}
    capsys.readouterr()
    monkeypatch.setattr(
        sys, "argv", ["liveness-etl", "query", "--output", "output", "SELECT map_values(attributes) FROM sessions"]
    )
    with pytest.raises(SystemExit):
        main()
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "name",
    [
        "it's; DROP TABLE.csv",
        'a "quoted" name.csv',
        "$(touch escaped).csv",
        "-rf.csv",
        "white  space .csv",
        "[abc]*?.csv",
        "[bold]{0}%s.csv",
        "x?y=z.csv",
        "ünï\u202ecode.csv",
        "two\nlines.csv",
    ],
)
def test_hostile_name_of_a_manifest_is_a_name(name: str, run: Command, place: Path) -> None:
    """It is opened as it is called, and recorded so."""
    write_csv(place / name, [{"session_id": session_id, "created_at": str(DT)} for session_id in [*ids(2), "bad"]])
    (place / "abc.csv").write_text("session_id,created_at\n" + "".join(f"{one},{DT}\n" for one in ids(5, seed=9)))
    before = names_below(place.parents[2])
    assert run(f"./{name}") == 0
    assert names_below(place.parents[2]) == before
    assert {row["session_id"] for row in read_rows(place / "output", "sessions")} == set(ids(2))
    (reject,) = read_rows(place / "output", "rejects")
    assert Path(reject["manifest_uri"]) == Path(name)


@pytest.mark.parametrize(
    "date", ["../../2026", "2026-03-01/../..", "{date}", "2026-03-01'; --", "2026-3-1", "20260301x"]
)
def test_date_is_a_date(run: Command, place: Path, date: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is to stand for {date} in a name."""
    assert run("{date}.csv", "--date", date) == 2
    assert "--date must be a date" in capsys.readouterr().err
    assert not list(place.iterdir())


@pytest.mark.parametrize("name", ["../x", "a/b", "x'; --", "$(x)", "a b", "-rf", ".hidden", "x\\u0000", "ä", ""])
def test_name_of_a_source_is_fit_for_a_file(
    run: Command, place: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Leases, plans and landing parts are called by it."""
    config = place / "config.toml"
    config.write_text(f'[sources."{name}"]\nregion = "us-east-1"\n')
    (place / "m.csv").write_text("session_id\n")
    assert run("m.csv", "--config", "config.toml") == 2
    assert not (place / "output").exists()
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("nesting", ["[" * 60_000, '{"session_id":' * 4_000, '{"session_id": ' + "9" * 60_000 + "}"])
def test_json_that_goes_deep_is_a_reject(run: Command, place: Path, nesting: str) -> None:
    """Neither the parser's stack nor a number of any size ends the run."""
    (place / "m.jsonl").write_text(f'{nesting}\n{{"session_id": "{ids(1)[0]}", "created_at": "{DT}"}}\n')
    assert run("m.jsonl") == 0
    assert len(read_rows(place / "output", "rejects")) == 1
    assert len(read_rows(place / "output", "sessions")) == 1


def test_hostile_answer_is_only_a_row(run: Command, place: Path, rekognition: LocalRekognition) -> None:
    """Statuses, names of images and codes are values too, and no markup of the terminal's."""
    one, two = ids(2)
    answer: dict[str, Any] = {
        "SessionId": one,
        "Status": "SUCCEEDED",
        "Challenge": {"Type": "../../x", "Version": "'"},
        "ReferenceImage": {"S3Object": {"Bucket": "../../evil", "Name": "../../x'; --"}},
        "Feedback": [{"Code": "$(touch escaped)", "Message": "\x1b[31m"}],
    }
    error = {"__type": "[/red]'; DROP", "message": "../../x"}
    rekognition.configure(
        faults={one: {"body": json.dumps(answer)}, two: {"status": 400, "body": json.dumps(error)}},
    )
    write_csv(place / "m.csv", [{"session_id": one, "created_at": str(DT)}, {"session_id": two, "created_at": str(DT)}])
    before = names_below(place.parents[2])
    try:
        assert run("m.csv") == 3
    finally:
        rekognition.configure(faults={})
    assert names_below(place.parents[2]) == before
    rows = {row["session_id"]: row for row in read_rows(place / "output", "sessions")}
    assert (rows[one]["outcome"], rows[two]["outcome"]) == ("SUCCEEDED", "UnknownError")
    (box,) = read_rows(place / "output", "bounding_boxes")
    assert (box["s3_bucket"], box["s3_name"]) == ("../../evil", "../../x'; --")
