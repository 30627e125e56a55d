"""One contract for both stores: a folder, and a prefix in a real S3 over HTTP."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from liveness_etl.errors import Conflict, Missing, StoreError, UsageError
from liveness_etl.storage import ABSENT, Store, open_store
from tests.stored import paths, read

MEBIBYTE = 1024 * 1024


def test_written_bytes_are_read_back(store: Store) -> None:
    """What was put is what is opened, and head tells its size and tag."""
    tag = store.put("a/b/c.parquet", b"content")
    found = store.head("a/b/c.parquet")
    assert read(store, "a/b/c.parquet") == b"content"
    assert found is not None
    assert (found.path, found.size, found.etag) == ("a/b/c.parquet", 7, tag)


def test_tag_changes_with_the_content(store: Store) -> None:
    """Two versions of one object have different tags."""
    assert store.put("a", b"one") != store.put("a", b"two")


def test_what_is_not_there_has_no_head_and_is_missing_on_open(store: Store) -> None:
    """An absent path, one below a file and a folder are all no objects."""
    store.put("a/b", b"")
    for path in ("nothing", "a/b/c", "a"):
        assert store.head(path) is None
    with pytest.raises(Missing):
        store.open("nothing")


def test_empty_object_is_opened_as_empty(store: Store) -> None:
    """Zero bytes are an object like any other, though S3 has no range for it."""
    store.put("empty", b"")
    assert read(store, "empty") == b""


def test_listing_is_sorted_by_whole_paths(store: Store) -> None:
    """Files, folders and names that differ around the slash come in the order of their paths."""
    names = ["a-b/x", "a.txt", "a/b/c", "a/b.txt", "a/z", "b/1", "ü/1", "Z"]
    for name in reversed(names):
        store.put(name, b"")
    assert paths(store) == sorted(names)


def test_listing_takes_any_prefix_not_only_folders(store: Store) -> None:
    """A prefix may end within a name, and a listing of nothing is empty."""
    for name in ("landing/dt=2026-01-01/a", "landing/dt=2026-01-02/b", "landing/note", "landingzone/c"):
        store.put(name, b"")
    assert paths(store, "landing/dt=") == ["landing/dt=2026-01-01/a", "landing/dt=2026-01-02/b"]
    assert paths(store, "landing/dt=2026-01-02") == ["landing/dt=2026-01-02/b"]
    assert paths(store, "landing/") == ["landing/dt=2026-01-01/a", "landing/dt=2026-01-02/b", "landing/note"]
    assert paths(store, "nothing/") == paths(store, "landing/x") == []


def test_listing_hides_temporary_files(store: Store) -> None:
    """What stands in .tmp is never listed, not even when it is asked for, but can be opened."""
    store.put(".tmp/run/plan", b"ids")
    store.put("kept", b"")
    assert paths(store) == ["kept"]
    assert paths(store, ".tmp/") == paths(store, ".t") == []
    assert read(store, ".tmp/run/plan") == b"ids"


def test_open_reads_anywhere_without_reading_all(store: Store) -> None:
    """A large object is sought and read in pieces, from its ends and its middle."""
    content = hashlib.shake_128(b"seed").digest(9 * MEBIBYTE)
    store.put("large", content)
    with store.open("large") as file:
        assert file.size() == len(content)
        file.seek(8 * MEBIBYTE - 10)
        assert file.read(20) == content[8 * MEBIBYTE - 10 : 8 * MEBIBYTE + 10]
        assert file.tell() == 8 * MEBIBYTE + 10
        file.seek(-5, 2)
        assert file.read(100) == content[-5:]
        file.seek(3)
        assert file.read(4) == content[3:7]


def test_put_for_a_free_path_never_covers(store: Store) -> None:
    """ABSENT writes where nothing is, and is a Conflict where something is."""
    store.put("a", b"first", expect=ABSENT)
    with pytest.raises(Conflict):
        store.put("a", b"second", expect=ABSENT)
    assert read(store, "a") == b"first"


def test_put_for_a_version_replaces_that_version_only(store: Store) -> None:
    """A tag lets the write through while it is current, and is a Conflict afterwards or once the object is gone."""
    first = store.put("a", b"first")
    store.put("a", b"second", expect=first)
    with pytest.raises(Conflict):
        store.put("a", b"third", expect=first)
    assert read(store, "a") == b"second"


def test_put_for_a_version_of_something_deleted_fails(store: Store) -> None:
    """Nothing is written where the expected version was deleted."""
    tag = store.put("a", b"first")
    store.delete(["a"])
    with pytest.raises((Conflict, Missing)):
        store.put("a", b"second", expect=tag)
    assert store.head("a") is None


def test_put_without_condition_replaces(store: Store) -> None:
    """The default takes the place of whatever is there."""
    store.put("a", b"first")
    store.put("a", b"second")
    assert read(store, "a") == b"second"


def test_path_content_is_stored_whole(store: Store) -> None:
    """A file out of the store's scratch is stored as it is, with and without a condition."""
    for expect in (None, ABSENT):
        with store.scratch() as folder:
            (folder / "ready").write_bytes(b"rows")
            store.put(f"table-{expect}", folder / "ready", expect=expect)
        assert read(store, f"table-{expect}") == b"rows"


def test_checksum_is_taken_with_the_bytes(store: Store) -> None:
    """An image is put with its SHA-256."""
    store.put("image", b"bytes", expect=ABSENT, sha256=hashlib.sha256(b"bytes").digest())
    assert read(store, "image") == b"bytes"


@pytest.mark.parametrize("store", ["folder", pytest.param("ceph", marks=pytest.mark.slow)], indirect=True)
def test_one_of_many_writers_of_a_free_path_wins(store: Store) -> None:
    """Eight threads want one name at the same time, again and again: one gets it, the others meet a Conflict.

    Not on moto, which looks first and writes then, in threads."""
    started = threading.Barrier(8)

    def write(number: int, turn: int) -> str:
        started.wait(10)
        try:
            store.put(f"contested-{turn}", b"%d" % number, expect=ABSENT)
        except Conflict:
            return "conflict"
        return str(number)

    with ThreadPoolExecutor(8) as pool:
        for turn in range(20):
            outcomes = sorted(pool.map(write, range(8), [turn] * 8))
            assert outcomes[1:] == ["conflict"] * 7
            assert read(store, f"contested-{turn}").decode() == outcomes[0]


def test_deleting_what_is_gone_is_fine(store: Store) -> None:
    """Only what is there is deleted, nothing else is touched, and no paths are no work."""
    store.put("a", b"")
    store.put("b", b"")
    store.delete(["a", "a", "never", "no/folder/either"])
    store.delete([])
    assert paths(store) == ["b"]


def test_more_than_a_thousand_paths_are_deleted(store: Store) -> None:
    """S3 takes 1,000 keys a request: the first, the last and those around the seam are gone."""
    for number in (0, 999, 1_000, 2_000, 2_001):
        store.put(f"part/{number}", b"")
    store.delete(f"part/{number}" for number in range(2_001))
    assert paths(store) == ["part/2001"]


def test_what_cannot_be_written_in_a_scratch_folder_is_a_store_error(store: Store) -> None:
    """As where the disk is full: one sentence, without pyarrow's details."""
    with pytest.raises(StoreError, match=r"^cannot write in .*: No space left on device$"), store.scratch():
        raise OSError(28, "Error writing bytes to file. Detail: [errno 28] No space left on device")


def test_scratch_is_private_and_gone_afterwards(store: Store) -> None:
    """Two scratch folders differ, are never listed, and leave nothing, after an error too."""
    with store.scratch() as one, store.scratch() as other:
        assert one != other
        (one / "deep").mkdir()
        (one / "deep" / "file").write_text("x")
        assert paths(store) == []
    with pytest.raises(KeyError), store.scratch() as failed:
        raise KeyError
    assert not one.exists()
    assert not failed.exists()


def test_different_locks_do_not_wait_for_each_other(store: Store) -> None:
    """Two partitions can be published at the same time, and a put takes place within a lock."""
    with store.lock("partition-a"), store.lock("partition-b"):
        store.put("a", b"", expect=ABSENT)


@pytest.mark.parametrize("uri", ["gs://bucket/x", "https://host/x", "s3://", "s3:///x"])
def test_address_that_cannot_be_an_output_is_wrong_usage(uri: str) -> None:
    """Exit code 2 and a sentence, before anything is written."""
    with pytest.raises(UsageError):
        open_store(uri, region="us-east-1")
