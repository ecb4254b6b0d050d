"""What runs in a process that the supervisor has forked: a worker, or the admin's process.

The supervisor has imported none of this: what is imported here is the code of today.
"""

import faulthandler
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any

from tornado.netutil import add_accept_handler

from ..logs import formatters as logs
from ..http.server import Server
from ..logs.writer import LogWriter
from .process import CUT, DRAIN
from ..http.application import Application
from .scoreboard import ADMIN, Row, Scoreboard
from ..process.lifecycle import Service, make, run
from ..settings import Settings, load
from ..status import State

# Seconds that requests get when the supervisor has died: somebody is about to start another.
ORPHAN = 1.0
# Seconds for all others to close a worker's socket. What arrives until then it still accepts; if it
# closed first, what arrives would be reset when the last of them closes.
CLOSE_LAST = 0.05

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What the supervisor gives a process to do."""

    slot: int
    sockets: dict[int, list[socket.socket]]
    """The listening sockets of every slot."""
    scoreboard: Scoreboard
    row: Row
    channel: socket.socket
    """Open as long as the supervisor lives, and the way of a stack to it."""
    turn: AbstractContextManager[object]
    make: Callable[[Settings], Application]
    """Makes what the process serves."""


def work(job: Job) -> None:
    """Serve until told to stop. Raises `CannotStart` and `BadSettings`."""
    faulthandler.register(signal.SIGUSR1, job.channel, all_threads=False)
    for slot, sockets in job.sockets.items():
        if (slot == ADMIN) != (job.slot == ADMIN):
            # As long as somebody has it open, clients wait at a socket that nobody serves any more.
            for one in sockets:
                one.close()
    job.row.sign()
    settings = load()
    worker = None if job.slot == ADMIN else job.slot
    logs.configure(settings, LogWriter(settings.log_file, job.turn), worker)
    try:
        run(_serve(job, settings, make(settings, job.make)))
        logger.info("stopped")
    finally:
        logging.shutdown()


async def _serve(job: Job, settings: Settings, application: Application) -> None:
    # APP_DRAIN_DELAY is over when the supervisor says so, and APP_DEBUG is for one process alone.
    own = settings.model_copy(update={"drain_delay": CLOSE_LAST, "debug": False})
    service = Service(own, application, job.sockets[job.slot])
    # SIGTERM may come twice, if somebody signals the whole group: that is no reason to hurry.
    signal.signal(DRAIN, lambda *_: service.stop("SIGTERM", settings.drain_timeout))
    signal.signal(CUT, lambda *_: service.cut("SIGUSR2"))
    threading.Thread(target=_wait_for_end, args=(job, service), daemon=True).start()
    await service.run(Post(job, service.server))


def _wait_for_end(job: Job, service: Service) -> None:
    # A thread, for the event loop may be blocked.
    job.channel.recv(1)
    logger.error("the supervisor is gone")
    if job.slot == ADMIN:
        # Somebody has to see to those who cannot even run a thread any more.
        time.sleep(ORPHAN + 0.5)
        for row in job.scoreboard:
            if row.pid not in (0, os.getpid()):
                with suppress(OSError):
                    os.kill(row.pid, signal.SIGKILL)
    service.stop("the end of the supervisor", ORPHAN)


class Post:
    """Where a worker stands: it tells the scoreboard how it is, and stands in for its neighbours.

    What arrives at the socket of a worker that is dead, hung or draining need not wait for the
    successor: the others accept it.
    """

    def __init__(self, job: Job, server: Server) -> None:
        self._row = job.row
        self._scoreboard = job.scoreboard
        self._server = server
        # Several slots may share a socket that was handed over.
        self._neighbours: dict[socket.socket, list[int]] = {}
        self._accepting: dict[socket.socket, Callable[[], None]] = {}
        for slot, sockets in job.sockets.items():
            for one in sockets:
                if ADMIN not in (slot, job.slot) and one not in job.sockets[job.slot]:
                    self._neighbours.setdefault(one, []).append(slot)

    def report(self, state: State) -> None:
        self._row.report(state)
        # The supervisor looks at the scoreboard at once, as it does when a child has ended.
        with suppress(OSError):  # or it is gone
            os.kill(os.getppid(), signal.SIGCHLD)
        if state is State.DRAINING:
            for one in self._neighbours:
                self._leave(one)
                one.close()
            self._neighbours = {}

    def beat(self, in_flight: int, lag: float) -> None:
        self._row.beat(in_flight, lag)
        if not self._row.ready:
            return
        for one, slots in self._neighbours.items():
            if any(self._scoreboard.answers(slot) for slot in slots):
                self._leave(one)
            elif one not in self._accepting and _is_open(one):
                logger.info("accepting for worker %d", slots[0])
                self._accepting[one] = add_accept_handler(one, self._accept)

    def _leave(self, one: socket.socket) -> None:
        if one in self._accepting:
            self._accepting.pop(one)()

    def _accept(self, connection: socket.socket, address: Any) -> None:
        # A proxy that kept the connection would go on asking the wrong worker.
        self._server.accept(connection, address, for_one_request=True)


def _is_open(one: socket.socket) -> bool:
    # The worker whose socket this is opens it when it is ready for the first time.
    return bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
