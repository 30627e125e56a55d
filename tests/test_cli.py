"""The command line as a user types it: results, exit codes, and one sentence for whatever is wrong."""

import csv
import gzip
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from liveness_etl import pipeline
from liveness_etl.analysis import httpfs
from liveness_etl.cli import app, main
from liveness_etl.load.lease import held_leases
from liveness_etl.local import LocalRekognition
from liveness_etl.storage import open_store
from tests.running import SUCCEEDING, files_of, ids, make_job, read_rows, write_manifest

TABLES = ("sessions", "challenges", "bounding_boxes", "feedback")
ONE, TWO = ids(2)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one line that says what is wrong, and nothing beside it."""
        (line,) = self.err.strip().splitlines()
        assert line.startswith("error: ")
        return line


Command = Callable[..., Ended]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process; a traceback would fail the test."""

    def run(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["liveness-etl", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, printed.out, printed.err)

    return run


def process(*arguments: str | Path, **environment: str) -> Ended:
    """Runs a command as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "liveness_etl", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def rekognition() -> Iterator[LocalRekognition]:
    with LocalRekognition(SUCCEEDING) as running:
        yield running


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_manifest(tmp_path / "manifest.csv", ids(20))


@pytest.fixture
def run(cli: Command, rekognition: LocalRekognition, output: Path) -> Command:
    """`liveness-etl run MANIFEST …` against the stand-in, into the output."""

    def run(manifest: Path, *more: str | Path, command: str = "run") -> Ended:
        options = ("--output", output, "--endpoint-url", rekognition.endpoint_url, "--region", "us-east-1")
        return cli(command, manifest, *options, "--max-tps", "500", *more)

    return run


# Help


@pytest.mark.parametrize("command", [None, *typer.main.get_command(app).commands])  # type: ignore[attr-defined]
def test_every_command_explains_itself(cli: Command, command: str | None) -> None:
    """--help on standard output, exit code 0."""
    ended = cli(*([] if command is None else [command]), "--help")
    assert (ended.code, ended.err) == (0, "")
    assert "Usage:" in ended.out


@pytest.mark.parametrize("arguments", [("no-such-command",), ("run", "--no-such-option"), ("demo", "--sessions", "x")])
def test_wrong_usage_is_exit_code_2(cli: Command, arguments: tuple[str, ...]) -> None:
    """The parser's own message, on standard error."""
    ended = cli(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert "Error" in ended.err


# The commands at work


def test_one_warning_says_what_share_came_too_late_and_how_often_to_sweep(run: Command, manifest: Path) -> None:
    """The sessions of the manifest are months old; a third of their time to live is often enough."""
    ended = run(manifest)
    assert ended.err.count("warning: ") == 1
    assert "warning: 20 sessions (100.0 %) were older than 180 s" in ended.err
    assert "run the command sweep every 60 s" in ended.err


def test_run_asks_publishes_and_says_what_it_did(run: Command, manifest: Path, output: Path) -> None:
    """Figures on standard error, nothing on standard output, exit code 0."""
    ended = run(manifest)
    assert (ended.code, ended.out) == (0, "")
    assert "20 ids, 0 already final, 20 landed" in ended.err
    assert "SUCCEEDED 20" in ended.err
    assert len(read_rows(output, "sessions")) == 20
    assert not any(session_id in ended.err for session_id in ids(20))


def test_quiet_run_says_nothing_of_its_progress(run: Command, manifest: Path) -> None:
    """At most the figures at its end."""
    ended = run(manifest, "--quiet")
    assert ended.code == 0
    assert "ids to ask" not in ended.err
    assert "published" not in ended.err


def test_summary_is_the_runs_row_as_json(run: Command, manifest: Path, output: Path, tmp_path: Path) -> None:
    """All its columns, times in ISO 8601."""
    ended = run(manifest, "--summary", tmp_path / "summary.json")
    summary = json.loads((tmp_path / "summary.json").read_text())
    (row,) = read_rows(output, "runs")
    assert ended.code == 0
    assert summary.keys() == row.keys()
    assert summary["by_outcome"] == {"SUCCEEDED": 20}
    assert summary["completed"] is True
    assert summary["started_at"].startswith(row["started_at"].isoformat()[:19])
    unlike = {name for name in row if name not in ("started_at", "finished_at") and summary[name] != row[name]}
    assert unlike == set()


def test_plan_says_what_a_run_would_do_and_does_none_of_it(
    run: Command, rekognition: LocalRekognition, manifest: Path, output: Path
) -> None:
    """Ids left, pace and how many come too late, on standard output; no call, no file."""
    ended = run(manifest, "--max-tps", "25", command="plan")
    assert ended.code == 0
    assert "20" in ended.out
    assert "25/s" in ended.out
    assert rekognition.stats()["requests"] == 0
    assert not output.exists()
    run(manifest)
    before = files_of(output, ".")
    assert run(manifest, command="plan").code == 0
    assert files_of(output, ".") == before


def test_a_source_that_another_run_sweeps_is_left_to_it(
    run: Command, rekognition: LocalRekognition, manifest: Path, output: Path
) -> None:
    """Exit code 2 before any call, and the sentence names the other run; a share of the pace is still to be had."""
    with held_leases(open_store(str(output)), ["default"], "other-run", 0.5, lambda: None):
        ended = run(manifest, "--quiet")
        assert ended.code == 2
        assert "other-run" in ended.sentence
        assert rekognition.stats()["requests"] == 0
        assert run(manifest, "--share", "0.5").code == 0
    assert run(manifest).code == 0


def test_follow_is_for_a_sweep_of_a_manifest_that_grows(run: Command, manifest: Path, output: Path) -> None:
    """Anything else is wrong usage, and one sentence says what it is for."""
    ended = run(manifest, "--follow")
    assert (ended.code, "--follow is for the command sweep" in ended.sentence) == (2, True)
    ended = run(manifest, "--follow", command="sweep")
    assert (ended.code, "needs a manifest that grows" in ended.sentence) == (2, True)
    assert not output.exists()


def test_a_sweep_of_a_glob_says_what_it_does(run: Command, manifest: Path, output: Path, tmp_path: Path) -> None:
    """Its record goes to --summary; a file that is no manifest by its name is said, and costs the exit code alone."""
    summary = tmp_path / "summary.json"
    ended = run(manifest.parent / "*.csv", "--summary", summary, command="sweep")
    assert (ended.code, "landed, 0 not asked" in ended.err) == (0, True)
    assert json.loads(summary.read_text())["landed"] == len(read_rows(output, "landing")) > 0
    (manifest.parent / "notes.bak").touch()
    (manifest.parent / "more.csv").write_text(manifest.read_text())
    ended = run(manifest.parent / "*.*", command="sweep")
    assert (ended.code, "unknown extension (.bak)" in ended.err) == (2, True)
    assert ended.err.count("notes.bak") == 2  # when it was found, and as the reason for the exit code


def test_sweep_then_publish_gives_the_tables(run: Command, cli: Command, manifest: Path, output: Path) -> None:
    """The two halves of run, and publishing again changes nothing."""
    assert run(manifest, command="sweep").code == 0
    assert not (output / "sessions").exists()
    published = cli("publish", "--output", output)
    assert (published.code, published.out) == (0, "")
    assert "published 2026-03-01: 20 sessions" in published.err
    before = files_of(output, *TABLES)
    assert "already current" in cli("publish", "--output", output, "--date", "2026-03-01").err
    assert files_of(output, *TABLES) == before
    assert cli("publish", "--output", output, "--date", "2026-03-01", "--rebuild").code == 0
    assert files_of(output, *TABLES) != before
    assert "Nothing has been landed" in cli("publish", "--output", output, "--date", "2026-03-02").err


def test_incomplete_run_is_exit_code_3_and_the_next_one_0(
    run: Command, rekognition: LocalRekognition, manifest: Path, tmp_path: Path
) -> None:
    """A failed id stands in the tables and is asked again."""
    config = tmp_path / "config.toml"
    config.write_text("[sweep]\nretry_attempts = 1\n")
    rekognition.configure(faults={ONE: "500"})
    ended = run(manifest, "--config", config)
    assert ended.code == 3
    assert "InternalServerError 1" in ended.err
    assert "run it again" in ended.err
    rekognition.configure(faults={})
    assert run(manifest).code == 0


def test_exit_codes_reach_the_shell(manifest: Path, output: Path, rekognition: LocalRekognition) -> None:
    """As a process: 3 for a run whose every call is denied, with the reason in a sentence."""
    rekognition.configure(faults={"*": "denied"})
    options = ("--output", output, "--endpoint-url", rekognition.endpoint_url, "--region", "us-east-1")
    ended = process("run", manifest, *options, "--max-tps", "500")
    assert ended.code == 3
    assert "error: source default (us-east-1): its first 20 calls were all denied" in ended.err
    assert "Traceback" not in ended.err


def test_environment_configures_and_flags_win(
    run: Command, cli: Command, manifest: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LIVENESS_ETL__OUTPUT__URI stands in for --output, --output for it."""
    run(manifest)
    monkeypatch.setenv("LIVENESS_ETL__OUTPUT__URI", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("LIVENESS_ETL__MANIFEST__URI", str(manifest))
    count = "SELECT count(*) AS n FROM sessions"
    assert json.loads(cli("query", count, "--format", "json").out) == [{"n": 0}]
    assert json.loads(cli("query", count, "--format", "json", "--output", output).out) == [{"n": 20}]


def test_date_fills_in_for_created_at_and_the_name_of_the_manifest(run: Command, tmp_path: Path, output: Path) -> None:
    """{date} in the manifest's name, and the partition of its lines."""
    (tmp_path / "ids-2026-02-03.txt").write_text("\n".join(ids(3)))
    assert run(tmp_path / "ids-{date}.txt", "--date", "2026-02-03").code == 0
    assert [path.name for path in (output / "sessions").iterdir()] == ["dt=2026-02-03"]


def test_logs_as_json_are_one_object_a_line(run: Command, manifest: Path, tmp_path: Path) -> None:
    """--log-format json is accepted, and what it logs can be parsed."""
    ended = run(manifest, "--quiet", "--log-format", "json", "--verbose")
    assert ended.code == 0
    for line in ended.err.splitlines():
        if line.startswith("{"):
            assert {"time", "level", "message"} <= json.loads(line).keys()


def test_demo_does_the_whole_job_and_names_commands_that_work(tmp_path: Path) -> None:
    """From nothing to a query's result, offline and without credentials."""
    output = tmp_path / "demo"
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    ended = process("demo", "--sessions", "60", "--output", output, **nobody)
    assert (ended.code, "Traceback" in ended.err) == (0, False)
    assert "Pass rate by challenge type" in ended.out
    assert len(read_rows(output, "sessions")) == 60
    (query,) = re.findall(r"liveness-etl query --output \S+ \"(SELECT outcome.*)\"", ended.out)
    assert "SUCCEEDED" in process("query", "--output", output, query).out


def test_local_rekognition_says_where_it_answers_and_ends_with_a_signal() -> None:
    """It is ready when it has said so."""
    command = [sys.executable, "-u", "-m", "liveness_etl", "local-rekognition", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            found = re.fullmatch(r"LocalRekognition answers at http://127\.0\.0\.1:(\d+)\n", line)
            assert found
            socket.create_connection(("127.0.0.1", int(found[1])), 5).close()
            server.send_signal(signal.SIGTERM)
            assert server.wait(5) == 0
        finally:
            server.kill()


@pytest.mark.parametrize("config", ['{"no_such_setting": 1}', "no json", '{"limit_tps": "many"}', "[1]"])
def test_local_rekognition_refuses_settings_that_cannot_be(cli: Command, config: str) -> None:
    """One sentence, exit code 2."""
    ended = cli("local-rekognition", "--port", "0", "--config-json", config)
    assert ended.code == 2
    assert "--config-json" in ended.sentence


def test_local_rekognition_names_a_port_that_is_taken(cli: Command, rekognition: LocalRekognition) -> None:
    """And what to give instead."""
    ended = cli("local-rekognition", "--port", str(rekognition.port))
    assert ended.code == 2
    assert "try another --port" in ended.sentence


# Query


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output with twenty sessions, for reading only."""
    folder = tmp_path_factory.mktemp("published")
    with LocalRekognition(SUCCEEDING) as rekognition:
        manifest = write_manifest(folder / "manifest.csv", ids(20))
        pipeline.run(make_job(manifest, folder / "output", rekognition.endpoint_url))
    return folder / "output"


def test_query_prints_a_table_or_csv_or_json(cli: Command, published: Path) -> None:
    """The same rows in three forms."""
    sql = "SELECT session_id, dt, attempts, status FROM sessions ORDER BY session_id LIMIT 2"
    first, second = sorted(ids(20))[:2]
    table = cli("query", sql, "--output", published)
    assert (table.code, table.err) == (0, "")
    assert "session_id" in table.out
    assert "2 rows" in table.out
    rows = list(csv.reader(io.StringIO(cli("query", sql, "--output", published, "--format", "csv").out)))
    assert rows == [
        ["session_id", "dt", "attempts", "status"],
        [first, "2026-03-01", "1", "SUCCEEDED"],
        [second, "2026-03-01", "1", "SUCCEEDED"],
    ]
    records = json.loads(cli("query", sql, "--output", published, "--format", "json").out)
    assert records == [
        {"session_id": one, "dt": "2026-03-01", "attempts": 1, "status": "SUCCEEDED"} for one in (first, second)
    ]


@pytest.mark.parametrize(
    "sql", ["FROM sessions", "DESCRIBE sessions", "SUMMARIZE sessions", "PIVOT sessions ON status"]
)
def test_query_takes_what_analysts_write(cli: Command, published: Path, sql: str) -> None:
    """DuckDB's short forms, too."""
    assert cli("query", sql, "--output", published, "--format", "json").code == 0


@pytest.mark.parametrize(
    ("table", "column", "kind"),
    [
        ("sessions", "created_at", "TIMESTAMP WITH TIME ZONE"),
        ("sessions", "attributes", "MAP(VARCHAR, VARCHAR)"),
        ("bounding_boxes", "box_left", "DOUBLE"),
        ("challenges", "version", "VARCHAR"),
        ("feedback", "feedback_index", "INTEGER"),
        ("runs", "by_outcome", "MAP(VARCHAR, BIGINT)"),
        ("rejects", "line_number", "BIGINT"),
        ("rejects", "dt", "DATE"),
    ],
)
def test_query_on_an_empty_output_finds_empty_views_of_the_right_types(
    cli: Command, output: Path, table: str, column: str, kind: str
) -> None:
    """Before the first run every query works and finds nothing."""
    count = cli("query", f"SELECT count(*) AS n FROM {table}", "--output", output, "--format", "json")
    assert json.loads(count.out) == [{"n": 0}]
    described = json.loads(cli("query", f"DESCRIBE {table}", "--output", output, "--format", "json").out)
    assert {row["column_name"]: row["column_type"] for row in described}[column] == kind


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('{outside}')",
        "SELECT * FROM read_csv('{outside}')",
        "SELECT * FROM '{outside}'",
        "SELECT * FROM glob('/*')",
        "COPY sessions TO '{output}/sessions/dt=2026-03-01/part-00000.parquet'",
        "COPY (SELECT 1) TO '{outside}.csv'",
        "SELECT 1; COPY (SELECT 1) TO '{output}/x.csv'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{output}/x.csv'",
        "EXPORT DATABASE '{output}/x'",
        "ATTACH '{output}/x.db'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "PRAGMA enable_profiling = 'json'",
    ],
)
def test_query_reads_the_output_alone_and_writes_nothing(
    cli: Command, published: Path, tmp_path: Path, sql: str
) -> None:
    """A query that somebody else wrote can neither look around nor spoil a table."""
    outside = tmp_path / "outside.csv"
    outside.write_text("SECRET\n1\n")
    before = files_of(published, ".") | files_of(tmp_path, ".")
    ended = cli("query", sql.format(outside=outside, output=published), "--output", published)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: ")
    assert "SECRET" not in ended.err
    assert files_of(published, ".") | files_of(tmp_path, ".") == before


@pytest.mark.parametrize(
    "sql", ["SELEC 1", "SELECT * FROM no_such_table", "SELECT no_such_column FROM sessions", "", ";"]
)
def test_wrong_sql_is_exit_code_2_in_duckdbs_own_words(cli: Command, output: Path, sql: str) -> None:
    """Where there is no statement at all, in ours."""
    ended = cli("query", sql, "--output", output)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: ")


def test_query_refuses_an_unknown_format_and_a_missing_output(cli: Command, output: Path) -> None:
    """One sentence each."""
    assert "--format" in cli("query", "SELECT 1", "--output", output, "--format", "xml").sentence
    assert "--output" in cli("query", "SELECT 1").sentence


def test_query_over_s3_reads_the_output_alone(
    cli: Command,
    rekognition: LocalRekognition,
    manifest: Path,
    tmp_path: Path,
    bucket: str,
    s3_endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same views, and neither local files nor other buckets."""
    monkeypatch.setenv("LIVENESS_ETL__OUTPUT__ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("LIVENESS_ETL__OUTPUT__URI", f"s3://{bucket}/output")
    options = ("--endpoint-url", rekognition.endpoint_url, "--region", "us-east-1", "--max-tps", "500")
    assert cli("run", manifest, *options).code == 0
    sql = "SELECT count(*) AS n, min(dt) AS dt FROM sessions"
    assert json.loads(cli("query", sql, "--format", "json").out) == [{"n": 20, "dt": "2026-03-01"}]
    assert json.loads(cli("query", "SELECT count(*) AS n FROM rejects", "--format", "json").out) == [{"n": 0}]
    for place in (manifest, "s3://another-bucket/x.csv"):
        assert cli("query", f"SELECT * FROM read_csv('{place}')").code == 2
    assert cli("query", sql).err == ""
    monkeypatch.setitem(sys.modules, "duckdb_extension_httpfs", None)
    httpfs._say_once.cache_clear()
    without_extra = cli("query", sql, "--format", "json")
    assert json.loads(without_extra.out) == [{"n": 20, "dt": "2026-03-01"}]
    assert "pip install 'liveness-etl[s3-query]'" in without_extra.err


# Bad input: one clear sentence, the contract's exit code, nothing half-written


def test_an_empty_manifest_is_an_empty_run(run: Command, tmp_path: Path, output: Path) -> None:
    """Exit code 0, recorded, and no table touched."""
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("session_id,created_at\n")
    assert run(manifest).code == 0
    (row,) = read_rows(output, "runs")
    assert (row["requested"], row["completed"]) == (0, True)
    assert not any((output / table).exists() for table in TABLES)
    manifest.write_bytes(b"")
    assert run(manifest).code == 0


def test_wrong_uuids_are_rejected_and_counted(run: Command, tmp_path: Path, output: Path) -> None:
    """The run goes on with the others."""
    manifest = write_manifest(tmp_path / "manifest.csv", [ONE, "", "x" * 36, ONE[:-1], TWO, ONE.replace("-", "")])
    ended = run(manifest)
    assert ended.code == 0
    assert "4 malformed lines" in ended.err
    assert [row["session_id"] for row in read_rows(output, "sessions")] == sorted([ONE, TWO])
    assert [row["line_number"] for row in read_rows(output, "rejects")] == [3, 4, 5, 7]


def corrupt_gzip(folder: Path) -> Path:
    path = folder / "manifest.csv.gz"
    path.write_bytes(gzip.compress(f"session_id\n{ONE}\n".encode() * 1_000)[:-20])
    return path


def text(name: str, content: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / name
        path.write_text(content)
        return path

    return write


GOOD = f"session_id,created_at,source\n{ONE},2026-03-01T12:00:00Z,\n"


@pytest.mark.parametrize(
    ("make_manifest", "words"),
    [
        (lambda folder: folder / "no-such.csv", "no-such.csv"),
        (lambda folder: folder / "*.csv", r"\*"),
        (text("manifest.csv", f"id,created_at\n{ONE},\n"), "session_id"),
        (text("manifest.xlsx", "?"), "xlsx"),
        (text("manifest.jsonl.bz2", "?"), "bz2"),
        (text("manifest.parquet", "no parquet"), "manifest.parquet"),
        (text("manifest.txt", ONE), "--date"),
        (lambda folder: folder, "folder|directory|extension"),
        (corrupt_gzip, "manifest.csv.gz"),
        (lambda folder: Path("s3://no-such-bucket-anywhere"), "s3"),
        (lambda folder: folder / "{date}.csv", "date"),
    ],
    ids=[
        "no-file",
        "no-match",
        "no-session-id-column",
        "unknown-extension",
        "unknown-compression",
        "no-parquet",
        "no-date",
        "folder",
        "cut-gzip",
        "wrong-scheme",
        "date-without-date",
    ],
)
def test_a_manifest_that_cannot_be_read_is_named_before_any_call(
    run: Command,
    rekognition: LocalRekognition,
    tmp_path: Path,
    output: Path,
    make_manifest: Callable[[Path], Path],
    words: str,
) -> None:
    """Exit code 2."""
    ended = run(make_manifest(tmp_path))
    assert ended.code == 2
    assert re.search(words, ended.sentence)
    assert ONE not in ended.err
    assert rekognition.stats()["requests"] == 0
    assert not output.exists()


TWO_SOURCES = '[sources.eu]\nregion = "eu-west-1"\n[sources.us]\nregion = "us-east-1"\n'


@pytest.mark.parametrize(
    ("manifest_text", "config", "words"),
    [
        (GOOD.replace("Z,", "Z,nowhere"), TWO_SOURCES, "eu, us"),
        (GOOD.replace(",source", "").replace("Z,", "Z"), TWO_SOURCES, "source"),
        (GOOD, "[sweeep]\nretry_attempts = 1\n", "sweeep"),
        (GOOD, "[sweep]\nretry_atempts = 1\n", "did you mean sweep.retry_attempts"),
        (GOOD, '[sweep]\nretry_attempts = "many"\n', "sweep.retry_attempts"),
        (GOOD, "[sweep]\nretry_attempts = 0\n", "sweep.retry_attempts"),
        (GOOD, "[sweep\n", "TOML"),
        (GOOD, '[sources.eu]\nregion = "eu-west-1"\nendpoint_url = "http://10.0.0.1"\n', "https"),
        (GOOD, '[sources.eu]\nregion = "eu-west-1"\nendpoint_url = "https://example.org"\n', "--allow-endpoint"),
        (GOOD, '[sources.eu]\nregion = "eu-west-1"\nprofile = "no-such-profile"\n', "no-such-profile"),
    ],
    ids=[
        "unknown-source",
        "no-source-column",
        "unknown-section",
        "unknown-key",
        "wrong-type",
        "bad-value",
        "no-toml",
        "plain-http",
        "foreign-host",
        "unknown-profile",
    ],
)
def test_what_a_configuration_cannot_mean_is_named_before_any_call(
    cli: Command, tmp_path: Path, output: Path, manifest_text: str, config: str, words: str
) -> None:
    """Exit code 2."""
    manifest = text("manifest.csv", manifest_text)(tmp_path)
    file = text("config.toml", config)(tmp_path)
    ended = cli("run", manifest, "--output", output, "--config", file)
    assert ended.code == 2
    assert words in ended.sentence
    assert not output.exists()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--date", "tomorrow"), "--date"),
        (("--date", "2026-02-30"), "--date"),
        (("--endpoint-url", "http://example.org"), "https"),
        (("--endpoint-url", "https://example.org"), "--allow-endpoint"),
        (("--endpoint-url", "ftp://127.0.0.1"), "https://HOST"),
        (("--endpoint-url", f"http://127.0.0.1:{closed_port()}"), "cannot connect"),
        (("--max-tps", "0"), "max_tps"),
        (("--max-tps", "nan"), "max_tps"),
        (("--log-format", "xml"), "log.format"),
        (("--config", "no-such-file.toml"), "no-such-file.toml"),
        (("--output", "ftp://somewhere/else"), "s3://"),
    ],
    ids=lambda value: "=".join(value).split(":")[0] if isinstance(value, tuple) else "",
)
def test_an_option_that_cannot_be_is_named_before_any_call(
    cli: Command, manifest: Path, output: Path, options: tuple[str, str], words: str
) -> None:
    """Exit code 2."""
    ended = cli("run", manifest, "--output", output, "--region", "us-east-1", *options)
    assert ended.code == 2
    assert words in ended.sentence
    assert not output.exists()


def test_what_has_to_be_given_is_asked_for(
    cli: Command, manifest: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Manifest, output, region, credentials: each in a sentence that says how."""
    assert "manifest.uri" in cli("run", "--output", output).sentence
    assert "--output" in cli("run", manifest).sentence
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert "--region" in cli("run", manifest, "--output", output).sentence
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    ended = cli("run", manifest, "--output", output, "--region", "us-east-1", "--max-tps", "5")
    assert ended.code == 2
    assert "AWS_ACCESS_KEY_ID" in ended.sentence
    assert not output.exists()


@pytest.mark.parametrize("command", ["run", "publish", "query", "demo"])
def test_an_output_that_is_a_file_is_a_broken_store(cli: Command, tmp_path: Path, manifest: Path, command: str) -> None:
    """Exit code 1, and the file stays as it is."""
    file = text("output", "mine")(tmp_path)
    more = {"run": (manifest, "--region", "us-east-1"), "query": ("FROM sessions",), "demo": ("--sessions", "5")}
    ended = cli(command, *more.get(command, ()), "--output", file)
    assert ended.code == 1
    assert str(file) in ended.sentence
    assert file.read_text() == "mine"


def test_a_missing_bucket_is_a_broken_store(
    cli: Command, manifest: Path, rekognition: LocalRekognition, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1 before any call, and the sentence says to create it."""
    monkeypatch.setenv("LIVENESS_ETL__OUTPUT__ENDPOINT_URL", s3_endpoint)
    options = ("--endpoint-url", rekognition.endpoint_url, "--region", "us-east-1")
    ended = cli("run", manifest, "--output", "s3://no-such-bucket-here/lake", *options)
    assert ended.code == 1
    assert "no such bucket; create it" in ended.sentence
    assert rekognition.stats()["requests"] == 0


def test_a_summary_that_cannot_be_written_does_not_undo_the_run(
    run: Command, manifest: Path, output: Path, tmp_path: Path
) -> None:
    """Exit code 1, and the sentence says that the run is done."""
    ended = run(manifest, "--quiet", "--summary", tmp_path / "no" / "such" / "folder.json")
    assert ended.code == 1
    assert "the run is done" in ended.err
    assert len(read_rows(output, "sessions")) == 20


def test_no_input_of_a_user_gives_a_traceback_in_a_process(tmp_path: Path) -> None:
    """As the shell sees it: one sentence on standard error, exit code 2."""
    ended = process("run", tmp_path / "no-such.csv", "--output", tmp_path / "output", "--region", "us-east-1")
    assert ended.code == 2
    assert "no-such.csv" in ended.sentence
    assert ended.out == ""
