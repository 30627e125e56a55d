"""Who runs when several workers run tests beside each other (`pytest -n 3`).

A test marked `alone` holds the program to a clock. It waits until no other test runs, and all others wait for it.
"""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_RUN = "PYTEST_XDIST_TESTRUNUID"

TOGETHER = ("crash", "flows")
"""Folders whose files share what takes long to make: a Prefect server, a run at each of whose changes one may die."""

# What takes longest, in minutes, begins first: a worker that starts one of them last would be alone with it.
LONGEST = (
    "flows",
    "crash",
    "test_install.py",
    "safety/test_canary.py",
    "analysis/test_httpfs.py",
    "load/test_at_the_same_time.py",
    "analysis/test_while_publishing.py",
    "test_s3_faults.py",
    "load/test_forget.py",
    "test_capture.py",
    "safety/test_iam.py",
    "test_storage_s3.py",
    "test_catalog_spark.py",
    "test_pipeline.py",
    "load/test_publish_overtaken.py",
)


def arrange(items: list[pytest.Item]) -> list[pytest.Item]:
    """With workers, each file is a group (or all files of a folder), which one of them takes whole: those that take
    longest, the others as they were; then the tests that run alone, which would keep the other workers waiting in
    between."""
    if _RUN not in os.environ:
        return items
    for item in items:
        item.add_marker(pytest.mark.xdist_group("alone" if is_alone(item) else _group(item)))
    return sorted(items, key=_rank)


def _group(item: pytest.Item) -> str:
    folder = item.path.parent.name
    return folder if folder in TOGETHER else item.path.relative_to(Path(__file__).parent).as_posix()


def _rank(item: pytest.Item) -> int:
    if is_alone(item):
        return len(LONGEST) + 1
    group = _group(item)
    return LONGEST.index(group) if group in LONGEST else len(LONGEST)


def is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


@contextlib.contextmanager
def turn(alone: bool) -> Iterator[None]:
    """Run beside others, or alone. Without workers there is nobody to wait for."""
    run = os.environ.get(_RUN)
    if run is None:
        yield
        return
    name = f"{tempfile.gettempdir()}/liveness-etl-tests-{run}"
    with open(f"{name}.hall", "w") as hall:  # noqa: PTH123
        with open(f"{name}.door", "w") as door:  # noqa: PTH123  # who waits for an empty hall keeps it shut
            fcntl.flock(door, fcntl.LOCK_EX)
            fcntl.flock(hall, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
