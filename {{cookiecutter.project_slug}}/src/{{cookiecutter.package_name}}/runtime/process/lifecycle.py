"""One process that serves: become ready, wait to be stopped, drain, leave.

The first SIGTERM, SIGINT or SIGHUP drains: not ready any more, APP_DRAIN_DELAY with traffic still
served, then no new connections, WebSockets closed with 1001, and every request in flight answered.
A second signal, or the end of APP_DRAIN_TIMEOUT, cuts what is left and says how much that was.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from types import FrameType

from tornado import autoreload

from ..logs import formatters as logs
from ..admin.handlers import make_admin
from ..http.server import Server
from .lag import Lag
from ..logs.writer import LogWriter
from ..http.application import Application
from ..settings import Settings, unknown_names
from .sockets import CannotStart, listen, open_sockets, url
from ..status import BEAT, State, Vitals, Watcher
from .systemd import Systemd

if sys.platform != "win32":
    import uvloop  # not made for Windows

STOPPING = [signal.SIGTERM, signal.SIGINT]
# Seconds that idle connections stay open at the end: what a client sends just then is answered.
LINGER = 0.5
# Seconds between looks at what is left.
POLL = 0.02

logger = logging.getLogger(__name__)


def serve(settings: Settings, make_app: Callable[[Settings], Application]) -> None:
    """Serve with this process alone until a signal. Raises `CannotStart`."""
    [public], admin = open_sockets(settings, [settings.port])
    try:
        logs.configure(settings, LogWriter(settings.log_file))
    except OSError as error:
        raise CannotStart(f"cannot write the log: {error}") from error
    for line in unknown_names():
        logger.warning(line)
    try:
        run(_serve(settings, make(settings, make_app), public, admin))
    except CannotStart as error:
        logger.error("%s", error, exc_info=error.__cause__)
        raise


async def _serve(
    settings: Settings,
    application: Application,
    public: Sequence[socket.socket],
    admin: Sequence[socket.socket],
) -> None:
    service = Service(settings, application, public)
    for signum in STOPPING:
        # Not the loop's own signal handlers: these also run while the loop is blocked.
        signal.signal(signum, service.on_signal)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        # A closed terminal stops the service as well, unless it was started with nohup.
        signal.signal(signal.SIGHUP, service.on_signal)
    health = make_admin(settings, service)
    health_server = Server(health, settings)
    health_server.add_sockets(admin)
    await service.run(Alone(f"listening on {url(public)}, admin on {url(admin)}"))
    await _finish(health_server, health, admin)
    logger.info("stopped")


class Alone:
    """Watches over a process that serves alone: tells the log and systemd."""

    def __init__(self, greeting: str) -> None:
        self._greeting = greeting
        self._systemd = Systemd()

    def report(self, state: State) -> None:
        if state is State.READY:
            logger.info(self._greeting)
            self._systemd.ready(self._greeting)
        elif state is State.DRAINING:
            self._systemd.stopping()

    def beat(self, in_flight: int, lag: float) -> None:
        self._systemd.beat()


def make(settings: Settings, make_app: Callable[[Settings], Application]) -> Application:
    """Make the application. Raises `CannotStart`."""
    try:
        return make_app(settings)
    except Exception as error:
        if settings.debug:
            raise  # `make dev` learns from it which file to wait for
        raise CannotStart(f"cannot make the application: {error!r}") from error


def run(main: Coroutine[object, object, None]) -> None:
    """Run a coroutine in an event loop of the kind that the service uses."""
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        runner.run(main)


class Service:
    """An application, the sockets it is served on, and its way from start to stop."""

    def __init__(
        self, settings: Settings, application: Application, listeners: Sequence[socket.socket]
    ) -> None:
        self._settings = settings
        self._application = application
        self._listeners = listeners
        self._loop = asyncio.get_running_loop()
        self._state = State.STARTING
        self._stopping = False
        self._stop = asyncio.Event()
        self._lag = Lag()
        self.server = Server(application, settings)

    async def run(self, watcher: Watcher) -> None:
        """Serve until `stop`, then drain."""
        self._loop.set_default_executor(ThreadPoolExecutor(self._settings.threads, "blocking-call"))
        self._beat(watcher, time.monotonic())
        async with AsyncExitStack() as stack:
            await self._enter_resources(stack)
            if not self._stopping:
                listen(self._listeners)
                self.server.add_sockets(self._listeners)
                self._enter(State.READY, watcher)
                if self._settings.debug:
                    autoreload.start()
                await self._stop.wait()
            self._enter(State.DRAINING, watcher)
            await self._drain()

    def why_not_ready(self) -> list[str]:
        """Say why no traffic should come; nothing if it should."""
        return [] if self._state is State.READY else [self._state.name.lower()]

    def vitals(self) -> list[Vitals]:
        """Tell how this process is."""
        ready = self._state is State.READY
        return [Vitals(0, os.getpid(), ready, len(self._application.in_flight), self._lag.worst, 0)]

    def on_signal(self, signum: int, frame: FrameType | None) -> None:
        """Drain at the first signal, cut what is left at the second."""
        name = signal.Signals(signum).name
        if self._stopping:
            self.cut(f"second signal, {name}")
        else:
            self.stop(name, self._settings.drain_delay + self._settings.drain_timeout)

    def stop(self, why: str, limit: float) -> None:
        """Drain, for `limit` seconds at most. May be called from everywhere and more than once."""
        if not self._stopping:
            self._stopping = True
            self._cut_after(limit, f"{limit:g} s after {why}", exit_code=0)
            self._loop.call_soon_threadsafe(self._stop.set)

    def cut(self, why: str) -> None:
        """Leave at once."""
        self._cut_after(0, why, exit_code=1)

    def _enter(self, state: State, watcher: Watcher) -> None:
        self._state = state
        watcher.report(state)

    def _beat(self, watcher: Watcher, due: float) -> None:
        now = time.monotonic()
        self._lag.note(now - due)
        watcher.beat(len(self._application.in_flight), self._lag.worst)
        self._loop.call_later(BEAT, self._beat, watcher, now + BEAT)

    async def _enter_resources(self, stack: AsyncExitStack) -> None:
        for observer in self._application.observers:
            await stack.enter_async_context(observer.running())
        for name, resource in self._application.resources.items():
            try:
                value = await stack.enter_async_context(resource())
            except Exception as error:
                raise CannotStart(f"cannot start {name}: {error!r}") from error
            self._application.settings[name] = value

    async def _drain(self) -> None:
        logger.info("draining, requests in flight: %d", len(self._application.in_flight))
        await asyncio.sleep(self._settings.drain_delay)
        await _finish(self.server, self._application, self._listeners)

    def _cut_after(self, seconds: float, why: str, exit_code: int) -> None:
        # From a thread: what is stuck may be the loop, or a blocking call awaited at exit.
        timer = threading.Timer(seconds, self._cut, (why, exit_code))
        timer.daemon = True
        timer.start()

    def _cut(self, why: str, exit_code: int) -> None:
        logger.warning(
            "%s: requests cut: %d, WebSockets cut: %d",
            why,
            len(self._application.in_flight),
            len(self._application.websockets),
        )
        logging.shutdown()
        os._exit(exit_code)


async def _finish(
    server: Server, application: Application, listeners: Sequence[socket.socket]
) -> None:
    """Accept what waits and no more, answer what is in flight, and close what is idle."""
    server.conn_params.no_keep_alive = True
    for one in listeners:
        with suppress(OSError):  # there are no more
            while True:
                server.accept(*one.accept())
    server.stop()
    await asyncio.sleep(POLL)  # until what has just been accepted counts as open
    idle_since = time.monotonic()
    while server.open or application.websockets:
        # Each time round, for a handshake may have been under way.
        for websocket in tuple(application.websockets):
            websocket.close(1001, "the service is stopping")
        if application.in_flight or application.websockets:
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since > LINGER:
            break
        await asyncio.sleep(POLL)
    await server.close_all_connections()


def _new_event_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop() if sys.platform == "win32" else uvloop.new_event_loop()
