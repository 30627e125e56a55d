"""The landing zone: append, read, fold, and parts that are older, newer, damaged or gone."""

from collections.abc import Callable
from datetime import date
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liveness_etl.errors import Conflict, Missing, StoreError
from liveness_etl.load import landing, publish, rewrite
from liveness_etl.storage import Store
from liveness_etl.storage_folder import LocalStore
from liveness_etl.transform import tables
from tests.landing_rows import DT, image, land, landed_ids, row, session_id, sessions
from tests.stored import paths, read

FOLDER = "landing/dt=2026-01-01/"


def restored(store: Store, act: Callable[[], Any]) -> list[str]:
    """Do something that deletes landing parts, and put them back: as if it had died before it deleted."""
    before = {path: read(store, path) for path in paths(store, FOLDER)}
    act()
    gone = [path for path in before if store.head(path) is None]
    for path in gone:
        store.put(path, before[path])
    return gone


def write(store: Store, path: str, version: str | None, schema: pa.Schema, *rows: dict[str, Any]) -> None:
    """A part as another version would have written it."""
    metadata = {} if version is None else {landing.VERSION_KEY: version}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema.with_metadata(metadata)), sink)
    store.put(path, bytes(sink.getvalue()))


def test_landed_rows_are_read_back_whole(store: Store) -> None:
    """Every column, nested ones too, comes back as it was landed."""
    rows = [
        row(0, confidence=99.5, challenge={"type": "T", "version": "1"}, attributes=[("team", "a"), ("site", "b")]),
        row(1, images=[image(0, box={"left": 0.1, "top": -1.0, "width": None, "height": 2.0}), image(1)]),
        row(2, None, feedback=[{"code": "A", "message": None}], error_code="TimeoutError", fetched_at=None),
    ]
    land(store, rows)
    found = landing.scan(store, landing.read_landed(store, DT).parts).read_all()
    assert found.to_pylist() == rows
    assert found.schema.equals(tables.LANDING)


def test_scan_gives_the_columns_that_were_asked_for(store: Store) -> None:
    """A plan reads a few columns only."""
    land(store, [row(0)])
    found = landing.scan(store, landing.read_landed(store, DT).parts, ["status", "session_id"]).read_all()
    assert found.to_pylist() == [{"status": "SUCCEEDED", "session_id": session_id(0)}]


def test_many_parts_are_read_in_their_order(folder_store: LocalStore) -> None:
    """More parts than are opened ahead come one after the other."""
    for number in range(20):
        land(folder_store, [row(number)], name=f"part-{number:02}")
    parts = landing.read_landed(folder_store, DT).parts
    found = landing.scan(folder_store, parts, ["session_id"]).read_all()["session_id"].to_pylist()
    assert found == [session_id(number) for number in range(20)]


def test_part_never_covers_another_one(store: Store) -> None:
    """A name that is taken is a Conflict, and the part that has it stays."""
    land(store, [row(0)], name="run-1")
    with pytest.raises(Conflict):
        land(store, [row(1)], name="run-1")
    assert landed_ids(store) == [session_id(0)]


def test_partitions_are_listed_by_date(store: Store) -> None:
    """A folder that is no partition and a file that is no part harm nothing."""
    for day in (3, 1, 2):
        land(store, [row()], dt=date(2026, 1, day))
    store.put("landing/dt=2026-01-01 (copy)/x.parquet", b"")
    store.put("landing/dt=20260104/x.parquet", b"")
    store.put("landing/README.txt", b"")
    store.put(f"{FOLDER}notes.txt", b"")
    assert landing.list_partitions(store) == [date(2026, 1, day) for day in (1, 2, 3)]
    assert len(landing.read_landed(store, DT).parts) == 1


def test_fold_that_does_not_name_its_parts_is_said(store: Store) -> None:
    """Nobody can tell whether its rows are there twice."""
    land(store, [row()], name="fold-made-by-somebody-else")
    with pytest.raises(StoreError, match="does not name the parts that it replaces: restore it"):
        landing.read_landed(store, DT)


def test_fold_makes_one_part_of_many(store: Store) -> None:
    """The rows are the same, the fingerprint is the same, and the old parts are gone."""
    for number in range(5):
        land(store, [row(number), row(number)])
    before, fingerprint = landed_ids(store), landing.read_landed(store, DT).fingerprint
    assert rewrite.fold(store, DT) == 5
    after = landing.read_landed(store, DT)
    assert (len(after.parts), after.covered) == (1, ())
    assert landed_ids(store) == before
    assert after.fingerprint == fingerprint
    assert paths(store, FOLDER) == [after.parts[0].path]


def test_fold_of_a_fold_still_knows_the_first_parts(store: Store) -> None:
    """The fingerprint names the parts that sweeps wrote, however often they were folded."""
    twin = LocalStore(store.root.parent / "twin") if isinstance(store, LocalStore) else store
    for number in range(4):
        land(twin, [row(number)], name=f"part-{number}", dt=date(2026, 2, 1))
    for number in range(4):
        land(store, [row(number)], name=f"part-{number}")
        rewrite.fold(store, DT)
    folded, plain = landing.read_landed(store, DT), landing.read_landed(twin, date(2026, 2, 1))
    assert (len(folded.parts), len(plain.parts)) == (1, 4)
    assert folded.fingerprint == plain.fingerprint


def test_new_part_changes_the_fingerprint(store: Store) -> None:
    """What was published without it is no longer current."""
    land(store, [row(0)])
    rewrite.fold(store, DT)
    first = landing.read_landed(store, DT).fingerprint
    land(store, [row(1)])
    assert landing.read_landed(store, DT).fingerprint != first


def test_fold_waits_for_as_many_parts_as_are_asked_for(store: Store) -> None:
    """One part is never folded, and a sweep folds from 200 on."""
    land(store, [row(0)])
    assert rewrite.fold(store, DT) == 0
    land(store, [row(1)])
    assert rewrite.fold(store, DT, at_least=3) == 0
    assert len(landing.read_landed(store, DT).parts) == 2


def test_fold_that_died_before_it_deleted_harms_nothing(store: Store) -> None:
    """Its part counts and the originals do not: rows come once, publish is right, the next fold cleans up."""
    for number in range(3):
        land(store, [row(number)])
    fingerprint = landing.read_landed(store, DT).fingerprint
    left = restored(store, lambda: rewrite.fold(store, DT))
    assert len(left) == 3
    crashed = landing.read_landed(store, DT)
    assert [part.path for part in crashed.covered] == left
    assert len(crashed.parts) == 1
    assert crashed.fingerprint == fingerprint
    assert landed_ids(store) == [session_id(number) for number in range(3)]
    land(store, [row(3)])
    publish.publish_partition(store, DT, fold=False)
    assert [found["session_id"] for found in sessions(store)] == [session_id(number) for number in range(4)]
    rewrite.fold(store, DT)
    assert len(paths(store, FOLDER)) == 1
    assert landed_ids(store) == [session_id(number) for number in range(4)]


def test_fold_of_a_fold_that_died_before_it_deleted_harms_nothing(store: Store) -> None:
    """Two folds that hold the same rows give them twice to publish, which ignores that, and then become one."""
    land(store, [row(0)])
    land(store, [row(1)])
    rewrite.fold(store, DT)
    land(store, [row(2)])
    fingerprint = landing.read_landed(store, DT).fingerprint
    restored(store, lambda: rewrite.fold(store, DT))
    assert landing.read_landed(store, DT).fingerprint == fingerprint
    publish.publish_partition(store, DT)
    assert [found["session_id"] for found in sessions(store)] == [session_id(number) for number in range(3)]
    assert len(paths(store, FOLDER)) == 1
    assert landing.read_landed(store, DT).fingerprint == fingerprint


def test_fold_overtaken_by_another_one_does_nothing(folder_store: LocalStore) -> None:
    """On S3 two folds may meet: the one whose parts are gone lets go."""

    class Overtaken(LocalStore):
        def open(self, path: str) -> pa.NativeFile:
            with folder_store.lock("overtaking"):  # several parts are opened at once
                rewrite.fold(folder_store, DT)
            return super().open(path)

    for number in range(3):
        land(folder_store, [row(number)])
    assert rewrite.fold(Overtaken(folder_store.root), DT) == 0
    assert landed_ids(folder_store) == [session_id(number) for number in range(3)]


def test_part_of_an_older_version_lacks_a_column(store: Store) -> None:
    """What an older version did not know is NULL; it is read, folded and published with the others."""
    older = pa.schema([field for field in tables.LANDING if field.name not in ("sdk_type", "feedback")])
    write(store, f"{FOLDER}old.parquet", "1", older, row(0, confidence=5.0))
    land(store, [row(1, sdk_type="WEB")], name="new")
    rewrite.fold(store, DT)
    publish.publish_partition(store, DT)
    assert [(found["sdk_type"], found["confidence"]) for found in sessions(store)] == [(None, 5.0), ("WEB", None)]


@pytest.mark.parametrize("version", ["x", "", "-1", "1.0"])
def test_part_of_no_version_is_refused(folder_store: LocalStore, version: str) -> None:
    """Nobody knows what it means; the message says what to do."""
    write(folder_store, f"{FOLDER}odd.parquet", version, tables.LANDING, row(1))
    with pytest.raises(StoreError, match=r"odd\.parquet has a contract version that is no number: restore it"):
        publish.publish_partition(folder_store, DT)
    assert paths(folder_store, "sessions/") == []


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def spoil(content: bytes) -> bytes:
    """Nothing but the footer is whole."""
    footer = int.from_bytes(content[-8:-4], "little") + 8
    return content[:4] + b"\xaa" * (len(content) - footer - 4) + content[-footer:]


@pytest.mark.parametrize("damage", [cut, spoil, lambda _: b""], ids=["cut", "spoiled", "empty"])
@pytest.mark.parametrize("use", [publish.publish_partition, rewrite.fold], ids=["publish", "fold"])
def test_damaged_part_is_named(
    store: Store, use: Callable[[Store, date], Any], damage: Callable[[bytes], bytes]
) -> None:
    """Whatever is wrong with a part, the message names it and says what to do, and nothing is written."""
    for number in range(3):
        land(store, [row(number)], name=f"part-{number}")
    path = f"{FOLDER}part-1.parquet"
    store.put(path, damage(read(store, path)))
    with pytest.raises(StoreError) as caught:
        use(store, DT)
    assert str(caught.value).startswith(f"landing part {store.uri}/{path} cannot be read (")
    assert str(caught.value).endswith("): restore it from a backup or move it away, then publish again")
    assert len(paths(store, FOLDER)) == 3
    assert paths(store, "sessions/") == []


def test_listed_part_that_is_gone_is_missing(store: Store) -> None:
    """A scan tells a part that another fold took from a damaged one."""
    land(store, [row(0)])
    land(store, [row(1)])
    parts = landing.read_landed(store, DT).parts
    store.delete([parts[1].path])
    with pytest.raises(Missing):
        landing.scan(store, parts).read_all()


def test_part_of_an_image_answer_holds_no_bytes_column() -> None:
    """A part's columns are the contract's, in its order, and its name carries the version."""
    file = pq.ParquetFile(pa.BufferReader(landing.part_bytes([row()])))
    assert file.schema_arrow.names == tables.LANDING.names
    assert file.schema_arrow.metadata[landing.VERSION_KEY].decode() == tables.CONTRACT_VERSION
    assert PurePosixPath(landing.folder_of(DT)) == PurePosixPath("landing/dt=2026-01-01")
