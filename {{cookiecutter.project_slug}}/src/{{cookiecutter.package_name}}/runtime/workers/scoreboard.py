"""One page of memory that all processes share: what every one of them is doing.

A process writes its own row and reads the others. Each cell is one aligned machine word, so nobody
sees half a number and no lock is needed.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator

from ..status import BEAT, State, Vitals

ADMIN = -1
"""The slot of the process that serves the admin port; those of the workers count from 0."""

# Seconds without a beat after which a worker is taken for one that does not answer.
SILENCE = 2.0

WORD = 8
PID, SLOT, STATE, LAST_BEAT, IN_FLIGHT, LAG, WIDTH = range(7)


class Row:
    """What one process is doing."""

    def __init__(self, cells: memoryview[int]) -> None:
        self._cells = cells

    def begin(self, slot: int) -> None:
        """Give the row to a process that is about to start."""
        self._cells[PID] = 0
        self._cells[SLOT] = slot
        self.beat(0, 0)
        self.report(State.STARTING)

    def end(self) -> None:
        self._cells[STATE] = 0

    def sign(self) -> None:
        """Note the process that has the row."""
        self._cells[PID] = os.getpid()

    def report(self, state: State) -> None:
        self._cells[STATE] = state.value

    def beat(self, in_flight: int, lag: float) -> None:
        self._cells[LAST_BEAT] = time.monotonic_ns()
        self._cells[IN_FLIGHT] = in_flight
        self._cells[LAG] = int(lag * 1e9)

    @property
    def taken(self) -> bool:
        return self._cells[STATE] != 0

    @property
    def pid(self) -> int:
        """The process; 0 if it has only just been forked."""
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
    def in_flight(self) -> int:
        """The requests in flight at the last beat."""
        return self._cells[IN_FLIGHT]

    @property
    def last_beat(self) -> float:
        """When the event loop last turned, on the clock of `time.monotonic`."""
        return self._cells[LAST_BEAT] / 1e9

    @property
    def lag(self) -> float:
        """Seconds by which the event loop is late, or was at most in the last while."""
        if not (self.ready or self.draining):
            return 0.0  # it may not turn yet
        return max(self._cells[LAG] / 1e9, time.monotonic() - self.last_beat - BEAT)

    @property
    def answers(self) -> bool:
        return self.ready and time.monotonic() - self.last_beat < SILENCE


class Scoreboard:
    """The rows, whether the service as a whole is stopping, and how often who has died."""

    def __init__(self, workers: int) -> None:
        # With the admin's process; beside each one may stand a successor and a predecessor.
        rows = 3 * (1 + workers)
        cells = memoryview(mmap.mmap(-1, (2 + workers + rows * WIDTH) * WORD)).cast("q")
        self._stopping, self._deaths = cells[:1], cells[1 : 2 + workers]  # ADMIN's is the last
        self._workers = workers
        starts = range(2 + workers, len(cells), WIDTH)
        self.rows = [Row(cells[start : start + WIDTH]) for start in starts]
        self._free = self.rows.copy()

    def __iter__(self) -> Iterator[Row]:
        """Go through the rows of the processes that there are."""
        return (row for row in self.rows if row.taken)

    def take(self, slot: int) -> Row:
        """Find a row for a process that is about to start. Only the supervisor does."""
        row = self._free.pop()
        row.begin(slot)
        return row

    def count_death(self, slot: int) -> None:
        """Note that a process died, was killed or could not start. Only the supervisor does."""
        self._deaths[slot] += 1

    def release(self, row: Row) -> None:
        """Take the row of a process that has ended. Only the supervisor does."""
        row.end()
        self._free.append(row)

    @property
    def stopping(self) -> bool:
        return bool(self._stopping[0])

    @stopping.setter
    def stopping(self, value: bool) -> None:
        self._stopping[0] = value

    def answers(self, slot: int) -> bool:
        """Tell whether a worker answers what comes to a slot."""
        return any(row.slot == slot and row.answers for row in self)

    def why_not_ready(self) -> list[str]:
        """Say why no traffic should come; nothing if it should."""
        workers = [row for row in self if row.slot != ADMIN]
        if self.stopping:
            return ["draining"]
        if any(row.answers for row in workers):
            return []
        return ["no worker answers" if any(row.ready for row in workers) else "starting"]

    def vitals(self) -> list[Vitals]:
        """Tell how each worker is."""
        return [self._vitals_of(slot) for slot in range(self._workers)]

    def _vitals_of(self, slot: int) -> Vitals:
        # During a reload there are two: that of those who come is its process.
        rows = sorted((row for row in self if row.slot == slot), key=lambda row: row.answers)
        return Vitals(
            worker=slot,
            pid=rows[-1].pid if rows else 0,
            ready=any(row.answers for row in rows),
            requests_in_flight=sum(row.in_flight for row in rows),
            event_loop_lag=max((row.lag for row in rows), default=0.0),
            restarts=self._deaths[slot],
        )
