"""One process that serves: listen, become ready, wait for a signal, drain, leave.

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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from types import FrameType

from pydantic import IPvAnyAddress
from tornado import autoreload
from tornado.netutil import bind_sockets

from . import logs
from .admin import make_admin
from .connections import Server
from .routing import Application, State
from .settings import Settings, unknown_names

STOPPING = [signal.SIGTERM, signal.SIGINT]
# Connections that may wait to be accepted.
BACKLOG = 1024
# Seconds that idle connections stay open at the end: what a client sends just then is answered.
LINGER = 0.5
# Seconds between looks at what is left.
POLL = 0.02

logger = logging.getLogger(__name__)


class CannotStart(Exception):
    """The service cannot start; the message is one line that says what and where."""


def serve(settings: Settings, make_app: Callable[[Settings], Application]) -> None:
    """Serve until a signal. Raises `CannotStart`."""
    try:
        logs.configure(settings)
    except OSError as error:
        raise CannotStart(f"cannot write the log: {error}") from error
    for line in unknown_names():
        logger.warning(line)
    try:
        application = make_app(settings)
    except Exception as error:
        logger.exception("cannot make the application")
        raise CannotStart(f"cannot make the application: {error!r}") from error
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        runner.run(Service(settings, application).run())


class Service:
    """An application, the ports it is served on, and its way from start to stop."""

    def __init__(self, settings: Settings, application: Application) -> None:
        self._settings = settings
        self._application = application
        self._public = Server(application, settings)
        self._admin = Server(make_admin(settings, application), settings)
        self._stop = asyncio.Event()
        self._stopping = False

    async def run(self) -> None:
        """Serve until a signal, then drain."""
        settings, application = self._settings, self._application
        public = _bind(settings.address, settings.port)
        admin = _bind(settings.admin_address, settings.admin_port)
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(settings.threads, "blocking-call"))
        for signum in STOPPING:
            # Not the loop's own signal handlers: these also run while the loop is blocked.
            signal.signal(signum, self._on_signal)
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            # A closed terminal stops the service as well, unless it was started with nohup.
            signal.signal(signal.SIGHUP, self._on_signal)
        self._admin.add_sockets(admin)
        async with AsyncExitStack() as stack:
            await self._enter_resources(stack)
            if not self._stopping:
                self._public.add_sockets(public)
                application.state = State.READY
                logger.info("listening on %s, admin on %s", _url(public), _url(admin))
                if settings.debug:
                    autoreload.start()
                await self._stop.wait()
            await self._drain()
        await self._admin.close_all_connections()
        logger.info("stopped")

    async def _enter_resources(self, stack: AsyncExitStack) -> None:
        for name, resource in self._application.resources.items():
            try:
                value = await stack.enter_async_context(resource())
            except Exception as error:
                logger.exception("cannot start %s", name)
                raise CannotStart(f"cannot start {name}: {error!r}") from error
            self._application.settings[name] = value

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        name = signal.Signals(signum).name
        if self._stopping:
            self._cut_after(0, f"second signal, {name}", exit_code=1)
            return
        self._stopping = True
        limit = self._settings.drain_delay + self._settings.drain_timeout
        self._cut_after(limit, f"{limit:g} s after {name}", exit_code=0)
        asyncio.get_running_loop().call_soon_threadsafe(self._stop.set)

    async def _drain(self) -> None:
        application, public = self._application, self._public
        application.state = State.DRAINING
        logger.info("draining, requests in flight: %d", len(application.in_flight))
        await asyncio.sleep(self._settings.drain_delay)
        public.conn_params.no_keep_alive = True
        public.stop()
        idle_since = time.monotonic()
        while public.open or application.websockets:
            # Each time round, for a handshake may have been under way.
            for websocket in tuple(application.websockets):
                websocket.close(1001, "the service is stopping")
            if application.in_flight or application.websockets:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > LINGER:
                break
            await asyncio.sleep(POLL)
        await public.close_all_connections()

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


def _bind(address: IPvAnyAddress, port: int) -> list[socket.socket]:
    try:
        return bind_sockets(port, str(address), backlog=BACKLOG)
    except OSError as error:
        raise CannotStart(f"cannot listen on {address} port {port}: {error.strerror}") from error


def _url(sockets: list[socket.socket]) -> str:
    host, port = sockets[0].getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _new_event_loop() -> asyncio.AbstractEventLoop:
    if sys.platform == "win32":
        return asyncio.SelectorEventLoop()
    import uvloop  # not made for Windows

    return uvloop.new_event_loop()
