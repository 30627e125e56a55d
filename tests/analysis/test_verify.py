"""Each defect, planted alone into a sound output of the real pipeline, is found: that one and no other."""

import contextlib
import io
import uuid
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from liveness_etl import pipeline, upkeep
from liveness_etl.analysis.findings import Finding
from liveness_etl.errors import ManifestError, StoreError, UsageError
from liveness_etl.load import landing
from liveness_etl.load.publish import table_path
from liveness_etl.load.records import write_run
from liveness_etl.storage import Store
from liveness_etl.transform import tables
from tests import landing_rows
from tests.analysis.conftest import FIRST, SECOND, Output
from tests.load.test_records import run_row
from tests.running import ids
from tests.stored import paths, read

SESSIONS, CHALLENGES = table_path("sessions", FIRST), table_path("challenges", FIRST)
BOXES, FEEDBACK = table_path("bounding_boxes", FIRST), table_path("feedback", FIRST)
STRANGER = str(uuid.UUID(int=7))


def rewrite(store: Store, path: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the rows of a Parquet file, and nothing of what it says of itself."""
    store.put(path, parquet(change(pq.read_table(io.BytesIO(read(store, path)), partitioning=None))))


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def with_column(table: pa.Table, name: str, values: Iterable[Any]) -> pa.Table:
    field = table.schema.field(name)
    return table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))


def with_row(table: pa.Table, **columns: Any) -> pa.Table:
    """One more row, in its place."""
    row = dict.fromkeys(table.schema.names) | columns
    more = pa.concat_tables([table, pa.Table.from_pylist([row], schema=table.schema)])
    return more.sort_by("session_id")


def changed_first(column: pa.ChunkedArray, value: Any) -> list[Any]:
    return [value, *column.to_pylist()[1:]]


def part_of(store: Store, dt: date = FIRST) -> str:
    (part,) = paths(store, landing.folder_of(dt))
    return part


def flip(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 0x10]) + content[position + 1 :]


def unnoticed_flip(content: bytes) -> bytes:
    """With one bit flipped in a page, such that the file can be read all the same and says something else."""
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    rows = pq.read_table(io.BytesIO(content))
    for position in range(4, footer):
        flipped = flip(content, position)
        with contextlib.suppress(pa.ArrowException, OSError):
            if not pq.read_table(io.BytesIO(flipped)).equals(rows):
                return flipped
    raise AssertionError("every flip breaks it")


def an_image(store: Store) -> str:
    return paths(store, f"images/dt={FIRST}/")[0]


def swap(store: Store, one: str, other: str) -> None:
    ours, theirs = read(store, one), read(store, other)
    store.put(one, theirs)
    store.put(other, ours)


def swap_partitions(store: Store) -> None:
    for table in tables.TABLES:
        swap(store, table_path(table, FIRST), table_path(table, SECOND))


def uri_changed(uri: str) -> Callable[[Store], None]:
    """Point the first stored image elsewhere, in landing and in the table alike."""

    def plant(store: Store) -> None:
        def boxes(table: pa.Table) -> pa.Table:
            uris = table["image_uri"].to_pylist()
            chosen.append(uris[pc.index(pc.is_valid(table["image_sha256"]), True).as_py()])
            return with_column(table, "image_uri", [uri if one == chosen[0] else one for one in uris])

        def landed(table: pa.Table) -> pa.Table:
            images = table["images"].to_pylist()
            for one in (image for some in images for image in some if image["image_uri"] == chosen[0]):
                one["image_uri"] = uri
            return with_column(table, "images", images)

        chosen: list[str] = []
        rewrite(store, BOXES, boxes)
        rewrite(store, part_of(store), landed)
        # Else it would be noted as one that no row refers to.
        store.delete(path for path in paths(store, "images/") if store.uri_of(path) == chosen[0])

    return plant


def late_part(store: Store) -> None:
    landing_rows.land(store, [landing_rows.row(1)], FIRST)


DEFECTS: dict[str, tuple[Callable[[Store], Any], str, str, int]] = {
    # tables: rows
    "a missing row": (lambda s: rewrite(s, SESSIONS, lambda t: t.slice(1)), "row-missing", SESSIONS, 1),
    "a doubled id": (
        lambda s: rewrite(s, SESSIONS, lambda t: pa.concat_tables([t.slice(0, 1), t])),
        "row-doubled",
        SESSIONS,
        1,
    ),
    "a doubled id with another outcome, at the end": (
        lambda s: rewrite(
            s, SESSIONS, lambda t: pa.concat_tables([t, with_column(t.slice(0, 1), "outcome", ["EXPIRED"])])
        ),
        "row-doubled",
        SESSIONS,
        1,
    ),
    "a surplus row": (
        lambda s: rewrite(
            s, SESSIONS, lambda t: with_row(t, **t.slice(0, 1).to_pylist()[0] | {"session_id": STRANGER})
        ),
        "row-surplus",
        SESSIONS,
        1,
    ),
    "an altered value": (
        lambda s: rewrite(s, SESSIONS, lambda t: with_column(t, "outcome", changed_first(t["outcome"], "FINE"))),
        "row-altered",
        SESSIONS,
        1,
    ),
    "an altered confidence": (
        lambda s: rewrite(s, SESSIONS, lambda t: with_column(t, "confidence", changed_first(t["confidence"], 12.5))),
        "row-altered",
        SESSIONS,
        1,
    ),
    "rows in another order": (
        lambda s: rewrite(s, SESSIONS, lambda t: pa.concat_tables([t.slice(1), t.slice(0, 1)])),
        "row-order",
        SESSIONS,
        1,
    ),
    "an orphan child": (
        lambda s: rewrite(s, FEEDBACK, lambda t: with_row(t, session_id=STRANGER, feedback_index=0, code="X")),
        "row-orphan",
        FEEDBACK,
        1,
    ),
    "an orphan challenge": (
        lambda s: rewrite(s, CHALLENGES, lambda t: with_row(t, session_id=STRANGER)),
        "row-orphan",
        CHALLENGES,
        1,
    ),
    "a second challenge": (
        lambda s: rewrite(s, CHALLENGES, lambda t: with_row(t, session_id=t["session_id"][0].as_py(), type="X")),
        "row-doubled",
        CHALLENGES,
        1,
    ),
    "a doubled box": (
        lambda s: rewrite(s, BOXES, lambda t: pa.concat_tables([t.slice(0, 1), t])),
        "row-doubled",
        BOXES,
        1,
    ),
    "a missing box": (lambda s: rewrite(s, BOXES, lambda t: t.slice(1)), "row-missing", BOXES, 1),
    "boxes of a session in another order": (
        lambda s: rewrite(s, BOXES, lambda t: pa.concat_tables([t.slice(1, 1), t.slice(0, 1), t.slice(2)])),
        "row-order",
        BOXES,
        1,
    ),
    "no rows at all": (lambda s: rewrite(s, SESSIONS, lambda t: t.slice(0, 0)), "row-missing", SESSIONS, 24),
    # tables: files
    "a deleted table file": (lambda s: s.delete([FEEDBACK]), "table-missing", FEEDBACK, 1),
    "a partition that nobody published": (
        lambda s: s.delete([table_path(table, FIRST) for table in tables.TABLES]),
        "table-stale",
        f"landing/dt={FIRST}/",
        4,
    ),
    "a table cut in half": (lambda s: s.put(BOXES, read(s, BOXES)[:2000]), "table-damaged", BOXES, 1),
    "an empty file as a table": (lambda s: s.put(SESSIONS, b""), "table-damaged", SESSIONS, 1),
    "a flipped bit in a page": (
        lambda s: s.put(SESSIONS, unnoticed_flip(read(s, SESSIONS))),
        "table-damaged",
        SESSIONS,
        1,
    ),
    "a float32 column": (
        lambda s: rewrite(
            s,
            SESSIONS,
            lambda t: t.set_column(
                t.schema.get_field_index("confidence"), "confidence", t["confidence"].cast(pa.float32())
            ),
        ),
        "table-schema",
        SESSIONS,
        1,
    ),
    "a column that may be NULL": (
        lambda s: rewrite(
            s, SESSIONS, lambda t: t.cast(pa.schema([f.with_nullable(True) for f in t.schema], t.schema.metadata))
        ),
        "table-schema",
        SESSIONS,
        1,
    ),
    "a column too much": (
        lambda s: rewrite(s, FEEDBACK, lambda t: t.append_column("dt", pa.array(["x"] * len(t)))),
        "table-schema",
        FEEDBACK,
        1,
    ),
    "a file of another table": (lambda s: s.put(CHALLENGES, read(s, FEEDBACK)), "table-schema", CHALLENGES, 1),
    "a file that another program wrote": (
        lambda s: rewrite(s, SESSIONS, lambda t: t.replace_schema_metadata()),
        "table-origin",
        SESSIONS,
        1,
    ),
    "one table of another partition": (
        lambda s: s.put(FEEDBACK, read(s, table_path("feedback", SECOND))),
        "table-stale",
        f"landing/dt={FIRST}/",
        1,
    ),
    "stale tables": (late_part, "table-stale", f"landing/dt={FIRST}/", 4),
    # landing
    "a landing part cut in half": (
        lambda s: s.put(part_of(s), read(s, part_of(s))[: len(read(s, part_of(s))) // 2]),
        "landing-damaged",
        "landing/",
        1,
    ),
    "a flipped bit in landing": (
        lambda s: s.put(part_of(s), unnoticed_flip(read(s, part_of(s)))),
        "landing-damaged",
        "landing/",
        1,
    ),
    "a landing part that is gone": (lambda s: s.delete([part_of(s)]), "landing-lost", SESSIONS, 24),
    "a landing part of no version": (
        lambda s: rewrite(s, part_of(s), lambda t: t.replace_schema_metadata({landing.VERSION_KEY: b"x"})),
        "landing-schema",
        "landing/",
        1,
    ),
    "a landing part of another schema": (
        lambda s: s.put(f"landing/dt={FIRST}/x.parquet", read(s, FEEDBACK)),
        "landing-schema",
        "landing/",
        1,
    ),
    "a fold that does not say what it holds": (
        lambda s: (
            rewrite(s, part_of(s), lambda t: t.replace_schema_metadata({landing.VERSION_KEY: tables.CONTRACT_VERSION}))
            or (
                s.put(f"landing/dt={FIRST}/fold-x.parquet", read(s, part_of(s)))
                and s.delete([next(p for p in paths(s, landing.folder_of(FIRST)) if "fold-x" not in p)])
            )
        ),
        "landing-schema",
        "landing/",
        1,
    ),
    # files
    "a second file of a table": (
        lambda s: s.put(f"sessions/dt={FIRST}/part-00001.parquet", read(s, SESSIONS)),
        "stray-file",
        f"sessions/dt={FIRST}/part-00001.parquet",
        1,
    ),
    "a hidden Parquet file": (
        lambda s: s.put(f"sessions/dt={FIRST}/_part-00000.parquet", read(s, SESSIONS)),
        "stray-file",
        f"sessions/dt={FIRST}/_part-00000.parquet",
        1,
    ),
    "a file in a table's folder": (lambda s: s.put("feedback/README", b"hello"), "stray-file", "feedback/README", 1),
    "a partition without a date": (
        lambda s: s.put("sessions/dt=today/part-00000.parquet", b""),
        "stray-file",
        "sessions/dt=today/part-00000.parquet",
        1,
    ),
    "a landing part in no partition": (
        lambda s: s.put("landing/part.parquet", b""),
        "stray-file",
        "landing/part.parquet",
        1,
    ),
    "a stray file among the records": (lambda s: s.put("runs/notes.txt", b""), "stray-file", "runs/notes.txt", 1),
    "a record that is no record": (
        lambda s: s.put(f"runs/dt={FIRST}/x.parquet", read(s, FEEDBACK)),
        "record-damaged",
        f"runs/dt={FIRST}/x.parquet",
        1,
    ),
    "rejects cut in half": (
        lambda s: s.put(f"rejects/dt={FIRST}/x.parquet", b"PAR1"),
        "record-damaged",
        f"rejects/dt={FIRST}/x.parquet",
        1,
    ),
    # images
    "a deleted image": (lambda s: s.delete([an_image(s)]), "image-missing", BOXES, 1),
    "an altered byte of an image": (
        lambda s: s.put(an_image(s), flip(read(s, an_image(s)), 50)),
        "image-altered",
        BOXES,
        1,
    ),
    "an image cut short": (lambda s: s.put(an_image(s), read(s, an_image(s))[:-1]), "image-altered", BOXES, 1),
    "an image of this machine": (uri_changed("file:///etc/passwd"), "image-elsewhere", BOXES, 1),
    "an image of another bucket": (uri_changed("s3://elsewhere/x.jpg"), "image-elsewhere", BOXES, 1),
}


def defects(findings: Iterable[Finding]) -> list[Finding]:
    return [found for found in findings if not found.is_note]


def test_sound_output_has_no_finding(output: Output) -> None:
    """Nothing is found, not even a note, and everything was looked at."""
    before = {entry.path: entry.etag for entry in output.store.list("")}
    verified = output.verify(output.manifest)
    assert verified.findings == ()
    assert verified.exit_code == 0
    assert (verified.partitions, verified.sessions) == (2, 36)
    assert verified.images == len(paths(output.store, "images/")) > 0
    assert {entry.path: entry.etag for entry in output.store.list("")} == before


@pytest.mark.parametrize("name", DEFECTS)
def test_planted_defect_is_found_and_nothing_else(name: str, folder_output: Output) -> None:
    """One defect, one finding: what it is, where, and how many."""
    finds_it_alone(name, folder_output)


@pytest.mark.parametrize(
    "name",
    [
        "a missing row",
        "a table cut in half",
        "a landing part cut in half",
        "a hidden Parquet file",
        "a deleted image",
        "an altered byte of an image",
        "an image of this machine",
    ],
)
def test_planted_defect_is_found_on_s3(name: str, s3_output: Output) -> None:
    """The same for what is read in another way there."""
    finds_it_alone(name, s3_output)


def finds_it_alone(name: str, output: Output) -> None:
    plant, check, where, count = DEFECTS[name]
    plant(output.store)
    verified = output.verify()
    (found,) = verified.findings
    assert (found.check, found.count) == (check, count)
    assert found.where.startswith(where)
    assert verified.exit_code == 3


def test_rows_are_named_by_their_ids(folder_output: Output) -> None:
    """Up to five session ids tell where to look."""
    rewrite(folder_output.store, SESSIONS, lambda table: table.slice(7))
    (found,) = folder_output.verify().findings
    assert found.count == 7
    assert found.session_ids == tuple(sorted(ids(24))[:5])


# Between partitions


def test_swapped_partitions_are_found(folder_output: Output) -> None:
    """Sound files in the wrong place: landing does not hold their answers. Each partition has one finding."""
    swap_partitions(folder_output.store)
    found = [
        one for one in defects(folder_output.verify().findings) if one.check.startswith(("landing", "table", "row"))
    ]
    assert [(one.check, one.where, one.count) for one in found] == [
        ("landing-lost", SESSIONS, 12),
        ("landing-lost", table_path("sessions", SECOND), 24),
    ]


def test_id_in_two_partitions_is_found(folder_output: Output) -> None:
    """Each partition is sound by itself; the pair is named, with the query that finds the rows."""
    (row,) = (
        pq.read_table(io.BytesIO(read(folder_output.store, part_of(folder_output.store))))
        .slice(0, 1)
        .to_pylist(maps_as_pydicts="strict")
    )
    landing_rows.land(folder_output.store, [row | {"images": []}], SECOND)
    pipeline.publish_partition(folder_output.job().settings, SECOND)
    (found,) = folder_output.verify().findings
    assert (found.check, found.count) == ("id-in-two-partitions", 1)
    assert found.where == f"sessions/dt={FIRST}/, sessions/dt={SECOND}/"
    assert found.session_ids == (row["session_id"],)
    assert f"IN ('{FIRST}', '{SECOND}')" in found.advice


def test_several_defects_are_all_found(folder_output: Output) -> None:
    """One defect does not hide another, in whatever partition."""
    store = folder_output.store
    rewrite(store, SESSIONS, lambda table: pa.concat_tables([table.slice(1, 1), table.slice(1)]))
    store.put(table_path("feedback", SECOND), b"")
    store.delete([an_image(store)])
    found = {one.check for one in folder_output.verify().findings}
    assert found == {"row-missing", "row-doubled", "table-damaged", "image-missing"}


# Stale tables


def test_stale_tables_are_held_against_each_other(folder_output: Output) -> None:
    """A publish would mend them; what is wrong in them shows all the same."""
    store = folder_output.store
    late_part(store)
    rewrite(store, FEEDBACK, lambda table: with_row(table, session_id=STRANGER, feedback_index=0))
    rewrite(store, SESSIONS, lambda table: pa.concat_tables([table.slice(0, 1), table]))
    found = [(one.check, one.where) for one in folder_output.verify().findings]
    assert found == [("row-orphan", FEEDBACK), ("row-doubled", SESSIONS), ("table-stale", f"landing/dt={FIRST}/")]


def test_lost_landing_part_is_not_taken_for_stale_tables(folder_output: Output) -> None:
    """`publish` would drop the answers that only the tables still hold: the finding says so."""
    store = folder_output.store
    late_part(store)
    store.delete(path for path in paths(store, landing.folder_of(FIRST)) if "part-" not in path)
    (found,) = defects(folder_output.verify().findings)
    assert (found.check, found.count) == ("landing-lost", 24)
    assert "restore" in found.advice


def test_forgotten_answer_is_not_a_lost_one(folder_output: Output) -> None:
    """What was erased from landing on purpose, and not yet published, is no loss."""
    folder_output.store.delete([part_of(folder_output.store)])
    verified = upkeep.verify_output(
        folder_output.store, [(folder_output.store, "images/")], forgotten=lambda session_ids: set(session_ids)
    )
    assert defects(verified.findings) == []


def test_tables_beside_damaged_landing_are_held_against_each_other(folder_output: Output) -> None:
    """Landing says nothing then; a doubled id is seen in the table itself."""
    store = folder_output.store
    store.put(part_of(store), b"PAR1")
    rewrite(store, SESSIONS, lambda table: pa.concat_tables([table.slice(0, 1), table]))
    assert [one.check for one in folder_output.verify().findings] == ["landing-damaged", "row-doubled"]


def test_values_that_are_never_landed_are_found(folder_output: Output) -> None:
    """Landed and published alike, they are wrong all the same."""
    landing_rows.land(folder_output.store, [landing_rows.row(1, confidence=float("nan"))], FIRST, "odd")
    pipeline.publish_partition(folder_output.job().settings, FIRST)
    (found,) = folder_output.verify().findings
    assert (found.check, found.count) == ("landing-values", 1)


# Images


def test_nothing_is_read_but_what_the_image_store_lists(folder_output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address in a row opens nothing."""
    uri_changed("file:///etc/passwd")(folder_output.store)
    opened = []
    plain = type(folder_output.store).open

    def open_noting(store: Store, path: str) -> pa.NativeFile:
        opened.append(Path(store.uri, path).resolve())
        return plain(store, path)

    monkeypatch.setattr(type(folder_output.store), "open", open_noting)
    folder_output.verify()
    assert opened
    assert Path("/etc/passwd") not in opened


def test_address_that_climbs_out_of_the_store_is_not_followed(folder_output: Output) -> None:
    """It begins like one of the store's, but the store lists nothing of that name."""
    outside = Path(folder_output.store.uri).parent / "outside.jpg"
    outside.write_bytes(b"x")
    uri_changed(folder_output.store.uri_of(f"images/dt={FIRST}/x")[:-1] + "../../../outside.jpg")(folder_output.store)
    (found,) = folder_output.verify().findings
    assert found.check == "image-missing"


def test_without_hashes_the_size_is_compared(output: Output) -> None:
    """An altered byte passes, a cut image does not, and no image is read."""
    first, second = paths(output.store, f"images/dt={FIRST}/")[:2]
    output.store.put(first, flip(read(output.store, first), 50))
    output.store.put(second, b"short")
    (found,) = output.verify(hash_images=False).findings
    assert (found.check, found.count) == ("image-altered", 1)


def test_image_without_row_is_a_note(folder_output: Output) -> None:
    """A run that is killed between the image and its row leaves one: worth knowing, no defect."""
    folder_output.store.put(f"images/dt={FIRST}/{STRANGER}/reference.jpg", b"x")
    verified = folder_output.verify()
    assert [(one.check, one.is_note) for one in verified.findings] == [("image-unreferenced", True)]
    assert verified.exit_code == 0


# Manifest and records


def test_id_of_the_manifest_without_row_is_found(folder_output: Output, tmp_path: Path) -> None:
    """By partition, a repeated id once, with how many stand in another one."""
    known, new = ids(1)[0], ids(40)[-2:]
    manifest = tmp_path / "more.csv"
    lines = [
        f"{new[0]},{FIRST}",
        f"{new[0]},{SECOND}",
        f"{new[1]},{SECOND}",
        f"{known},{SECOND}",
        f"{ids(2)[1]},{FIRST}",
    ]
    manifest.write_text("\n".join(["session_id,created_at", *lines, "rubbish,"]) + "\n")
    verified = folder_output.verify(manifest)
    assert [(one.check, one.where, one.count) for one in verified.findings] == [
        ("manifest-id-missing", f"sessions/dt={FIRST}/", 1),
        ("manifest-id-missing", f"sessions/dt={SECOND}/", 2),
    ]
    assert "(1 of them stand" in verified.findings[1].advice
    assert verified.exit_code == 3


def test_forgotten_id_of_the_manifest_is_excused(folder_output: Output) -> None:
    """An erased id has no row any more."""
    missing = ids(40)[-1]
    wanted = pa.record_batch({"session_id": [missing], "dt": pa.array([FIRST])})
    store = folder_output.store
    for forgotten, count in (({missing}, 0), (set[str](), 1)):
        verified = upkeep.verify_output(
            store, [(store, "images/")], manifest_ids=[wanted], forgotten=forgotten.intersection
        )
        assert len(verified.findings) == count


def test_manifest_that_is_not_there_is_an_error_at_once(folder_output: Output, tmp_path: Path) -> None:
    """Not a finding."""
    with pytest.raises(ManifestError):
        folder_output.verify(tmp_path / "none.csv")


def test_killed_run_is_a_note(folder_output: Output) -> None:
    """It shows, and a later run has done its work."""
    write_run(folder_output.store, run_row())
    verified = folder_output.verify()
    assert [(one.check, one.count) for one in verified.findings] == [("run-unfinished", 1)]
    assert verified.exit_code == 0


def test_file_that_no_engine_reads_is_a_note(folder_output: Output) -> None:
    """Hidden files, and other files beside landing parts."""
    for path in (f"sessions/dt={FIRST}/_SUCCESS", f"landing/dt={FIRST}/notes.txt"):
        folder_output.store.put(path, b"x")
    verified = folder_output.verify()
    assert [one.check for one in verified.findings] == ["foreign-file", "foreign-file"]
    assert verified.exit_code == 0


# Outputs as a whole


def test_folder_that_does_not_exist_is_wrong_usage(tmp_path: Path, folder_output: Output) -> None:
    """A slip of the pen must not look like success, nor leave a folder behind."""
    for uri in (tmp_path / "typo", tmp_path):
        (tmp_path / "file").write_text("")
        settings = folder_output.job().settings
        elsewhere = settings.model_copy(update={"output": settings.output.model_copy(update={"uri": str(uri)})})
        with pytest.raises(UsageError, match="--output"):
            upkeep.verify(elsewhere)
    assert not (tmp_path / "typo").exists()


def test_empty_prefix_is_wrong_usage(s3: Any, bucket: str, output_on_s3: Output) -> None:
    """On S3 nothing tells an empty output from one that does not exist."""
    with pytest.raises(UsageError, match="--output"):
        upkeep.verify_output(type(output_on_s3.store)(f"s3://{bucket}/typo", s3), [])


def test_partition_that_is_replaced_meanwhile_is_read_again(folder_output: Output) -> None:
    """Neither a publish nor a fold at the same time looks like a defect."""
    store, job = folder_output.store, folder_output.job()
    overtaken = []
    plain = store.local_copies

    def publish_between(entries: Any, folder: Path) -> Any:
        if not overtaken:
            overtaken.append(late_part(store))
            pipeline.publish_partition(job.settings, FIRST)  # folds too: the listed part is gone
        return plain(entries, folder)

    store.local_copies = publish_between  # type: ignore[method-assign]
    try:
        verified = upkeep.verify_output(store, [(store, "images/")])
    finally:
        del store.local_copies
    assert overtaken
    assert verified.findings == ()
    assert verified.sessions == 37


def test_partition_that_never_rests_is_no_finding(folder_output: Output) -> None:
    """After some tries the audit gives up and says so."""
    store = folder_output.store
    plain = store.local_copies

    def touch(entries: Any, folder: Path) -> Any:
        store.put(FEEDBACK, read(store, FEEDBACK))
        return plain(entries, folder)

    store.local_copies = touch  # type: ignore[method-assign]
    try:
        with pytest.raises(StoreError, match="again later"):
            upkeep.verify_output(store, [(store, "images/")])
    finally:
        del store.local_copies
