"""What is remembered of a growing manifest's objects, on every kind of store, through crashes and beside others."""

from pathlib import Path

import pytest

from liveness_etl.load import manifest_memory
from liveness_etl.load.manifest_memory import ManifestMemory, Version
from liveness_etl.storage import Store
from liveness_etl.storage_folder import LocalStore

ADDRESS = "s3://backend/sessions/"


def version(number: int) -> Version:
    return number.to_bytes(16)


def files(store: Store) -> list[str]:
    return [entry.path for entry in store.list("_state/manifests/")]


def test_what_is_remembered_is_known_to_the_next(store: Store) -> None:
    """Done objects and those whose rejects are written; of another address nothing."""
    memory = ManifestMemory(store, ADDRESS)
    memory.remember("run-1", {version(1)}, {version(2)})
    memory.remember("run-2", {version(1), version(2)}, {version(3)})
    again = ManifestMemory(store, ADDRESS)
    assert (again.done, again.met - again.done) == ({version(1), version(2)}, {version(3)})
    assert ManifestMemory(store, "s3://backend/other/").done == set()


def test_nothing_new_is_no_file(folder_store: LocalStore) -> None:
    """A sweep that finds nothing new to remember writes nothing."""
    memory = ManifestMemory(folder_store, ADDRESS)
    memory.remember("run-1", {version(1)}, set())
    memory.remember("run-2", {version(1)}, {version(1)})
    assert len(files(folder_store)) == 1


def test_many_files_become_one_without_objects_that_are_gone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a year of minutes stays a few files, and the facts as many as there are objects."""
    monkeypatch.setattr(manifest_memory, "MANY_FILES", 3)
    memory = ManifestMemory(store, ADDRESS)
    for number in range(4):
        memory.remember(f"run-{number}", {version(number)}, set(), [version(0), version(3), version(9)])
    assert [path.rpartition("/")[2] for path in files(store)] == ["run-3-all.parquet"]
    assert memory.done == ManifestMemory(store, ADDRESS).done == {version(0), version(3)}


def test_killed_between_the_one_file_and_the_deletion_nothing_is_lost(
    folder_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are there then, and say the same; the next one deletes."""
    monkeypatch.setattr(manifest_memory, "MANY_FILES", 2)
    memory, listed = ManifestMemory(folder_store, ADDRESS), [version(number) for number in range(9)]
    for number in range(2):
        memory.remember(f"run-{number}", {version(number)}, set(), listed)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "delete", die)
        with pytest.raises(KeyboardInterrupt):
            memory.remember("run-2", {version(2)}, set(), listed)
    assert len(files(folder_store)) == 4
    after = ManifestMemory(folder_store, ADDRESS)
    assert after.done == {version(0), version(1), version(2)}
    after.remember("run-3", {version(3)}, set(), listed)
    assert [path.rpartition("/")[2] for path in files(folder_store)] == ["run-3-all.parquet"]


def die(*_: object) -> None:
    raise KeyboardInterrupt


def test_two_sweeps_at_the_same_time_forget_nothing_of_each_other(
    folder_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One makes one file of those that it knows, and leaves what came since."""
    monkeypatch.setattr(manifest_memory, "MANY_FILES", 2)
    one, other = ManifestMemory(folder_store, ADDRESS), ManifestMemory(folder_store, ADDRESS)
    listed = [version(number) for number in range(20)]
    for number in range(5):
        one.remember(f"one-{number}", {version(number)}, set(), listed)
        other.remember(f"other-{number}", {version(10 + number)}, set(), listed)
    expected = {version(number) for number in (*range(5), *range(10, 15))}
    assert ManifestMemory(folder_store, ADDRESS).done == expected


def test_a_damaged_file_costs_another_look_and_no_more(folder_store: LocalStore) -> None:
    """Its objects are not done any more, all others are."""
    memory = ManifestMemory(folder_store, ADDRESS)
    memory.remember("run-1", {version(1)}, set())
    memory.remember("run-2", {version(2)}, set())
    (Path(folder_store.uri) / files(folder_store)[0]).write_bytes(b"PAR1 no more")
    assert ManifestMemory(folder_store, ADDRESS).done == {version(2)}
