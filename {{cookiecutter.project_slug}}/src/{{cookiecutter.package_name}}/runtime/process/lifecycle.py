"""Lifecycle of a serving process: start, ready, drain, exit.

A drain, in this order: not ready any more, APP_DRAIN_DELAY with traffic still served, then no new
connections, streams of events ended, WebSockets closed with 1001, and every request in flight
finished. The end of the timeout, or a second signal, aborts what is left and logs how much that
was, and what.

In flight is work, not connections: a handler counts until it has ended, even if its client has
left, and so do the tasks that the service has started with `Application.background`.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from functools import partial
from types import FrameType, TracebackType
from typing import TypeVar

from ..errors import ShutdownError, StartupError
from ..extensions import Extension
from ..http.application import Application
from ..monitor.events import EVENT, REQUESTS_ABORTED
from ..monitor.statistics import responses
from ..settings import Settings
from ..status import (
    HEARTBEAT_INTERVAL,
    ProcessDetails,
    ResourceStatus,
    State,
    StateReporter,
    Vitals,
    WorkerStatus,
)
from ..version import ServiceInfo
from .checks import ResourceChecks
from .exiting import exit_now
from .lag import Lag
from .memory import resident_memory
from .readiness import WorkerChecks, resource_reasons, resource_statuses
from .sockets import listen

if sys.platform != "win32":
    import uvloop  # not available for Windows

MAX_ABORTED_NAMES = 20
"""Routes and tasks that are named in the record of what was aborted."""

logger = logging.getLogger(__name__)

T = TypeVar("T")


def run_event_loop(main: Coroutine[object, object, None]) -> None:
    """Run a coroutine in uvloop (on Windows in asyncio's own loop)."""
    # What exists now lives until the end: the garbage collector need not look at it again.
    gc.collect()
    gc.freeze()
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        runner.run(main)


class Lifecycle:
    """Starts, drains and stops an application on its listening sockets.

    Arguments:

    - `application`: what it serves, with its settings and its resources.
    - `listeners`: bound sockets. They listen only once the resources are open.
    - `extensions`: their lifespans enclose those of the resources. `service` is what they get.
    - `drain_delay`: seconds to keep serving after readiness has turned false.

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
    ) -> None:
        self._application = application
        self._settings: Settings = application.config
        self._connections = application.connections
        self._listeners = listeners
        self._service = service
        self._extensions = extensions
        self._drain_delay = drain_delay
        self._loop = asyncio.get_running_loop()
        self._state = State.STARTING
        self._stopping = False
        self._is_closing = False
        """Whether nothing is left but to close what was opened."""
        self._stop = asyncio.Event()
        self._lag = Lag()
        self._details = ProcessDetails(service.version, service.revision)
        self._checks: ResourceChecks | None = None
        self._started = time.monotonic()
        self.server = application.create_server()
        self.on_abort: Callable[[str, int], object] = lambda message, exit_code: None
        """Called, in any thread, before the process is ended: with what that ends, in words, and
        with the exit code."""

    async def run(self, reporter: StateReporter) -> None:
        """Serve until `drain` is called, then drain. `reporter` gets the states and heartbeats.

        Raises `StartupError`, and `ShutdownError` if what was opened cannot be closed.
        """
        threads = ThreadPoolExecutor(self._settings.threads, "blocking-call")
        self._loop.set_default_executor(threads)
        self._loop.set_exception_handler(self._application.handle_error_of_loop)
        self._heartbeat(reporter, time.monotonic())
        reporter.details_changed(self._details_now())
        async with AsyncExitStack() as stack:
            try:
                await self._start(stack)
            except StartupError as error:
                self._is_closing = True
                timeout = self._settings.drain_timeout  # to close what has been opened
                self._abort_after(timeout, f"{timeout:g} s after: {error}", exit_code=1)
                raise
            if not self._stopping:
                self._start_checks(stack, reporter)
                listen(self._listeners)
                self.server.add_sockets(self._listeners)
                # The start may have blocked the event loop: the last heartbeat is old.
                reporter.heartbeat(self._vitals())
                self._set_state(State.READY, reporter)
                await self._stop.wait()
            self._set_state(State.DRAINING, reporter)
            if self._checks:
                self._checks.cancel()
            await self._drain()

    def not_ready_reasons(self) -> list[str]:
        """Return why the process is not ready; empty if it is."""
        if self._state is not State.READY:
            return [self._state.name.lower()]
        return resource_reasons(self._worker_checks())

    def worker_statuses(self) -> list[WorkerStatus]:
        """Return the status of this process, as worker 0."""
        vitals = self._vitals()
        return [
            WorkerStatus(
                worker=0,
                pid=os.getpid(),
                ready=self._state is State.READY,
                requests_in_flight=vitals.requests_in_flight,
                event_loop_lag=vitals.event_loop_lag,
                restarts=0,
                state=self._state.name.lower(),
                age=time.monotonic() - self._started,
                requests=responses(self.statistics()),
                memory=vitals.memory,
                websockets=vitals.websockets,
                event_streams=vitals.event_streams,
                details=self._details_now(),
            )
        ]

    def resource_statuses(self) -> list[ResourceStatus]:
        """Return the status of each resource that has a check."""
        return resource_statuses(self._worker_checks())

    def statistics(self) -> Sequence[int]:
        """Return what this process has counted."""
        return self._application.statistics.cells

    def on_signal(self, signum: int, frame: FrameType | None) -> None:
        """Drain on the first signal, abort on the second.

        SIGHUP is never the second one: it comes twice when a terminal is closed.
        """
        name = signal.Signals(signum).name
        if not self._stopping:
            self.stop(name)
        elif name != "SIGHUP":
            self.abort(f"second signal, {name}")

    def stop(self, reason: str) -> None:
        """Drain for as long as the settings say."""
        self.drain(reason, self._drain_delay + self._settings.drain_timeout)

    def drain(self, reason: str, timeout: float) -> None:
        """Drain for at most `timeout` seconds, then abort, with exit code 0. Thread-safe."""
        if not self._stopping:
            self._stopping = True
            self._abort_after(timeout, f"{timeout:g} s after {reason}", exit_code=0)
            self._loop.call_soon_threadsafe(self._stop.set)

    def abort(self, reason: str) -> None:
        """Exit immediately, with code 1."""
        self._abort_after(0, reason, exit_code=1)

    def _set_state(self, state: State, reporter: StateReporter) -> None:
        self._state = state
        reporter.state_changed(state)

    def _start_checks(self, stack: AsyncExitStack, reporter: StateReporter) -> None:
        """Check the resources from now on, until they are closed.

        The process is ready whatever comes of it: a new worker during the outage of a database is
        no worse than an old one.
        """
        application = self._application
        self._checks = ResourceChecks(
            application.declared_resources,
            application.resources,
            lambda: reporter.details_changed(self._details_now()),
        )
        stack.push_async_callback(self._checks.end)
        self._checks.start()
        reporter.details_changed(self._details_now())

    def _details_now(self) -> ProcessDetails:
        return replace(self._details, checks=self._checks.results if self._checks else ())

    def _worker_checks(self) -> WorkerChecks:
        return [(0, self._details_now().checks)]

    def _heartbeat(self, reporter: StateReporter, due: float) -> None:
        now = time.monotonic()
        self._lag.record(now - due)
        reporter.heartbeat(self._vitals())
        self._loop.call_later(
            HEARTBEAT_INTERVAL, self._heartbeat, reporter, now + HEARTBEAT_INTERVAL
        )

    def _vitals(self) -> Vitals:
        connections = self._connections
        return Vitals(
            requests_in_flight=len(connections.requests),
            event_loop_lag=self._lag.maximum,
            websockets=len(connections.websockets),
            event_streams=len(connections.event_streams),
            memory=resident_memory(),
        )

    async def _start(self, stack: AsyncExitStack) -> None:
        for extension in self._extensions:
            name = type(extension).__name__
            try:
                lifespan = extension.lifespan(self._service, self._settings)
                await _enter(stack, lifespan, name)
            except StartupError:
                raise
            except Exception as error:
                raise StartupError(f"cannot start {name}: {error!r}") from error
        await open_resources(self._application, stack)

    async def _drain(self) -> None:
        logger.info("draining, requests in flight: %d", len(self._connections.requests))
        await asyncio.sleep(self._drain_delay)
        await self.server.drain(self._listeners)
        self._is_closing = True

    def _abort_after(self, delay: float, reason: str, exit_code: int) -> None:
        # In a thread, because the event loop may be the thing that is blocked.
        timer = threading.Timer(delay, self._abort, (reason, exit_code))
        timer.daemon = True
        timer.start()

    def _abort(self, reason: str, exit_code: int) -> None:
        try:
            message = f"{reason}: {self._describe_work()}"
            has_work = self._is_closing or self._connections.busy
            logger.warning(message, extra={EVENT: REQUESTS_ABORTED} if has_work else {})
            self.on_abort(message if has_work else "", exit_code)
            logging.shutdown()
        finally:
            exit_now(exit_code)

    def _describe_work(self) -> str:
        """Return what an abort ends, in words."""
        if self._is_closing:
            threads = [thread.name for thread in threading.enumerate() if not thread.daemon]
            return f"a resource, an exit hook or a thread does not end ({', '.join(threads)})"
        requests = [*self._connections.requests, *self._connections.event_streams]
        websockets = tuple(self._connections.websockets)
        background = self._connections.background
        names = _names([*map(str, requests), *map(str, websockets), *background])
        return (
            f"aborted {len(requests)} requests, {len(websockets)} WebSockets "
            f"and {len(background)} tasks{names}"
        )


async def open_resources(application: Application, stack: AsyncExitStack) -> None:
    """Open what an application has declared, until `stack` is left. Raises `StartupError`."""
    for resource in application.declared_resources:
        try:
            lifespan = resource.lifespan(application.config)
            value = await _enter(stack, lifespan, resource.name)
        except Exception as error:
            raise StartupError(f"cannot open {resource.name}: {error!r}") from error
        application.resources[resource] = value


async def _enter(stack: AsyncExitStack, lifespan: AbstractAsyncContextManager[T], name: str) -> T:
    """Enter a context manager that `stack` leaves, as `_leave` does."""
    value = await lifespan.__aenter__()
    stack.push_async_exit(partial(_leave, lifespan, name))
    return value


async def _leave(
    lifespan: AbstractAsyncContextManager[object],
    name: str,
    error_type: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
) -> None:
    """Leave a context manager. Neither its failure nor another one before is ever lost.

    Raises `ShutdownError` if it fails, unless an error is under way: then the failure is logged.
    """
    try:
        await lifespan.__aexit__(error_type, error, traceback)
    # `CancelledError`: a resource may await a task that it has cancelled.
    except (Exception, asyncio.CancelledError) as failure:
        if failure is error:
            return
        message = f"cannot close {name}: {failure!r}"
        if not error:
            raise ShutdownError(message) from failure
        logger.error(message, exc_info=failure)


def _names(work: Sequence[str]) -> str:
    """Return what was aborted, in words, the most frequent first."""
    counted = Counter(work).most_common()
    names = [
        f"{name} ({count})" if count > 1 else name for name, count in counted[:MAX_ABORTED_NAMES]
    ]
    if len(counted) > MAX_ABORTED_NAMES:
        names.append("...")
    return f": {', '.join(names)}" if names else ""


def _new_event_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop() if sys.platform == "win32" else uvloop.new_event_loop()
