"""LocalRekognition: the stand-in in a thread of its own, or in the foreground.

It listens on loopback only: it checks no signature and lets anyone change its settings.
"""

import asyncio
import contextlib
import ipaddress
import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from liveness_etl.local.config import LocalConfig
from liveness_etl.local.service import Service

_T = TypeVar("_T")
_BACKLOG = 4096


class LocalRekognition:
    """A stand-in for Amazon Rekognition's Face Liveness operations, over real HTTP.

        with LocalRekognition(LocalConfig(answer_any=True, limit_tps=50)) as rekognition:
            client = boto3.client("rekognition", endpoint_url=rekognition.endpoint_url, …)

    Runs its own event loop in a background thread between `__enter__` and `__exit__`; all methods may be
    called from any thread, and before and after that too. `clock` (epoch seconds) decides the age of added
    sessions.

    Raises ValueError for a host that is not loopback, OSError where the port is taken.
    """

    def __init__(
        self,
        config: LocalConfig | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        _refuse_remote(host)
        self._host = host
        self._wanted_port = port
        self._service = Service(config or LocalConfig(), clock)
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise RuntimeError("this LocalRekognition is already running")
        ready: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        # A daemon, so that a caller that never leaves the block cannot keep the process alive.
        thread = threading.Thread(target=self._run, args=(ready,), name="local-rekognition", daemon=True)
        thread.start()
        try:
            self._port, self._loop, self._stop = ready.result()
        except BaseException:
            thread.join()
            raise
        self._thread = thread
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
            self._thread = None

    @property
    def port(self) -> int:
        return self._port

    @property
    def endpoint_url(self) -> str:
        return _url(self._host, self._port)

    def stats(self) -> dict[str, Any]:
        """Counts since the server started: requests (= accepted + throttled), answers (200 with a status),
        throttled (by the limit), faults, by_outcome, accepted_/rejected_/answers_per_second, connections,
        open_connections, in_flight, most_in_flight; with `count_ids` asks_by_id and answers_by_id."""
        return self._on_loop(self._service.stats)

    def configure(self, **changes: Any) -> None:
        """Changes settings of LocalConfig from now on. Raises ValueError, with nothing changed."""
        self._on_loop(lambda: self._service.configure(changes))

    def add_session(self, session_id: str, created_at: float | None = None, outcome: str | None = None) -> None:
        """Adds a session, created now or at `created_at` (epoch seconds), that ends in the status `outcome`
        (CREATED: nobody starts it; None: drawn from the id)."""
        self._on_loop(lambda: self._service.add_sessions([(session_id, created_at, outcome)]))

    def add_sessions(self, sessions: Iterable[tuple[str, float | None]]) -> None:
        """Adds many: (id, created_at)."""
        triples = [(session_id, created_at, None) for session_id, created_at in sessions]
        self._on_loop(lambda: self._service.add_sessions(triples))

    def _on_loop(self, work: Callable[[], _T]) -> _T:
        """Does it in the server's thread, so that no request sees half of it."""
        if self._thread is None:
            return work()
        done: Future[_T] = Future()

        def do() -> None:
            try:
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)

        self._loop.call_soon_threadsafe(do)
        return done.result()

    def _run(self, ready: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
        async def main() -> None:
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            await _listen(
                self._service,
                self._host,
                self._wanted_port,
                lambda port: ready.set_result((port, loop, stop)),
                stop,
            )

        try:
            asyncio.run(main())
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)


def serve(
    config: LocalConfig,
    host: str = "127.0.0.1",
    port: int = 0,
    on_ready: Callable[[str], None] = lambda endpoint_url: None,
) -> None:
    """Runs the stand-in in the main thread until SIGINT or SIGTERM; `on_ready` gets the endpoint URL.

    Raises ValueError for a host that is not loopback, OSError where the port is taken.
    """
    _refuse_remote(host)

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await _listen(Service(config, time.time), host, port, lambda port: on_ready(_url(host, port)), stop)

    asyncio.run(main())


async def _listen(service: Service, host: str, port: int, on_ready: Callable[[int], None], stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(service.connect, host, port, backlog=_BACKLOG)
    try:
        on_ready(server.sockets[0].getsockname()[1])
        await stop.wait()
    finally:
        server.close()
        while service.open_connections:
            for connection in list(service.open_connections):
                connection.abort()
            await asyncio.sleep(0)
        await server.wait_closed()


def _refuse_remote(host: str) -> None:
    """Addresses only: `localhost` may stand for two of them, with a port each."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    raise ValueError("the stand-in listens on a loopback address only, such as 127.0.0.1")


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
