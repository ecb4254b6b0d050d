"""Lifecycle of a serving process: start, ready, drain, exit.

A drain, in this order: not ready any more, APP_DRAIN_DELAY with traffic still served, then no new
connections, WebSockets closed with 1001, and every request in flight finished. The end of the
timeout, or a second signal, aborts what is left and logs how much that was.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from types import FrameType

import tornado.autoreload

from ..errors import StartupError
from ..extensions import Extension, ServiceInfo
from ..http.application import Application
from ..http.server import TrackingHTTPServer
from ..settings import Settings
from ..status import HEARTBEAT_INTERVAL, State, StateListener, WorkerStatus
from .lag import Lag
from .sockets import listen

if sys.platform != "win32":
    import uvloop  # not available for Windows

LINGER = 0.5
"""Seconds to keep idle connections open while draining: a request already on its way is served."""
POLL_INTERVAL = 0.02
"""Seconds between two checks while draining."""

logger = logging.getLogger(__name__)


def run(main: Coroutine[object, object, None]) -> None:
    """Run a coroutine in uvloop (on Windows in asyncio's own loop)."""
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        runner.run(main)


class Lifecycle:
    """Starts, drains and stops an application on its listening sockets.

    Arguments:

    - `application`: what it serves, with its settings and its resources.
    - `listeners`: bound sockets. They listen only once the resources are open.
    - `service` and `extensions`: their lifespans frame that of the resources.
    - `drain_delay`: seconds to keep serving after readiness has turned false.
    - `autoreload`: restart the process when a file of its code changes.

    Construct it in the event loop.
    """

    def __init__(
        self,
        application: Application,
        listeners: Sequence[socket.socket],
        service: ServiceInfo,
        extensions: Sequence[Extension] = (),
        *,
        drain_delay: float,
        autoreload: bool = False,
    ) -> None:
        self._application = application
        self._settings: Settings = application.config
        self._connections = application.connections
        self._listeners = listeners
        self._service = service
        self._extensions = extensions
        self._drain_delay = drain_delay
        self._autoreload = autoreload
        self._loop = asyncio.get_running_loop()
        self._state = State.STARTING
        self._stopping = False
        self._stop = asyncio.Event()
        self._lag = Lag()
        self.server = TrackingHTTPServer(application, self._settings)

    async def run(self, listener: StateListener) -> None:
        """Serve until `drain` is called, then drain. `listener` hears of states and heartbeats."""
        threads = ThreadPoolExecutor(self._settings.threads, "blocking-call")
        self._loop.set_default_executor(threads)
        self._heartbeat(listener, time.monotonic())
        async with AsyncExitStack() as stack:
            await self._start(stack)
            if not self._stopping:
                listen(self._listeners)
                self.server.add_sockets(self._listeners)
                self._set_state(State.READY, listener)
                if self._autoreload:
                    tornado.autoreload.start()
                await self._stop.wait()
            self._set_state(State.DRAINING, listener)
            await self._drain()

    def not_ready_reasons(self) -> list[str]:
        """Return why the process is not ready; empty if it is."""
        return [] if self._state is State.READY else [self._state.name.lower()]

    def worker_statuses(self) -> list[WorkerStatus]:
        """Return the status of this process, as worker 0."""
        return [
            WorkerStatus(
                worker=0,
                pid=os.getpid(),
                ready=self._state is State.READY,
                requests_in_flight=len(self._connections.in_flight),
                event_loop_lag=self._lag.maximum,
                restarts=0,
            )
        ]

    def on_signal(self, signum: int, frame: FrameType | None) -> None:
        """Drain on the first signal, abort on the second."""
        name = signal.Signals(signum).name
        if self._stopping:
            self.abort(f"second signal, {name}")
        else:
            self.drain(name, self._drain_delay + self._settings.drain_timeout)

    def drain(self, reason: str, timeout: float) -> None:
        """Drain for at most `timeout` seconds. Thread-safe and idempotent."""
        if not self._stopping:
            self._stopping = True
            self._abort_after(timeout, f"{timeout:g} s after {reason}", exit_code=0)
            self._loop.call_soon_threadsafe(self._stop.set)

    def abort(self, reason: str) -> None:
        """Exit immediately."""
        self._abort_after(0, reason, exit_code=1)

    def _set_state(self, state: State, listener: StateListener) -> None:
        self._state = state
        listener.state_changed(state)

    def _heartbeat(self, listener: StateListener, due: float) -> None:
        now = time.monotonic()
        self._lag.record(now - due)
        listener.heartbeat(len(self._connections.in_flight), self._lag.maximum)
        self._loop.call_later(
            HEARTBEAT_INTERVAL, self._heartbeat, listener, now + HEARTBEAT_INTERVAL
        )

    async def _start(self, stack: AsyncExitStack) -> None:
        for extension in self._extensions:
            try:
                lifespan = extension.lifespan(self._service, self._settings)
                await stack.enter_async_context(lifespan)
            except StartupError:
                raise
            except Exception as error:
                name = type(extension).__name__
                raise StartupError(f"cannot start {name}: {error!r}") from error
        for resource in self._application.declared_resources:
            try:
                value = await stack.enter_async_context(resource.lifespan(self._settings))
            except Exception as error:
                raise StartupError(f"cannot open {resource.name}: {error!r}") from error
            self._application.resources[resource] = value

    async def _drain(self) -> None:
        logger.info("draining, requests in flight: %d", len(self._connections.in_flight))
        await asyncio.sleep(self._drain_delay)
        await finish(self.server, self._application, self._listeners)

    def _abort_after(self, delay: float, reason: str, exit_code: int) -> None:
        # In a thread, because the event loop may be the thing that is blocked.
        timer = threading.Timer(delay, self._abort, (reason, exit_code))
        timer.daemon = True
        timer.start()

    def _abort(self, reason: str, exit_code: int) -> None:
        logger.warning(
            "%s: aborted %d requests and %d WebSockets",
            reason,
            len(self._connections.in_flight),
            len(self._connections.websockets),
        )
        logging.shutdown()
        os._exit(exit_code)


async def finish(
    server: TrackingHTTPServer, application: Application, listeners: Sequence[socket.socket]
) -> None:
    """Accept the queued connections, stop listening, finish requests in flight, close the rest."""
    connections = application.connections
    server.conn_params.no_keep_alive = True
    for listener in listeners:
        with suppress(OSError):  # the queue is empty
            while True:
                server.accept(*listener.accept())
    server.stop()
    await asyncio.sleep(POLL_INTERVAL)  # let the connections just accepted register
    idle_since = time.monotonic()
    while connections.open or connections.websockets:
        # On every pass: a handshake may complete meanwhile.
        for websocket in tuple(connections.websockets):
            websocket.close(1001, "service shutdown")
        if connections.busy:
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since > LINGER:
            break
        await asyncio.sleep(POLL_INTERVAL)
    await server.close_all_connections()


def _new_event_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop() if sys.platform == "win32" else uvloop.new_event_loop()
