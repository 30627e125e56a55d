"""What only a folder does: locks, durable renames, file:// addresses."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from liveness_etl.errors import StoreError
from liveness_etl.storage import ABSENT, Store, open_store
from liveness_etl.storage_folder import LocalStore
from tests.stored import read


def test_scratch_of_a_killed_process_is_removed_a_day_later(folder_store: LocalStore) -> None:
    """Old leftovers go, a younger one may still be in use."""
    base = folder_store.root / ".tmp"
    (base / "scratch-old").mkdir(parents=True)
    (base / "put-young").write_bytes(b"")
    (base / "scratch-old" / "file").write_bytes(b"")
    yesterday = time.time() - 90_000
    os.utime(base / "scratch-old", (yesterday, yesterday))
    with folder_store.scratch():
        assert not (base / "scratch-old").exists()
        assert (base / "put-young").exists()


def test_failed_write_leaves_nothing(folder_store: LocalStore) -> None:
    """Neither the target nor a temporary file is there after a Conflict or an error."""
    folder_store.put("a", b"first")
    for path, expect in (("a", ABSENT), ("a/below-a-file", None)):
        with pytest.raises(StoreError):
            folder_store.put(path, b"second", expect=expect)
    assert list((folder_store.root / ".tmp").iterdir()) == []
    assert read(folder_store, "a") == b"first"


def test_address_of_a_file_is_absolute_and_percent_encoded(folder_store: LocalStore, monkeypatch: Any) -> None:
    """A blank and an umlaut are escaped, and a relative output gives an absolute address."""
    above = folder_store.root.parent
    assert folder_store.uri_of("images/a b.jpg") == f"{above.as_uri()}/out%20p%C3%BCt/images/a%20b.jpg"
    monkeypatch.chdir(above)
    assert LocalStore(Path("here")).uri_of("x") == f"{above.as_uri()}/here/x"


@pytest.mark.parametrize(
    "use",
    [
        lambda store: list(store.list("landing/")),
        lambda store: list(store.list("")),
        lambda store: store.put("landing/a", b""),
        lambda store: store.scratch().__enter__(),
        lambda store: store.lock("partition").__enter__(),
    ],
    ids=["list", "list all", "put", "scratch", "lock"],
)
def test_file_in_place_of_a_folder_is_an_error_not_an_empty_output(
    tmp_path: Path, use: Callable[[Store], object]
) -> None:
    """An output that is a file is named in one sentence, and never taken for one without rows."""
    (tmp_path / "output").write_text("")
    with pytest.raises(StoreError, match=rf"^cannot \w+ {tmp_path}/output.*: Not a directory$"):
        use(LocalStore(tmp_path / "output"))


def test_lock_keeps_another_process_out(folder_store: LocalStore) -> None:
    """A second process waits for a partition's lock until the first one has let go."""
    script = (
        "import sys; from pathlib import Path; from liveness_etl.storage_folder import LocalStore\n"
        "store = LocalStore(Path(sys.argv[1])); print('up', flush=True)\n"
        "with store.lock('partition-2026-01-01'): print('in', flush=True)"
    )
    with folder_store.lock("partition-2026-01-01"):
        other = subprocess.Popen([sys.executable, "-c", script, folder_store.uri], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        assert other.stdout.readline() == "up\n"
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(0.3)
    assert other.communicate(timeout=60)[0] == "in\n"


def test_lock_of_a_killed_process_is_free(folder_store: LocalStore) -> None:
    """The kernel lets go of a dead process's lock: nothing ever needs repair."""
    script = (
        "import sys, time; from pathlib import Path; from liveness_etl.storage_folder import LocalStore\n"
        "with LocalStore(Path(sys.argv[1])).lock('p'): print('in', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, folder_store.uri], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        other.kill()
        with folder_store.lock("p"):
            pass


def test_folder_output_is_found_under_all_its_names(tmp_path: Path) -> None:
    """A path, a file:// address with escapes and a home folder's short form open the same store."""
    folder = tmp_path / "out püt"
    assert open_store(str(folder)).uri == open_store(folder.as_uri()).uri == str(folder)
    assert not open_store("~/x").uri.startswith("~")
