"""Shared memory with the state of every process.

A process writes only its own row, and the supervisor claims and clears rows. Cells are aligned
words, so reads are never torn and need no lock.
"""

import mmap
import os
import time
from collections.abc import Iterator

from ..status import ADMIN_SLOT, HEARTBEAT_INTERVAL, State, WorkerStatus

HEARTBEAT_TIMEOUT = 2.0
"""Seconds without a heartbeat until a worker counts as unresponsive."""

WORD_SIZE = 8
"""Bytes of a cell."""
# The cells of a row.
PID, SLOT, STATE, LAST_HEARTBEAT, IN_FLIGHT, LAG, WIDTH = range(7)
FREE = 0
"""The state of a row without a process; every `State` has a value above."""


class Row:
    """The state of one process."""

    def __init__(self, cells: "memoryview[int]") -> None:
        self._cells = cells

    def claim(self, slot: int) -> None:
        """Give the row to a process that is about to start."""
        self._cells[PID] = 0
        self._cells[SLOT] = slot
        self.heartbeat(0, 0)
        self.set_state(State.STARTING)

    def clear(self) -> None:
        """Mark the row as free."""
        self._cells[STATE] = FREE

    def set_pid(self) -> None:
        """Record that this process has the row."""
        self._cells[PID] = os.getpid()

    def set_state(self, state: State) -> None:
        self._cells[STATE] = state.value

    def heartbeat(self, requests_in_flight: int, lag: float) -> None:
        """Record that the event loop runs; `lag` is in seconds."""
        self._cells[LAST_HEARTBEAT] = time.monotonic_ns()
        self._cells[IN_FLIGHT] = requests_in_flight
        self._cells[LAG] = int(lag * 1e9)

    @property
    def in_use(self) -> bool:
        return self._cells[STATE] != FREE

    @property
    def pid(self) -> int:
        """Process id; 0 if it has only just been forked."""
        return self._cells[PID]

    @property
    def slot(self) -> int:
        return self._cells[SLOT]

    @property
    def ready(self) -> bool:
        return self._cells[STATE] == State.READY.value

    @property
    def draining(self) -> bool:
        return self._cells[STATE] == State.DRAINING.value

    @property
    def has_been_ready(self) -> bool:
        return self.ready or self.draining

    @property
    def in_flight(self) -> int:
        """Requests in flight at the last heartbeat."""
        return self._cells[IN_FLIGHT]

    @property
    def last_heartbeat(self) -> float:
        """When the event loop last ran, on the clock of `time.monotonic`."""
        return self._cells[LAST_HEARTBEAT] / 1e9

    @property
    def lag(self) -> float:
        """Event loop lag in seconds: a recent maximum, or the current silence if that is longer."""
        if not self.has_been_ready:
            return 0.0  # the loop is not running yet
        silence = time.monotonic() - self.last_heartbeat - HEARTBEAT_INTERVAL
        return max(self._cells[LAG] / 1e9, silence)

    @property
    def responsive(self) -> bool:
        """Whether the process is ready and its event loop runs."""
        return self.ready and time.monotonic() - self.last_heartbeat < HEARTBEAT_TIMEOUT


class Scoreboard:
    """All rows, the stopping flag, and the restart counts.

    Only the supervisor calls `claim`, `release` and `count_restart`, and sets `stopping`.
    """

    def __init__(self, workers: int) -> None:
        # Per slot (and the admin process): current, replacement and draining process.
        rows = 3 * (1 + workers)
        cells = memoryview(mmap.mmap(-1, (2 + workers + rows * WIDTH) * WORD_SIZE)).cast("q")
        self._stopping = cells[:1]
        self._restarts = cells[1 : 2 + workers]  # by slot; index -1 is that of the admin process
        self._workers = workers
        starts = range(2 + workers, len(cells), WIDTH)
        self.rows = [Row(cells[start : start + WIDTH]) for start in starts]
        self._free = self.rows.copy()

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows of the running processes."""
        return (row for row in self.rows if row.in_use)

    def claim(self, slot: int) -> Row:
        """Return a row for a process that is about to start."""
        row = self._free.pop()
        row.claim(slot)
        return row

    def release(self, row: Row) -> None:
        """Take back the row of a process that has exited."""
        row.clear()
        self._free.append(row)

    def count_restart(self, slot: int) -> None:
        """Count a crash, a kill or a failed start."""
        self._restarts[slot] += 1

    @property
    def stopping(self) -> bool:
        """Whether the service as a whole is stopping."""
        return bool(self._stopping[0])

    @stopping.setter
    def stopping(self, value: bool) -> None:
        self._stopping[0] = value

    def has_responsive_worker(self, slot: int) -> bool:
        """Return whether a worker accepts the connections of a slot."""
        return any(row.slot == slot and row.responsive for row in self)

    def is_starting(self, slot: int) -> bool:
        """Return whether a slot waits for its worker, and none of its workers has failed."""
        was_ready = any(row.slot == slot and row.has_been_ready for row in self)
        return not was_ready and self._restarts[slot] == 0

    def not_ready_reasons(self) -> list[str]:
        """Return why the service is not ready; empty if it is."""
        workers = [row for row in self if row.slot != ADMIN_SLOT]
        if self.stopping:
            return ["draining"]
        if any(row.responsive for row in workers):
            return []
        return ["no worker responds" if any(row.ready for row in workers) else "starting"]

    def worker_statuses(self) -> list[WorkerStatus]:
        """Return the status of each worker."""
        return [self._status(slot) for slot in range(self._workers)]

    def _status(self, slot: int) -> WorkerStatus:
        # During a reload a slot has two rows; the responsive one determines the pid.
        rows = sorted((row for row in self if row.slot == slot), key=lambda row: row.responsive)
        return WorkerStatus(
            worker=slot,
            pid=rows[-1].pid if rows else 0,
            ready=any(row.responsive for row in rows),
            requests_in_flight=sum(row.in_flight for row in rows),
            event_loop_lag=max((row.lag for row in rows), default=0.0),
            restarts=self._restarts[slot],
        )
