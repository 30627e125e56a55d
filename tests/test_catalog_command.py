"""The commands `catalog ddl` and `catalog sync` as a user types them; what the views' SQL gives over real tables."""

import socket
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import sqlglot

from liveness_etl.analysis.query import connect
from liveness_etl.analysis.views import CONFIDENCE_DAILY, confidence_daily_sql, results_sql
from liveness_etl.cli import main
from liveness_etl.load import publish
from liveness_etl.storage_folder import LocalStore
from tests.landing_rows import DT, MORNING, image, land, row
from tests.load.cataloguing import OUTPUT, statements

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def catalog(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a subcommand; exit code, standard output and error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["liveness-etl", "catalog", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, printed.out, printed.err

    return run


def test_ddl_prints_the_statements_and_calls_nothing(catalog: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is made, no name is resolved, and no credentials are needed."""

    def refuse(*_: object) -> Any:
        raise AssertionError("a network call")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("LIVENESS_ETL__MANIFEST__ATTRIBUTES", "plan")
    code, out, err = catalog("ddl", "--output", OUTPUT, "--database", "faces")
    assert (code, err) == (0, "")
    assert out == "\n\n".join(f"{statement};" for statement in statements("plan", database="faces")) + "\n"


def test_dry_run_prints_what_sync_then_does(
    catalog: Command, moto_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same lines on standard output; a third run has none, and says so on standard error."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_GLUE", moto_endpoint)
    arguments = ("sync", "--output", OUTPUT, "--database", "of_the_command_line")
    code, planned, err = catalog(*arguments, "--dry-run")
    assert (code, err, len(planned.splitlines())) == (0, "", 9)
    assert catalog(*arguments) == (0, planned, "")
    for more in ((), ("--dry-run",)):
        assert catalog(*arguments, *more) == (0, "", "nothing differs\n")


@pytest.mark.parametrize("command", ["ddl", "sync"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no output"),
        (["--output", "liveness"], "Athena reads from S3 alone"),
        (["--output", OUTPUT, "--database", "No-Such"], "--database must be"),
    ],
)
def test_wrong_usage_is_one_sentence(command: str, arguments: list[str], words: str, catalog: Command) -> None:
    """Exit code 2, before anything is printed or called."""
    code, out, err = catalog(command, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert words in err


@pytest.fixture
def output(folder_store: LocalStore) -> str:
    """Two days: scores, none, errors, images, feedback, attributes, and an answer without a challenge."""
    challenge = {"type": "FaceMovementChallenge", "version": "1.0.0"}
    for day in range(2):
        dt, created_at = DT + timedelta(days=day), MORNING + timedelta(days=day)
        times: dict[str, Any] = {"created_at": created_at, "fetched_at": created_at + timedelta(milliseconds=12_345)}
        scored = [
            row(number, confidence=50.0 + number, challenge=challenge, attributes={"plan": "free"}, **times)
            for number in range(40)
        ]
        images = [image(kind="reference", box=dict.fromkeys(("left", "top", "width", "height"), 0.25)), image(0)]
        others = [
            row(50, "FAILED", confidence=1.5, challenge=challenge, images=images, **times),
            row(51, feedback=[{"code": "B", "message": None}, {"code": "A", "message": "m"}], **times),
            row(52, None, error_code="SessionNotFoundException", created_at=created_at, fetched_at=MORNING),
            row(53, None, error_code="NotAsked", attempts=0, fetched_at=None),
        ]
        land(folder_store, [*scored, *others], dt)
        publish.publish_partition(folder_store, dt)
    return folder_store.uri


def in_duckdb(athena_sql: str) -> str:
    """Athena's SQL as DuckDB's; what cannot be said there fails the test."""
    return sqlglot.transpile(athena_sql, "athena", "duckdb", unsupported_level=sqlglot.ErrorLevel.RAISE)[0]


def test_results_in_athenas_sql_gives_what_duckdbs_view_gives(output: str) -> None:
    """Row for row, type for type."""
    with connect(output, attributes=["plan", "absent"]) as duck:
        found = duck.sql(in_duckdb(results_sql("athena", ["plan", "absent"]))).to_arrow_table()
        wanted = duck.sql("FROM results").to_arrow_table()
    order = [("dt", "ascending"), ("session_id", "ascending")]
    assert found.num_rows == 88
    assert found.sort_by(order).equals(wanted.sort_by(order))


def test_confidence_daily_counts_what_is_there(output: str) -> None:
    """One row per day, source and challenge type; what has no score is counted, never as zero."""
    with connect(output) as duck, duckdb.connect() as other:
        rows = duck.sql(in_duckdb(confidence_daily_sql(80))).order("dt, challenge_type NULLS LAST").to_arrow_table()
        types = other.from_arrow(CONFIDENCE_DAILY.empty_table()).to_arrow_table().schema.types
    assert (rows.schema.names, rows.schema.types) == (CONFIDENCE_DAILY.names, types)
    of_type, without = rows.slice(0, 2).to_pylist()
    assert rows.column("dt").to_pylist() == [DT, DT, DT + timedelta(days=1), DT + timedelta(days=1)]
    assert (of_type["source"], of_type["challenge_type"]) == ("default", "FaceMovementChallenge")
    assert (of_type["sessions"], of_type["succeeded"], of_type["scored"], of_type["unscored_share"]) == (41, 40, 41, 0)
    assert (of_type["threshold"], of_type["passed"]) == (80, 10)
    assert of_type["confidence_p50"] == pytest.approx(69, abs=1)
    assert of_type["confidence_p01"] < of_type["confidence_p05"] < of_type["confidence_p25"] < 62
    assert (without["challenge_type"], without["sessions"], without["succeeded"], without["passed"]) == (None, 3, 1, 0)
    assert (without["scored"], without["unscored_share"], without["confidence_p50"]) == (0, 1, None)
    assert pa.types.is_int64(rows.schema.field("passed").type)
