"""The child processes of the supervisor, as a table."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ..status import ADMIN_SLOT
from .child import ChildProcess, Target, fork, reap
from .scoreboard import Scoreboard
from .signals import SignalQueue

LEFTOVER_GRACE = 0.5
"""Seconds for what a process has left behind to exit after SIGTERM.

The resource tracker of `multiprocessing` ignores that signal, and frees shared memory meanwhile.
"""


MAX_LATENESS = 10.0
"""Seconds after which a process group is left alone: this process was suspended meanwhile, and the
number may be that of another group."""


@dataclass(frozen=True)
class Exit:
    """The end of a child process."""

    process: ChildProcess
    code: int
    """Exit code; negative: the number of the signal that killed it."""
    reason: str
    fields: dict[str, str]
    """Extra fields for the log: a stack or an exception."""

    def __str__(self) -> str:
        return f"{self.process}: {self.reason}"


class Children:
    """Starts and reaps child processes. Each slot has at most one current process.

    Others may run beside it: a replacement that is not ready yet, or a predecessor that drains.
    """

    def __init__(self, scoreboard: Scoreboard, target: Target, signals: SignalQueue) -> None:
        self.slots: tuple[int, ...] = ()
        """The slots that have a process, or are about to."""
        self.current: dict[int, ChildProcess] = {}
        self._scoreboard = scoreboard
        self._target = target
        self._signals = signals
        self._processes: dict[int, ChildProcess] = {}  # by pid
        # When to kill what processes have started that have exited.
        self._leftovers: dict[ChildProcess, float] = {}
        self.set_workers(scoreboard.workers)

    def __iter__(self) -> Iterator[ChildProcess]:
        return iter(tuple(self._processes.values()))

    def __len__(self) -> int:
        return len(self._processes)

    @property
    def workers(self) -> list[ChildProcess]:
        """All processes but the one of the admin port."""
        return [process for process in self if process.slot != ADMIN_SLOT]

    @property
    def surplus(self) -> list[ChildProcess]:
        """The processes of other slots than `slots`."""
        return [process for process in self if process.slot not in self.slots]

    @property
    def is_complete(self) -> bool:
        """Whether each slot has a process that is ready."""
        ready = [process for process in self.current.values() if process.ready_since]
        return len(ready) == len(self.slots)

    @property
    def has_ready_worker(self) -> bool:
        """Whether a worker serves, also one that drains or that nothing will follow."""
        return any(process.ready_since for process in self.workers)

    def would_serve(self, count: int) -> bool:
        """Return whether one of the first `count` workers is ready, and does not drain."""
        first = [self.current[slot] for slot in range(count) if slot in self.current]
        return any(process.ready_since and not process.exiting for process in first)

    @property
    def has_leftovers(self) -> bool:
        """Whether something may still run that a process has started which has exited."""
        return bool(self._leftovers)

    def set_workers(self, count: int) -> None:
        """Have so many slots for workers. The processes of others are not replaced any more."""
        again = {process.slot: process for process in self.surplus if not process.exiting}
        self.slots = (ADMIN_SLOT, *range(count))
        known = again | self.current
        self.current = {slot: known[slot] for slot in self.slots if slot in known}

    def spawn(self, slot: int, start_timeout: float) -> ChildProcess:
        """Fork a process that must be ready within `start_timeout` seconds. Raises `OSError`."""
        row = self._scoreboard.claim(slot)
        try:
            process = fork(slot, row, self._target, self._signals, self)
        except OSError:
            self._scoreboard.release(row)
            raise
        process.deadline = time.monotonic() + start_timeout
        self._processes[process.pid] = process
        return process

    def reap(self) -> Iterator[Exit]:
        """Yield the children that have exited since the last call, and end what they have left."""
        self._end_leftovers()
        for pid, code in reap():
            if process := self._processes.pop(pid, None):
                if process.row.has_been_ready and not process.ready_since:
                    # It was ready, and exited before the supervisor saw it.
                    process.ready_since = time.monotonic()
                if process.send_to_group(signal.SIGTERM):
                    self._leftovers[process] = time.monotonic() + LEFTOVER_GRACE
                reason, fields = process.exit_report(code)
                self._scoreboard.release(process.row)
                if self.current.get(process.slot) is process:
                    del self.current[process.slot]
                yield Exit(process, code, reason, fields)

    def _end_leftovers(self) -> None:
        for process, deadline in tuple(self._leftovers.items()):
            late = time.monotonic() - deadline
            signum = signal.SIGKILL if late > 0 else 0
            if late > MAX_LATENESS or not process.send_to_group(signum) or late > 0:
                del self._leftovers[process]
