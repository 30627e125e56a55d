"""Leases: one run at a time sweeps a source, on a folder as on S3."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from liveness_etl.errors import LeaseHeld
from liveness_etl.load import lease
from liveness_etl.load.lease import Holder, held_leases
from liveness_etl.storage import Store
from liveness_etl.storage_folder import LocalStore
from tests.stored import read


def never() -> None:
    raise AssertionError("the lease was lost")


def put_holder(store: Store, holder: Holder, source: str = "default") -> None:
    """A lease that somebody else left."""
    store.put(f"_state/leases/{source}.json", json.dumps({"holders": [vars(holder)]}).encode())


def other_host(expires_in: float, share: float = 1.0) -> Holder:
    """A holder on another machine."""
    return Holder("run-b", "elsewhere", "another-boot/pid:[1]/77", 4711, share, time.time() + expires_in)


def test_a_second_run_is_refused_and_told_who_holds_the_lease(store: Store) -> None:
    """Within this process too: runs are told apart, not processes."""
    with (
        held_leases(store, ["default"], "run-a", 1.0, never),
        pytest.raises(LeaseHeld, match=r"source default is being swept by run run-a \(process \d+ on "),
        held_leases(store, ["default"], "run-b", 1.0, never),
    ):
        pass


def test_another_source_is_free(store: Store) -> None:
    """A lease is a source's, not the output's."""
    with held_leases(store, ["one"], "run-a", 1.0, never), held_leases(store, ["two"], "run-b", 1.0, never):
        pass


def test_nothing_stays_held_where_one_of_several_leases_is_taken(store: Store) -> None:
    """A run that is refused one source leaves the others free."""
    with held_leases(store, ["two"], "run-a", 1.0, never):
        with pytest.raises(LeaseHeld), held_leases(store, ["one", "two"], "run-b", 1.0, never):
            pass
        with held_leases(store, ["one"], "run-c", 1.0, never):
            pass


def test_shares_add_up_to_one_at_the_most(store: Store) -> None:
    """Two halves may sweep at once, a third run may not."""
    with (
        held_leases(store, ["default"], "run-a", 0.5, never),
        held_leases(store, ["default"], "run-b", 0.5, never),
        pytest.raises(LeaseHeld, match=r"share 0\.5"),
        held_leases(store, ["default"], "run-c", 0.1, never),
    ):
        pass


def test_a_lease_is_given_back(store: Store) -> None:
    """The next run does not wait."""
    with held_leases(store, ["default"], "run-a", 1.0, never):
        pass
    assert json.loads(read(store, "_state/leases/default.json")) == {"holders": []}


def test_a_lease_of_another_host_is_respected_until_it_has_run_out(store: Store) -> None:
    """Nobody can know whether a process of another host lives."""
    put_holder(store, other_host(expires_in=30))
    with (
        pytest.raises(LeaseHeld, match="process 4711 on elsewhere"),
        held_leases(store, ["default"], "run-a", 1.0, never),
    ):
        pass
    put_holder(store, other_host(expires_in=-1))
    with held_leases(store, ["default"], "run-a", 1.0, never):
        pass


def test_a_lease_of_a_dead_process_of_this_host_is_taken_over_at_once(folder_store: LocalStore) -> None:
    """The holder was killed and its lease has most of its minute left."""
    code = (
        "import os, sys; from liveness_etl.load.lease import held_leases; from liveness_etl.storage import open_store\n"
        "with held_leases(open_store(sys.argv[1]), ['default'], 'killed', 1.0, print): os.kill(os.getpid(), 9)"
    )
    killed = subprocess.Popen([sys.executable, "-c", code, folder_store.uri])
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)  # dead, but its parent has not asked for it yet
    (holder,) = json.loads(read(folder_store, "_state/leases/default.json"))["holders"]
    assert holder["run_id"] == "killed"
    assert holder["expires_at"] > time.time() + 30
    with held_leases(folder_store, ["default"], "run-a", 1.0, never):
        pass
    assert killed.wait() == -9


def test_a_process_id_that_was_given_to_another_process_does_not_keep_a_lease(folder_store: LocalStore) -> None:
    """This process has the id, and started at another time than the holder."""
    with held_leases(folder_store, ["default"], "run-a", 1.0, never):
        (held,) = json.loads(read(folder_store, "_state/leases/default.json"))["holders"]
    holder = Holder(**held)
    assert holder.pid == os.getpid()
    put_holder(folder_store, replace(holder, run_id="old", process=holder.process + "0"))
    with held_leases(folder_store, ["default"], "run-b", 1.0, never):
        pass


def test_a_lease_is_renewed_while_it_is_held(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end moves on."""
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.1)
    with held_leases(store, ["default"], "run-a", 1.0, never):
        first = json.loads(read(store, "_state/leases/default.json"))["holders"][0]["expires_at"]
        time.sleep(0.5)
        later = json.loads(read(store, "_state/leases/default.json"))["holders"][0]["expires_at"]
    assert later > first


def test_a_run_that_lost_its_lease_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It slept so long that another run took over."""
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.1)
    lost = threading.Event()
    with held_leases(store, ["default"], "run-a", 1.0, lost.set):
        put_holder(store, other_host(expires_in=30))
        assert lost.wait(5)


def test_a_broken_lease_stops_nobody(store: Store) -> None:
    """What is no lease is nobody's."""
    store.put("_state/leases/default.json", b"{")
    with held_leases(store, ["default"], "run-a", 1.0, never):
        pass


def test_of_many_runs_at_once_one_gets_the_lease(store: Store) -> None:
    """The conditional write decides."""
    begin, held, refused, over = threading.Barrier(8), list[str](), list[Exception](), threading.Event()

    def try_it(name: str) -> None:
        begin.wait()
        try:
            with held_leases(store, ["default"], name, 1.0, never):
                held.append(name)
                over.wait(10)
        except Exception as error:
            refused.append(error)

    threads = [threading.Thread(target=try_it, args=(f"run-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    give_up_at = time.monotonic() + 30
    while len(held) + len(refused) < 8 and time.monotonic() < give_up_at:
        time.sleep(0.01)
    over.set()
    for thread in threads:
        thread.join()
    assert len(held) == 1
    assert [type(error) for error in refused] == [LeaseHeld] * 7
