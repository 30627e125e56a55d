"""Sweeps on Dask: which task runner has the sweep tasks, and what it takes to hear how they ended. Needs `[dask]`.

Workers elsewhere need this package with its extra, PREFECT_API_URL, and a way to the output, the image store and
Rekognition; they do not need this folder. They share nothing but the output: each slice keeps to its own part of the
ceiling.

A worker that dies is survived. The scheduler gives its slices to another worker (`distributed.scheduler.
allowed-failures` times, 3 by default, as a slice may be what kills it), which asks again for what the dead one had
landed: that costs calls, and publish takes the better answer of each id.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import TaskRunner

from liveness_etl import run_sweep
from liveness_etl.errors import SourceStopped, StoreError, UsageError
from liveness_etl.job import Job

CONNECT_SECONDS = 5.0


def check_dask(address: str | None) -> None:
    """Raises UsageError where Dask is not installed, or the cluster at `address` does not answer or has no workers."""
    try:
        import prefect_dask  # noqa: F401
        from distributed import Client
    except ImportError:
        raise UsageError('scale.runner is "dask", which needs: pip install "liveness-etl[dask]"') from None
    if address is None:
        return
    try:
        with Client(address, timeout=CONNECT_SECONDS, set_as_default=False) as client:  # type: ignore[no-untyped-call]
            workers = client.scheduler_info()["workers"]
    except (OSError, ValueError):
        raise UsageError(f"no Dask scheduler answers at {address}: start it, or correct scale.address") from None
    if not workers:
        raise UsageError(f"the Dask scheduler at {address} has no workers: start some")


@contextmanager
def dask_runner(job: Job, slices: int, stop: threading.Event) -> Iterator[TaskRunner[PrefectFuture[Any]]]:
    """The runner for that many slices: the cluster at `scale.address`, or one of this machine's own.

    That one has a process per slice, at most one per core, and a thread for every slice, since none may wait: each
    has only its part of the ceiling. `stop`, once set, reaches the sweeps through the output.
    """
    from prefect_dask.task_runners import DaskTaskRunner

    context = FlowRunContext.get()
    assert context is not None, "called within the flow"
    api_url, address = str(context.client.api_url), job.settings.scale.address
    _send_by_value()
    processes = max(1, min(slices, os.cpu_count() or 1))
    local_cluster = {
        "n_workers": processes,
        "threads_per_worker": -(-slices // processes),
        "dashboard_address": "127.0.0.1:0",
        "env": {"PREFECT_API_URL": api_url},
        # Ctrl-C goes to these processes too, and is meant for the flow, which lets them drain.
        "preload": ["import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"],
    }
    runner = DaskTaskRunner(address=address) if address else DaskTaskRunner(cluster_kwargs=local_cluster)
    # A server that Prefect started for this process alone is named nowhere, and each worker would start another.
    with temporary_settings({PREFECT_API_URL: api_url}), runner, _passed_on(stop, job):
        yield runner  # type: ignore[misc]  # a PrefectDaskFuture is a PrefectFuture


def ended(future: PrefectFuture[Any], source: str) -> Any:
    """What a sweep task came to: its report or its error. One that Dask gave up on has no state in Prefect."""
    try:
        return future.result(raise_on_failure=False)
    except Exception as error:
        return SourceStopped(
            f"Dask gave up on a slice of source {source} ({type(error).__name__}); what it landed is safe: "
            "see the workers' logs, and run it again for the rest"
        )


@contextmanager
def _passed_on(stop: threading.Event, job: Job) -> Iterator[None]:
    """Meanwhile `stop`, once set, is passed on to the job's sweeps in other processes."""
    over = threading.Event()

    def watch() -> None:
        asked = False
        while not asked and not over.wait(0.25):
            if stop.is_set():
                with contextlib.suppress(StoreError):  # it is tried again
                    run_sweep.ask_to_stop(job)
                    asked = True

    watching = threading.Thread(target=watch, name="pass on stop", daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def _send_by_value() -> None:
    """Let the modules of this folder travel with the tasks: a worker elsewhere cannot import them."""
    import cloudpickle  # type: ignore[import-untyped]

    here = Path(__file__).parent
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).parent == here and module.__name__ == name != "__main__":
            cloudpickle.register_pickle_by_value(module)
