"""The supervisor: starts, monitors, replaces, reloads and stops the workers.

Each slot, a number from 0, has a worker, and a listening socket that the supervisor keeps open, so
queued connections survive a worker. One more process serves the admin port, so that health is
known however busy the workers are. The supervisor has neither an event loop nor a thread, because
neither survives a fork: ten times a second it handles signals, exited children and the scoreboard.
SIGTERM and SIGINT drain and stop, a second one stops immediately, and SIGHUP is a rolling restart.
"""

import logging
import math
import os
import signal
import socket
import time
from collections.abc import Callable

from ..checksums import checksums, differences
from ..control.server import ControlServer
from ..errors import StartupError
from ..logs.shared import NonBlockingHandler
from ..monitor.events import (
    EVENT,
    RELOAD_STARTED,
    SERVICE_STARTED,
    SERVICE_STOPPING,
    WORKER_BLOCKED,
    WORKER_DIED,
    WORKER_NOT_STARTED,
    EventChannel,
)
from ..monitor.monitor import Monitor
from ..process.definition import version_fields
from ..process.systemd import SystemdNotifier
from ..settings import Settings
from ..starting import STOP_SIGNALS
from ..status import ADMIN_SLOT
from .child import ChildProcess, Target
from .children import Children, Exit
from .limits import Limits, Renewal, limit_warnings
from .operations import Operation, Outcome, RefusedError
from .reload import Reload, Replacement
from .resize import Resize, check_count
from .restarts import RestartPolicy
from .scoreboard import Scoreboard
from .signals import SignalQueue
from .steering import SupervisorSteering

TICK = 0.1
"""Seconds that an iteration waits for signals, at most."""
STALLED = 1.0
"""Seconds of an iteration beyond which the supervisor itself was stopped."""
MAX_CHANGED_FILES = 3
"""Changed files of the runtime that the log names."""

logger = logging.getLogger(__name__)


class Supervisor:
    """Owns the child processes, and decides what happens to them."""

    def __init__(
        self,
        settings: Settings,
        sockets: dict[int, list[socket.socket]],
        scoreboard: Scoreboard,
        monitor: Monitor,
        events: EventChannel,
        log: NonBlockingHandler,
        target: Target,
        control: ControlServer | None,
        *,
        read_settings: Callable[[], Settings | None],
        listening_message: str,
    ) -> None:
        self._settings = self._started_with = settings
        self._read_settings = read_settings
        self._sockets = sockets
        self._scoreboard = scoreboard
        self._monitor = monitor
        self._events = events
        self._log = log
        self._listening_message = listening_message
        self._signals = SignalQueue()
        self._systemd = SystemdNotifier()
        self._restarts = RestartPolicy()
        self._limits = Limits()
        self._children = Children(scoreboard, target, self._signals)
        self._operation: Replacement | None = None
        self._runtime_files = checksums()
        self._first: ChildProcess | None = None
        """The worker for which the others wait: it was started while none was ready."""
        self._last_failure: dict[str, str] = {}
        self._is_announced = False
        self._may_kill = True
        """Whether this iteration has killed no process yet."""
        self._drain_at = math.inf
        """When the drain begins: APP_DRAIN_DELAY after the signal to stop."""
        self._is_aborting = False
        self._startup_error = ""
        self._exit_code = 0
        self._failure = ""
        """Why the exit code is not 0."""
        self._steering = SupervisorSteering(
            control, monitor.info, self, scoreboard, is_under_systemd=self._systemd.is_present
        )
        self._now = self._resumed_at = time.monotonic()

    def run(self) -> int:
        """Run until all processes have exited. Returns the exit code; raises `StartupError`."""
        self._start_missing()
        while True:
            signals = self._signals.wait(TICK, self._steering.filenos)
            self._update_clock()
            self._may_kill = True
            self._handle_signals(signals)
            for exit_ in self._children.reap():
                self._handle_exit(exit_)
            for event in self._events.receive():
                self._monitor.events.append(event)
                self._steering.report_event(event)
            for process in self._children:
                self._check(process)
            self._log.flush()  # a command that is over finds its reason in the log
            self._steering.handle()
            if not self._is_draining:
                self._renew_worker()
                self._advance_operation()
            elif self._drain_all():
                break
            self._start_missing()
            self._systemd.ping_watchdog()
            self._log.flush()
        if self._startup_error:
            self._steering.stopped(False, self._startup_error)
            raise StartupError(self._startup_error)
        logger.info("stopped")
        self._steering.stopped(not self._exit_code, self._failure or "stopped")
        return self._exit_code

    def _update_clock(self) -> None:
        before, self._now = self._now, time.monotonic()
        if self._now - before > STALLED:
            # The machine may have been suspended: do not kill workers for missing heartbeats.
            self._resumed_at = self._now

    def _handle_signals(self, signals: list[signal.Signals]) -> None:
        if self._signals.terminal_was_closed:
            self.stop("terminal closed")
        for signum in signals:
            self._handle_signal(signum)

    def _handle_signal(self, signum: signal.Signals) -> None:
        if signum == signal.SIGHUP:
            self._handle_hup()
        elif signum in STOP_SIGNALS:
            self._handle_stop(signum)
        elif signum == signal.SIGTSTP:
            self._suspend()
        elif signum != signal.SIGCHLD:
            logger.info("%s: ignored", signum.name)

    def _handle_hup(self) -> None:
        try:
            self.reload("SIGHUP")
        except RefusedError as error:
            logger.info("SIGHUP: ignored, %s", error)

    def reload(self, reason: str) -> Reload:
        """Begin to replace all processes. Raises `RefusedError`."""
        if self._is_stopping:
            raise RefusedError("the service is stopping")
        logger.info("%s: reloading", reason, extra={EVENT: RELOAD_STARTED})
        self._systemd.reloading()
        self._restarts.reset_delays()
        before = self._operation
        self._cancel_operation("a reload has begun")  # its replacement may have loaded old code
        reload = self._operation = Reload(self._children, self._settings, self._finish_reload)
        if isinstance(before, Reload):
            before.superseded_by = reload
        return reload

    @property
    def operation(self) -> Operation | None:
        """What is going on."""
        return self._operation

    def resize(self, count: int) -> Operation:
        """Begin to change the number of workers until the next restart. Raises `RefusedError`."""
        check_count(count, self._started_with, self._scoreboard.capacity)
        if self._is_stopping:
            raise RefusedError("the service is stopping")
        if not self._children.would_serve(count):
            raise RefusedError("none of the workers that stay is ready: try again when one is")
        if isinstance(self._operation, Reload):
            raise RefusedError("a reload is going on: try again when it is over")
        if isinstance(self._operation, Resize):
            raise RefusedError("the number of workers is being changed: try again later")
        self._cancel_operation("the number of workers is to change")
        for slot in range(count, self._scoreboard.workers):
            self._restarts.succeeded(slot)  # its failures are over
        self._operation = Resize(self._children, self._scoreboard, self._settings, count)
        return self._operation

    def stop(self, reason: str) -> None:
        """Drain and stop; nothing if the service is stopping."""
        if not self._is_stopping:
            self._stop(reason, self._settings.drain_delay)

    def _handle_stop(self, signum: signal.Signals) -> None:
        if not self._is_stopping:
            self.stop(signum.name)
        elif not self._is_aborting:
            self._failure = f"second signal, {signum.name}: stopping immediately"
            logger.warning(self._failure)
            self._is_aborting = True
            self._drain_at, self._exit_code = self._now, 1
            for process in self._children:
                process.abort()

    def _suspend(self) -> None:
        """Stop all processes, as Ctrl-Z does with a single one, until ``fg`` or ``bg``."""
        for process in self._children:
            process.send_to_group(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)  # returns after SIGCONT
        for process in self._children:
            process.send_to_group(signal.SIGCONT)

    @property
    def _is_stopping(self) -> bool:
        return self._drain_at < math.inf

    @property
    def _is_draining(self) -> bool:
        """Whether APP_DRAIN_DELAY is over."""
        return self._now >= self._drain_at

    def _stop(self, reason: str, delay: float) -> None:
        logger.info("%s: stopping", reason, extra={EVENT: SERVICE_STOPPING})
        self._systemd.stopping()
        self._scoreboard.stopping = True
        self._drain_at = self._now + delay
        self._cancel_operation("the service is stopping")

    def _drain_all(self) -> bool:
        """Drain the workers, then the admin process. Return whether all have exited."""
        for slot, sockets in self._sockets.items():
            if slot != ADMIN_SLOT:
                for sock in sockets:
                    # Otherwise connections would queue on a socket that no process accepts from.
                    sock.close()
        for process in self._children.workers or self._children:
            process.drain(self._settings.drain_timeout)
        return not (self._children or self._children.has_leftovers)

    def _handle_exit(self, exit_: Exit) -> None:
        process = exit_.process
        is_failure = process.has_failed(exit_.code) or not process.exiting
        operation = self._operation
        is_its_end = bool(operation and operation.handle_exit(process))
        if process.exiting or not is_its_end:  # otherwise the outcome says it
            self._steering.report(str(exit_) if is_failure else f"{process}: stopped")
        if process.exiting:
            if is_failure:
                self._log_death(exit_)
                was_killed = process.kill_reason and not process.aborted
                if self._is_stopping and (exit_.code > 0 or was_killed):
                    self._exit_code, self._failure = 1, str(exit_)
        elif operation and is_its_end:
            self._end_operation(operation, operation.fail(str(exit_), exit_.fields))
        elif process.ready_since:
            self._log_death(exit_)
            self._scoreboard.count_restart(process.slot)
            self._restarts.crashed(process.slot, self._now - process.ready_since)
        else:
            message = f"{process}: failed to start: {exit_.reason}"
            self._handle_start_failure(process.slot, message, exit_.fields)

    def _log_death(self, exit_: Exit) -> None:
        process = exit_.process
        name = WORKER_BLOCKED if process.was_blocked else WORKER_DIED
        logger.error(str(exit_), extra={**exit_.fields, EVENT: name})

    def _handle_start_failure(self, slot: int, message: str, fields: dict[str, str]) -> None:
        self._scoreboard.count_restart(slot)
        delay = self._restarts.failed(slot, self._children.has_ready_worker)
        # The same stack again would tell nothing new.
        is_known = fields == self._last_failure
        self._last_failure = fields
        event = {EVENT: WORKER_NOT_STARTED}
        logger.error(message, extra=event if is_known else {**fields, **event})
        if self._restarts.exhausted:
            self._startup_error = f"no worker can start: {message}"
            self._stop("no worker can start", 0)
        else:
            logger.info("retrying in %.1f s", delay)

    def _check(self, process: ChildProcess) -> None:
        row = process.row
        process.receive()
        self._limits.observe(process)
        if self._now > process.deadline:
            expected = "exit" if process.exiting else "become ready"
            self._kill(process, f"killed: did not {expected} in time")
        elif row.draining and not process.exiting:
            process.mark_exiting(self._settings.drain_timeout)
        elif row.ready and not process.ready_since and not process.exiting:
            self._mark_ready(process)
        elif row.ready and not process.kill_reason:
            # Also while it is exiting: a blocked event loop cannot begin to drain.
            self._check_heartbeat(process)

    def _check_heartbeat(self, process: ChildProcess) -> None:
        silence = self._now - max(process.row.last_heartbeat, self._resumed_at)
        if 0 < self._settings.hang_timeout < silence:
            reason = f"killed: its event loop was blocked for {silence:.1f} s"
            self._kill(process, reason, was_blocked=True)

    def _kill(self, process: ChildProcess, reason: str, *, was_blocked: bool = False) -> None:
        """Kill a process, or in a later iteration: it takes half a second."""
        if self._may_kill:
            self._may_kill = False
            process.was_blocked = was_blocked
            process.kill(reason)
            self._update_clock()  # so that this does not look as if the machine had been suspended

    def _mark_ready(self, process: ChildProcess) -> None:
        details = process.row.details
        fields = version_fields(details.version, details.revision)
        logger.info("%s: ready", process, extra=fields)
        self._steering.report(f"{process}: ready")
        process.ready_since, process.deadline = self._now, math.inf
        self._restarts.succeeded(process.slot)
        if process.slot != ADMIN_SLOT:
            self._last_failure = {}
            if not self._is_announced:
                self._is_announced = True
                logger.info(self._listening_message, extra={EVENT: SERVICE_STARTED})
                self._systemd.ready(self._listening_message)

    def _start_missing(self) -> None:
        """Start missing processes; one at a time until the first worker is ready."""
        if self._is_draining and not self._children.workers:
            return  # nothing is left that the admin process could tell
        has_ready = self._children.has_ready_worker
        missing = [slot for slot in self._children.slots if slot not in self._children.current]
        for slot in missing:
            is_starting = not has_ready and self._first in self._children.current.values()
            if slot != ADMIN_SLOT and (is_starting or self._is_draining):
                break
            if not self._restarts.may_start(slot, has_ready):
                continue
            try:
                process = self._children.spawn(slot, self._settings.start_timeout)
                self._children.current[slot] = process
                if slot != ADMIN_SLOT and not has_ready:
                    self._first = process
            except OSError as error:
                self._handle_start_failure(slot, f"cannot fork: {error.strerror}", {})

    def _renew_worker(self) -> None:
        """Renew a worker that is beyond a limit, if there is nothing else to do."""
        if self._operation or self._is_stopping:
            return
        if found := self._limits.find(self._children.current.values(), self._settings):
            process, reason = found
            self._limits.started(process, self._now)
            self._operation = Renewal(self._children, self._settings, self._limits, process, reason)

    def _advance_operation(self) -> None:
        operation = self._operation
        if not operation:
            return
        try:
            is_complete = operation.advance()
        except OSError as error:
            self._end_operation(operation, operation.fail(f"cannot fork: {error.strerror}", {}))
            return
        if is_complete:
            self._end_operation(operation, operation.complete())

    def _cancel_operation(self, reason: str) -> None:
        if self._operation:
            self._operation.outcome = self._operation.cancel(reason)
            self._operation = None

    def _end_operation(self, operation: Replacement, outcome: Outcome) -> None:
        operation.outcome = outcome
        self._operation = None
        if isinstance(operation, Reload) and self._is_announced and not self._is_stopping:
            self._systemd.ready("reloaded" if outcome.success else "reload failed")

    def _finish_reload(self) -> list[str]:
        """Apply the settings to this process, and return what needs a restart."""
        warnings: list[str] = []
        try:
            warnings += self._reload_settings()
            warnings += self._check_runtime()
            if reasons := self._scoreboard.not_ready_reasons():
                warnings.append(f"the service is not ready: {', '.join(reasons)}")
        except Exception:  # nothing of this is worth stopping the new workers, which serve
            logger.exception("cannot compare settings and runtime with those of the start")
        return warnings

    def _reload_settings(self) -> list[str]:
        warnings = []
        if settings := self._read_settings():
            self._settings = settings
        else:
            warnings.append("the supervisor cannot read the settings, keeping the old ones")
        logging.getLogger().setLevel(self._settings.log_level.upper())
        for name in self._started_with.restart_required(self._settings):
            warnings.append(f"{name} has changed: restart required")
        self._limits.reset()
        return [*warnings, *limit_warnings(self._settings)]

    def _check_runtime(self) -> list[str]:
        changed = differences(self._runtime_files, checksums())
        if not changed:
            return []
        names = ", ".join(changed[:MAX_CHANGED_FILES]) + (
            ", ..." if len(changed) > MAX_CHANGED_FILES else ""
        )
        return [f"the runtime has changed on disk ({names}): restart required"]
