"""An output in which a newer version of this program has written: every command that would have to understand it
says one sentence, and leaves everything as it is. What was read is landed all the same."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liveness_etl import cli, pipeline, run_report
from liveness_etl.errors import NewerContract, StoreError
from liveness_etl.load import landing, landing_writer, rewrite
from liveness_etl.load.append import append_rows
from liveness_etl.load.publish import publish_partition, table_path
from liveness_etl.load.tombstones import put_tombstones
from liveness_etl.local import LocalRekognition
from liveness_etl.storage import rescue_folder
from liveness_etl.storage_folder import LocalStore
from tests.landing_rows import land, row
from tests.landing_rows import session_id as landed_id
from tests.running import DT, SUCCEEDING, asks, files_of, ids, make_job, read_rows, write_manifest
from tests.stored import paths, read

SENTENCE = "was written by a newer liveness-etl (contract 2; this one knows 1): upgrade this installation"


def as_newer(content: bytes) -> bytes:
    """The same file from a program with the next contract."""
    file = pq.read_table(pa.BufferReader(content))
    sink = pa.BufferOutputStream()
    pq.write_table(file.replace_schema_metadata((file.schema.metadata or {}) | {landing.VERSION_KEY: b"2"}), sink)
    return bytes(sink.getvalue())


def land_newer(store: LocalStore, number: int = 999) -> None:
    landing.append_part(store, DT, f"newer-{number}", as_newer(landing.part_bytes([row(number)])))


@pytest.fixture
def rekognition() -> Any:
    with LocalRekognition(SUCCEEDING) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path, rekognition: LocalRekognition) -> LocalStore:
    """Ten sessions swept and published, before somebody else upgraded."""
    job = make_job(write_manifest(tmp_path / "m.csv", ids(10)), tmp_path / "out", rekognition.endpoint_url)
    assert pipeline.run(job).exit_code == 0
    return LocalStore(tmp_path / "out")


COMMANDS = {
    "plan": ["plan", "MANIFEST"],
    "run": ["run", "MANIFEST"],
    "sweep": ["sweep", "MANIFEST"],
    "publish": ["publish"],
    "publish --rebuild": ["publish", "--rebuild"],
    "forget": ["forget", "ID"],
    "verify": ["verify"],
    "show": ["show", "ID"],
}


def call(words: list[str], store: LocalStore, rekognition: LocalRekognition, tmp_path: Path) -> int:
    manifest = write_manifest(tmp_path / "more.csv", ids(20))
    given = {"MANIFEST": str(manifest), "ID": ids(1)[0]}
    arguments = [given.get(word, word) for word in words] + ["--output", store.uri]
    if words[-1] == "MANIFEST":
        arguments += ["--endpoint-url", rekognition.endpoint_url, "--region", "us-east-1", "--max-tps", "500"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["liveness-etl", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("command", COMMANDS)
def test_newer_landing_is_refused_with_one_sentence(
    command: str, store: LocalStore, rekognition: LocalRekognition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2: nothing was asked, and no file of the output was written, replaced or deleted."""
    land_newer(store)
    before, asked = files_of(store.root, "."), asks(rekognition)
    assert call(COMMANDS[command], store, rekognition, tmp_path) == 2
    told = capsys.readouterr()
    assert told.err.splitlines()[-1].endswith(f"landing/dt={DT}/newer-999.parquet {SENTENCE}")
    assert "Traceback" not in told.err
    after = {path: at for path, at in files_of(store.root, ".").items() if not path.startswith("_state/locks/")}
    assert after == {path: at for path, at in before.items() if not path.startswith("_state/locks/")}
    assert asks(rekognition) == asked


@pytest.mark.parametrize("rebuild", [False, True])
@pytest.mark.parametrize("table", ["challenges", "sessions"])
def test_newer_tables_are_never_replaced_by_older_ones(store: LocalStore, table: str, rebuild: bool) -> None:
    """Not by a rebuild, nor after more has landed; the file is named."""
    path = table_path(table, DT)
    store.put(path, as_newer(read(store, path)))
    land(store, [row(1)], DT)
    before = files_of(store.root, "sessions", "challenges", "bounding_boxes", "feedback")
    with pytest.raises(NewerContract) as refused:
        publish_partition(store, DT, rebuild=rebuild)
    assert str(refused.value) == f"{store.uri}/{path} {SENTENCE}"
    assert files_of(store.root, "sessions", "challenges", "bounding_boxes", "feedback") == before


@pytest.mark.parametrize("folder", ["feedback", "runs"])
def test_verify_refuses_newer_tables_and_records(
    folder: str, store: LocalStore, rekognition: LocalRekognition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its findings would advise to make them again, or to delete them."""
    (path,) = paths(store, f"{folder}/")
    store.put(path, as_newer(read(store, path)))
    assert call(["verify"], store, rekognition, tmp_path) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"{path} {SENTENCE}")


def test_other_partitions_go_on(store: LocalStore, rekognition: LocalRekognition, tmp_path: Path) -> None:
    """A manifest of another day meets nothing newer."""
    land_newer(store)
    manifest = write_manifest(tmp_path / "next.csv", ids(3, seed=2), datetime(2026, 3, 2, 12, tzinfo=UTC))
    assert pipeline.run(make_job(manifest, store.root, rekognition.endpoint_url)).exit_code == 0


class Upgraded(run_report.Observer):
    """Somebody else's newer program lands and folds here while the sweep is under way."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    def planned(self, plan: Any) -> None:
        land_newer(self._store)
        rows = as_newer(landing.part_bytes([row(998)]))
        table = pq.read_table(pa.BufferReader(rows))
        sink = pa.BufferOutputStream()
        pq.write_table(table.replace_schema_metadata(table.schema.metadata | {landing.FOLDED_KEY: b'["x"]'}), sink)
        landing.append_part(self._store, DT, "fold-newer", bytes(sink.getvalue()))


@pytest.mark.parametrize(("command", "many"), [("run", 200), ("sweep", 1)])
def test_sweep_that_meets_a_newer_part_lands_what_it_reads(
    store: LocalStore,
    rekognition: LocalRekognition,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    many: int,
) -> None:
    """The upgrade comes in the middle: every answer is landed and counted, and nothing of the newer one is touched.

    A `run` then cannot publish; since it has asked, that is no wrong usage (2) any more.
    """
    monkeypatch.setattr(rewrite, "MANY_PARTS", many)
    manifest = write_manifest(tmp_path / "more.csv", ids(20))
    job = make_job(manifest, store.root, rekognition.endpoint_url, command=command)
    if command == "run":
        with pytest.raises(StoreError, match="upgrade this installation") as refused:
            pipeline.run(job, Upgraded(store))
        assert refused.value.exit_code == 1
    else:
        assert pipeline.run(job, Upgraded(store)).exit_code == 0
    landed = {found["session_id"] for found in read_rows(store.root, "landing")}
    assert landed == {*ids(20), landed_id(998), landed_id(999)}
    record = next(found for found in read_rows(store.root, "runs") if found["run_id"] == job.run_id)
    assert (record["landed"], record["completed"]) == (10, command == "sweep")
    assert sum("newer" in path for path in paths(store, "landing/")) == 2


def test_answer_of_an_erased_id_beside_a_newer_part_is_durable_and_said(
    store: LocalStore, caplog: pytest.LogCaptureFixture
) -> None:
    """It cannot be erased by this program; the sweep goes on, and the newer program's publish erases it."""
    land_newer(store)
    put_tombstones(LocalStore(store.root), [landed_id(1)], datetime(2026, 3, 1, tzinfo=UTC))
    append_rows(store, DT, "mine", [row(1), row(2)])
    assert f"{SENTENCE}; then run the forget once more that erased sessions of {DT}" in caplog.text
    assert f"landing/dt={DT}/mine.parquet" in paths(store, "landing/")


def test_newer_rescue_part_waits_for_the_newer_program(store: LocalStore, state_home: Path) -> None:
    """Landed by this program it would lock this program out."""
    part = rescue_folder(store.uri) / f"dt={DT}" / "rescued.parquet"
    part.parent.mkdir(parents=True)
    part.write_bytes(as_newer(landing.part_bytes([row(1)])))
    before = paths(store, "landing/")
    for act in (landing_writer.land_rescued, lambda store: landing_writer.forget_rescued(store, [landed_id(1)])):
        with pytest.raises(NewerContract) as refused:
            act(store)
        assert str(refused.value) == f"the rescue part {part} {SENTENCE}"
    assert part.exists()
    assert paths(store, "landing/") == before
