"""The supervisor: starts the workers, watches over them, replaces them, reloads and stops.

Each slot, a number from 0, has a worker, and a listening socket that the supervisor keeps open:
what waits there to be accepted does not die with a worker. One more process serves the admin port,
so that health is known however busy the workers are. The supervisor has no event loop and no
thread, for neither survives a fork: ten times a second it looks at signals, the dead and the
scoreboard and does what is due. SIGTERM and SIGINT drain and stop, a second one stops at once, and
SIGHUP renews all, one by one: each successor is ready before its predecessor drains.
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
from ..settings import BadSettings, Settings, changed_at_start, load
from ..logs.shared import SupervisorLog
from .signals import SignalQueue
from ..process.sockets import CannotStart
from ..process.systemd import Systemd

# Seconds between two looks. If there are more than so many, the supervisor itself was held up.
TICK, HELD_UP = 0.1, 1.0

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
        self._log, self._work, self._greeting = log, work, greeting
        self._signals = SignalQueue()
        self._systemd = Systemd()
        self._restarts = Restarts()
        self._processes: dict[int, Process] = {}  # by pid
        self._current: dict[int, Process] = {}  # by slot
        self._reloading = False
        self._to_renew: list[int] = []
        self._renewed: list[int] = []
        self._successor: Process | None = None
        self._last_failure: dict[str, str] = {}
        self._stop_at = math.inf
        self._failed, self._exit_code = "", 0
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
            elif self._send_away():
                break
            self._fill()
            self._systemd.beat()
            self._log.write()
        if self._failed:
            raise CannotStart(self._failed)
        logger.info("stopped")
        return self._exit_code

    def _obey(self, signum: signal.Signals) -> None:
        if signum == signal.SIGHUP and self._stop_at < math.inf:
            logger.info("SIGHUP: ignored, the service is stopping")
        elif signum == signal.SIGHUP:
            logger.info("SIGHUP: reloading")
            self._systemd.reloading()
            self._restarts.hurry()
            self._reloading = True
            self._to_renew, self._renewed = sorted(self._sockets, reverse=True), []
            if self._successor:
                self._successor.cut()  # it may have started too early
        elif signum in (signal.SIGTERM, signal.SIGINT):
            if self._stop_at == math.inf:
                self._stop(signum.name, self._settings.drain_delay)
            elif not self._exit_code:
                logger.warning("second signal, %s: stopping at once", signum.name)
                self._stop_at, self._exit_code = self._now, 1
                for process in self._processes.values():
                    process.cut()

    def _stop(self, why: str, delay: float) -> None:
        logger.info("%s: stopping", why)
        self._systemd.stopping()
        self._scoreboard.stopping = True
        self._stop_at = self._now + delay
        self._reloading = False
        if self._successor:
            self._successor.cut()

    def _send_away(self) -> bool:
        """Send away the workers, then the admin process; tell whether all have gone."""
        for slot, sockets in self._sockets.items():
            for one in sockets if slot != ADMIN else ():
                one.close()  # or who comes now would wait for somebody who never accepts
        workers = [one for one in self._processes.values() if one.slot != ADMIN]
        for process in workers or self._processes.values():
            process.drain(self._settings.drain_timeout)
        return not self._processes

    def _bury(self, process: Process, code: int) -> None:
        what, more = process.bury(code)
        self._scoreboard.release(process.row)
        if self._current.get(process.slot) is process:
            del self._current[process.slot]
        if process is self._successor:
            self._successor = None
            if not process.leaving:
                self._give_up_reload(what, more)
        elif process.leaving:
            if code < 0 and -code not in LEAVE:
                logger.error(what, extra=more)
        elif process.ready_since:
            logger.error(what, extra=more)
            self._scoreboard.count_death(process.slot)
            self._restarts.died(process.slot, self._now - process.ready_since)
        else:
            self._cannot_start(process.slot, what, more)

    def _cannot_start(self, slot: int, what: str, more: dict[str, str]) -> None:
        self._scoreboard.count_death(slot)
        delay = self._restarts.failed(slot)
        known, self._last_failure = more == self._last_failure, more
        logger.error("cannot start %s", what, extra=None if known else more)
        if self._restarts.hopeless and not self._serving():
            self._failed = f"no worker can start: {what}"
            self._stop("no worker can start", 0)
        else:
            logger.info("next attempt in %.1f s", delay)

    def _watch(self, process: Process) -> None:
        silent = self._now - max(process.row.last_beat, self._awake_since)
        if self._now > process.deadline:
            process.kill(f"killed, not {'gone' if process.leaving else 'ready'} in time")
        elif process.row.draining and not process.leaving:
            process.expect_end(self._settings.drain_timeout)
        elif process.row.ready and not (process.ready_since or process.leaving):
            self._welcome(process)
        elif process.row.ready and not process.killed and 0 < self._settings.hang_timeout < silent:
            process.kill(f"killed, its event loop was blocked for {silent:.1f} s")

    def _welcome(self, process: Process) -> None:
        logger.info("%s: ready", process)
        process.ready_since, process.deadline = self._now, math.inf
        self._restarts.succeeded(process.slot)
        if process.slot != ADMIN:
            self._last_failure = {}
            if self._greeting:
                logger.info(self._greeting)
                self._systemd.ready(self._greeting)
                self._greeting = ""

    def _serving(self) -> bool:
        return any(one.ready_since and one.slot != ADMIN for one in self._current.values())

    def _fill(self) -> None:
        """Start what is missing: until a worker serves one at a time, for it may be in vain."""
        for slot in self._sockets:
            alone = not self._serving() and set(self._current) - {ADMIN}
            if slot != ADMIN and (alone or self._now >= self._stop_at):
                break
            if slot in self._current or not self._restarts.may_start(slot, self._serving()):
                continue
            try:
                self._current[slot] = self._fork(slot)
            except OSError as error:
                self._cannot_start(slot, f"a process: {error.strerror}", {})

    def _fork(self, slot: int) -> Process:
        row = self._scoreboard.take(slot)
        try:
            process = fork(slot, row, self._work, self._signals, self._processes.values())
        except OSError:
            self._scoreboard.release(row)
            raise
        process.deadline = self._now + self._settings.start_timeout
        self._processes[process.pid] = process
        return process

    def _reload(self) -> None:
        new = self._successor
        if new and new.ready_since and not new.leaving:
            if old := self._current.get(new.slot):
                old.drain(self._settings.drain_timeout)
            self._current[new.slot], self._successor = new, None
            self._renewed.append(new.slot)
        # One predecessor at a time, so that there is never more than one process too many.
        leaving = any(one.leaving for one in self._processes.values())
        if not self._reloading or self._successor or leaving:
            return
        # What is missing is started anew in any case.
        self._to_renew = [slot for slot in self._to_renew if slot in self._current]
        if self._to_renew:
            try:
                self._successor = self._fork(self._to_renew.pop(0))
            except OSError as error:
                self._give_up_reload(f"no process to be had: {error.strerror}", {})
        elif len(self._current) == len(self._sockets) and all(
            one.ready_since for one in self._current.values()
        ):
            logger.info("reloaded")
            self._end_reload("reloaded")
            self._read_settings()

    def _give_up_reload(self, why: str, more: dict[str, str]) -> None:
        half = f", half-way: only {self._renewed} are renewed" if self._renewed else ""
        logger.error("reload given up, the old workers go on%s: %s", half, why, extra=more)
        self._end_reload("reload given up")

    def _end_reload(self, status: str) -> None:
        self._reloading = False
        if not self._greeting:
            self._systemd.ready(status)

    def _read_settings(self) -> None:
        with suppress(BadSettings):  # broken just now, while the workers have good ones
            before, self._settings = self._settings, load()
            logging.getLogger().setLevel(self._settings.log_level.upper())
            for name in changed_at_start(before, self._settings):
                logger.warning("%s has changed, which takes a restart", name)
