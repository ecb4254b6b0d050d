"""Entry point of a forked process: a worker or the admin process."""

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..admin.handlers import make_admin_app
from ..http.application import Application
from ..logs import formatters
from ..logs.shared import ProcessLock
from ..logs.writer import ThreadedHandler
from ..monitor.events import EventChannel, forward_events
from ..monitor.monitor import Monitor
from ..monitor.statistics import RequestStatistics
from ..process.definition import ServiceDefinition, create_application
from ..process.exiting import run_exit_hooks
from ..process.forks import isolate_forks
from ..process.lifecycle import Lifecycle, run_event_loop
from ..settings import Settings
from ..status import ADMIN_SLOT, ProcessDetails, State, Vitals
from .blocking import WorkTeller
from .child import ABORT, DRAIN
from .children import LEFTOVER_GRACE
from .neighbours import NeighbourAcceptor
from .scoreboard import Row, Scoreboard

ORPHAN_DRAIN_TIMEOUT = 1.0
"""Seconds that requests get after the supervisor has exited: another is about to be started."""
ORPHAN_KILL_DELAY = 0.5
"""Seconds more until the admin process kills what has not exited by itself."""
SOCKET_CLOSE_DELAY = 0.05
"""Seconds for the other processes to close a worker's socket first.

Connections that are queued when the last process closes it would be reset; until then the worker
accepts them.
"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChildContext:
    """What a child inherits from the supervisor."""

    service: ServiceDefinition
    started_with: Settings
    """The settings of the supervisor when it started."""
    slot: int
    sockets: Mapping[int, Sequence[socket.socket]]
    """The listening sockets of every slot."""
    scoreboard: Scoreboard
    monitor: Monitor
    events: EventChannel
    row: Row
    channel: socket.socket
    """Reads EOF when the supervisor exits; also used for its questions and their answers, for stack
    dumps and the exit report."""
    lock: ProcessLock
    """Serialises the writes of all processes to one log."""

    @property
    def is_admin(self) -> bool:
        return self.slot == ADMIN_SLOT


def run(context: ChildContext) -> None:
    """Serve until a signal. Raises `SettingsError`, `StartupError` and `ShutdownError`."""
    isolate_forks([sock for sockets in context.sockets.values() for sock in sockets])
    teller = WorkTeller(context.channel)
    _close_foreign_sockets(context)
    context.row.set_pid()
    settings = context.service.load_settings().keep_from_start(context.started_with)
    worker = None if context.is_admin else context.slot
    formatters.configure(settings, ThreadedHandler(settings.log_file, context.lock), worker)
    forward_events(context.events.send, worker)
    if context.is_admin:
        for description in settings.unknown_variables():  # once, not in every worker
            logger.warning(description)
    try:
        run_event_loop(_serve(context, settings, _make_app(context, settings), teller))
        run_exit_hooks()
        logger.info("stopped")
    finally:
        logging.shutdown()


def _close_foreign_sockets(context: ChildContext) -> None:
    # Clients can connect to a socket as long as any process has it open.
    for slot, sockets in context.sockets.items():
        if (slot == ADMIN_SLOT) != context.is_admin:
            for sock in sockets:
                sock.close()


def _make_app(context: ChildContext, settings: Settings) -> Application:
    service = context.service
    if context.is_admin:
        return create_application(
            settings,
            lambda settings: make_admin_app(
                settings, context.scoreboard, context.monitor, service.extensions
            ),
        )
    application = service.make_app(settings)
    application.statistics = RequestStatistics(context.row.statistics)
    return application


async def _serve(
    context: ChildContext, settings: Settings, application: Application, teller: WorkTeller
) -> None:
    # The supervisor has already waited APP_DRAIN_DELAY.
    lifecycle = Lifecycle(
        application,
        context.sockets[context.slot],
        context.service.read_info(),
        () if context.is_admin else context.service.extensions,
        drain_delay=SOCKET_CLOSE_DELAY,
    )
    # A second SIGTERM (sent to the process group) must not abort.
    signal.signal(DRAIN, lambda *_: lifecycle.drain("SIGTERM", settings.drain_timeout))
    signal.signal(ABORT, lambda *_: lifecycle.abort("SIGUSR2"))
    teller.watch(asyncio.get_running_loop(), application.connections)
    threading.Thread(
        target=_watch_supervisor, args=(context, lifecycle, teller), daemon=True
    ).start()
    neighbours = NeighbourAcceptor(
        context.slot,
        context.sockets,
        context.scoreboard,
        lifecycle.server,
        port_per_worker=settings.port_per_worker,
    )
    await lifecycle.run(ScoreboardReporter(context.row, neighbours))


def _watch_supervisor(context: ChildContext, lifecycle: Lifecycle, teller: WorkTeller) -> None:
    # In a thread, because the event loop may be blocked.
    teller.answer_until_eof()
    logger.error("supervisor exited, shutting down")
    if context.is_admin:
        time.sleep(ORPHAN_DRAIN_TIMEOUT + ORPHAN_KILL_DELAY)
        _end_workers(context.scoreboard)
    lifecycle.drain("the end of the supervisor", ORPHAN_DRAIN_TIMEOUT)


def _end_workers(scoreboard: Scoreboard) -> None:
    """Kill workers whose threads do not even run, and what any worker has left behind."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        is_left = False
        for row in scoreboard:
            if row.pid not in (0, os.getpid()):
                with suppress(OSError):
                    os.killpg(row.pid, signum)
                    is_left = True
        if not is_left or signum == signal.SIGKILL:
            return
        time.sleep(LEFTOVER_GRACE)


class ScoreboardReporter:
    """Writes state and heartbeats to the scoreboard, and updates the `NeighbourAcceptor`."""

    def __init__(self, row: Row, neighbours: NeighbourAcceptor) -> None:
        self._row = row
        self._neighbours = neighbours

    def state_changed(self, state: State) -> None:
        if state is State.READY:
            # First, because ready means that every address of the service responds.
            self._neighbours.update()
        self._row.set_state(state)
        # The supervisor then looks at the scoreboard at once, as it does when a child exits.
        with suppress(OSError):  # the supervisor has exited
            os.kill(os.getppid(), signal.SIGCHLD)
        if state is State.DRAINING:
            self._neighbours.close()

    def details_changed(self, details: ProcessDetails) -> None:
        self._row.set_details(details)

    def heartbeat(self, vitals: Vitals) -> None:
        self._row.heartbeat(vitals)
        if self._row.ready:
            self._neighbours.update()
