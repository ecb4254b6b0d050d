"""The supervisor: starts the workers, watches over them, replaces them, reloads and stops.

Each slot, a number from 0, has a worker, and a listening socket that the supervisor keeps open:
what waits there to be accepted does not die with a worker. One more process serves the admin port,
so that health is known however busy the workers are. The supervisor itself has no event loop and
no thread, for neither survives a fork, and waits for nothing: ten times a second it looks at the
signals, the dead and the scoreboard, and does what is due. SIGTERM and SIGINT drain and stop, and
a second one stops at once. SIGHUP renews all: each successor is ready before the old one drains.
"""

import logging
import math
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from .process import LEAVE, Process, fork, the_dead
from .restarts import Restarts
from .scoreboard import ADMIN, Row, Scoreboard
from .settings import BadSettings, Settings, load
from .sharedlog import SupervisorLog
from .signals import SignalQueue
from .sockets import CannotStart
from .systemd import Systemd

# Seconds between two looks. If there are more than so many, the supervisor itself was held up.
TICK, HELD_UP = 0.1, 1.0
# Settings that count at the start only.
AT_START = ["address", "port", "workers", "port_per_worker", "admin_address", "admin_port"]

logger = logging.getLogger(__name__)


class Supervisor:
    """The processes, and what is to become of them."""

    def __init__(
        self,
        settings: Settings,
        sockets: dict[int, list[socket.socket]],
        scoreboard: Scoreboard,
        log: SupervisorLog,
        work: Callable[[int, Row, socket.socket], None],
        greeting: str,
    ) -> None:
        self._settings = settings
        self._sockets = sockets
        self._scoreboard = scoreboard
        self._log = log
        self._work = work
        self._greeting = greeting
        self._signals = SignalQueue()
        self._systemd = Systemd()
        self._processes: dict[int, Process] = {}  # by pid
        self._current: dict[int, Process] = {}  # by slot
        self._successor: Process | None = None
        self._to_renew: list[int] = []
        self._reloading = False
        self._restarts = Restarts()
        self._last_exception: dict[str, str] = {}
        self._stop_at = math.inf
        self._failed = ""
        self._exit_code = 0
        self._now = self._awake_since = time.monotonic()

    def run(self) -> int:
        """Supervise until everybody has gone."""
        self._fill()
        while True:
            signals = self._signals.wait(TICK)
            before, self._now = self._now, time.monotonic()
            if self._now - before > HELD_UP:
                # Perhaps the whole machine was: nobody is to blame for beats that are missing.
                self._awake_since = self._now
            for signum in signals:
                self._obey(signum)
            for pid, code in the_dead():
                if process := self._processes.pop(pid, None):
                    self._bury(process, code)
            for process in list(self._processes.values()):
                self._watch(process)
            if self._now < self._stop_at:
                self._reload()
                self._fill()
            elif self._have_all_left():
                break
            self._systemd.beat()
            self._log.write()
        if self._failed:
            raise CannotStart(self._failed)
        logger.info("stopped")
        return self._exit_code

    def _obey(self, signum: signal.Signals) -> None:
        if signum == signal.SIGHUP and self._stop_at == math.inf:
            logger.info("SIGHUP: reloading")
            self._systemd.reloading()
            self._restarts.hurry()
            self._reloading = True
            self._to_renew = sorted(self._sockets, reverse=True)
            if self._successor:
                self._successor.cut()  # it may have started too early
        elif signum in (signal.SIGTERM, signal.SIGINT):
            if self._stop_at == math.inf:
                self._stop(signum.name, self._settings.drain_delay)
                return
            logger.warning("second signal, %s: stopping at once", signum.name)
            self._stop_at, self._exit_code = self._now, 1
            for process in self._processes.values():
                process.cut()

    def _stop(self, why: str, delay: float) -> None:
        logger.info("%s: stopping", why)
        self._systemd.stopping()
        self._scoreboard.stopping = True
        self._stop_at = self._now + delay

    def _have_all_left(self) -> bool:
        """Send the workers away, then the admin process; tell whether nobody is left."""
        for slot, sockets in self._sockets.items():
            for one in sockets if slot != ADMIN else ():
                one.close()  # or who comes now would wait for somebody who never accepts
        workers = [one for one in self._processes.values() if one.slot != ADMIN]
        for process in workers or self._processes.values():
            process.drain(self._settings.drain_timeout)
        return not self._processes

    def _bury(self, process: Process, code: int) -> None:
        what, exception = process.bury(code)
        if self._current.get(process.slot) is process:
            del self._current[process.slot]
        if process is self._successor:
            self._successor = None
            if not process.leaving:
                self._give_up_reload(what, exception)
        elif process.leaving:
            if code < 0 and -code not in LEAVE:
                logger.error(what)
        elif process.ready_since:
            if not process.killed:  # the log has it already, with the stack
                logger.log(logging.ERROR if code else logging.INFO, what)
            self._restarts.died(process.slot, self._now - process.ready_since)
        else:
            self._cannot_start(what, exception)

    def _cannot_start(self, what: str, exception: dict[str, str]) -> None:
        delay = self._restarts.failed()
        known, self._last_exception = exception == self._last_exception, exception
        logger.error("cannot start %s", what, extra=None if known else exception)
        if self._restarts.hopeless and not self._serving():
            self._failed = f"no worker can start: {what}"
            self._stop("no worker can start", 0)
        else:
            logger.info("next attempt in %.1f s", delay)

    def _watch(self, process: Process) -> None:
        silent = self._now - max(process.row.last_beat, self._awake_since)
        if self._now > process.deadline:
            process.kill(f"killed, not {'gone' if process.leaving else 'ready'} in time")
        elif process.row.ready and not process.ready_since:
            self._welcome(process)
        elif process.row.ready and not process.killed and 0 < self._settings.hang_timeout < silent:
            logger.error(
                "%s: killed, its event loop was blocked for %.1f s, requests in flight: %d",
                process,
                silent,
                process.row.in_flight,
                extra={"code.stacktrace": process.stack()},
            )
            process.kill("hung")

    def _welcome(self, process: Process) -> None:
        process.ready_since = self._now
        if process.leaving:
            return
        logger.info("%s: ready", process)
        process.deadline = math.inf
        if process.slot != ADMIN:
            self._restarts.succeeded()
            if self._greeting:
                logger.info(self._greeting)
                self._systemd.ready(self._greeting)
                self._greeting = ""

    def _serving(self) -> bool:
        return any(one.ready_since and one.slot != ADMIN for one in self._processes.values())

    def _fill(self) -> None:
        """Start what is missing: until a worker serves one at a time, for it may be in vain."""
        for slot in self._sockets:
            if slot in self._current or not self._restarts.may_start():
                continue
            if slot != ADMIN and set(self._current) - {ADMIN} and not self._serving():
                break
            if process := self._fork(slot):
                self._current[slot] = process

    def _fork(self, slot: int) -> Process | None:
        row = self._scoreboard.take(slot)
        try:
            process = fork(slot, row, self._work, self._signals, self._processes.values())
        except OSError as error:
            row.release()
            self._cannot_start(f"a process: {error.strerror}", {})
            return None
        process.deadline = self._now + self._settings.start_timeout
        self._processes[process.pid] = process
        return process

    def _reload(self) -> None:
        new = self._successor
        if new and new.ready_since and not new.leaving:
            if old := self._current.get(new.slot):
                old.drain(self._settings.drain_timeout)
            self._current[new.slot] = new
            self._successor = None
        # One predecessor at a time, so that there is never more than one process too many.
        leaving = any(one.leaving for one in self._processes.values())
        if not self._reloading or self._successor or leaving:
            return
        while self._to_renew and self._to_renew[0] not in self._current:
            del self._to_renew[0]  # it is started anew in any case
        if not self._to_renew:
            logger.info("reloaded")
            self._end_reload("reloaded")
            self._read_settings()
        elif not (successor := self._fork(self._to_renew.pop(0))):
            self._give_up_reload("no process to be had", {})
        else:
            self._successor = successor

    def _give_up_reload(self, why: str, exception: dict[str, str]) -> None:
        logger.error("reload given up, the workers of before go on: %s", why, extra=exception)
        self._end_reload("reload given up, the workers of before go on")

    def _end_reload(self, status: str) -> None:
        self._reloading = False
        self._to_renew = []
        self._systemd.ready(status)

    def _read_settings(self) -> None:
        with suppress(BadSettings):  # broken just now, while the workers have good ones
            before, self._settings = self._settings, load()
            for name in AT_START:
                if getattr(before, name) != getattr(self._settings, name):
                    logger.warning("APP_%s has changed, which takes a restart", name.upper())
