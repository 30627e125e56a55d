"""Signals that a program drains for, in real processes."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.running import wait_until


@contextmanager
def draining(inside: str, after: str = "", seconds: float = 60.0) -> Iterator["subprocess.Popen[str]"]:
    """A process that is about to do `inside` while it drains, with the event `stop`, and `after` later on."""
    program = (
        "import os, signal, sys, time; from liveness_etl.signals import draining\n"
        f"with draining({seconds}) as stop:\n print('ready', flush=True)\n {inside}\n"
        f"print('drained', flush=True)\n{after}\nos._exit(7)"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_sets_the_event(number: signal.Signals) -> None:
    """And says what it does."""
    with draining("stop.wait(); time.sleep(1)") as process:  # it says so after the event is set
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (7, "drained\n")
    assert err.strip().startswith("stopping: finishing what is in flight")


def test_no_lock_of_the_main_thread_is_waited_for() -> None:
    """A handler on the main thread, which holds the event's lock most of the time here, waited for ever in two of
    three processes."""
    for turn in range(6):
        with draining("while not stop.wait(0): pass") as process:
            time.sleep(0.01 * turn)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 7


def test_a_handler_that_a_library_puts_there_hides_no_signal() -> None:
    """As Prefect does for a flow in a flow."""
    with draining("signal.signal(signal.SIGTERM, lambda *_: None); stop.wait()") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 7


def test_a_second_signal_ends_the_process() -> None:
    """With the exit code of a run that was stopped."""
    with draining("time.sleep(60)") as process:
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        wait_until(lambda: "stopping:" in process.stderr.readline())
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 3


@pytest.mark.parametrize("place", ["inside", "after"])
def test_the_time_is_over_wherever_the_process_is(place: str) -> None:
    """In the middle of draining, and when that is done and something else holds up the end."""
    sleep = "time.sleep(60)"
    inside, after = (sleep, "") if place == "inside" else ("stop.wait()", sleep)
    with draining(inside, after, seconds=0.5) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 3


def test_without_a_signal_nothing_ends_the_process() -> None:
    """The time begins with a signal."""
    with draining("pass", "time.sleep(1)", seconds=0.1) as process:
        assert process.wait(30) == 7
