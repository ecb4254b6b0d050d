"""Shared memory with the state of every process.

A process writes only its own row, and the supervisor claims and clears rows. Cells are aligned
words, so reads are never torn and need no lock.
"""

import os
import time
from collections.abc import Iterator, Sequence

from ..monitor import statistics
from ..monitor.shared import WORD_SIZE, SharedText, allocate
from ..process.readiness import WorkerChecks, resource_reasons, resource_statuses
from ..status import (
    ADMIN_SLOT,
    HEARTBEAT_INTERVAL,
    ProcessDetails,
    ResourceStatus,
    State,
    Vitals,
    WorkerStatus,
)
from .details import decode, encode

HEARTBEAT_TIMEOUT = 2.0
"""Seconds without a heartbeat until a worker counts as unresponsive."""
SPARE_ROWS = 3
"""Rows beside those of the current processes: processes are replaced one by one."""

# The cells of a row. Those of the statistics come last.
(
    PID,
    SLOT,
    STATE,
    STARTED,
    LAST_HEARTBEAT,
    IN_FLIGHT,
    LAG,
    WEBSOCKETS,
    EVENT_STREAMS,
    MEMORY,
    RESPONSES_BEFORE,
    STATISTICS,
) = range(12)
WIDTH = STATISTICS + statistics.SIZE
DETAILS_SIZE = 16 * 1024
"""Bytes that the details of a process may take."""
FREE = 0
"""The state of a row without a process; every `State` has a value above."""


class Row:
    """The state of one process.

    `statistics` are the cells of its `RequestStatistics`: what all processes in this row counted.
    """

    def __init__(self, cells: "memoryview[int]", details: SharedText) -> None:
        self._cells = cells
        self._details = details
        self._last_read = b""
        self.statistics = cells[STATISTICS:]

    def claim(self, slot: int) -> None:
        """Give the row to a process that is about to start."""
        self._cells[PID] = 0
        self._cells[SLOT] = slot
        self._cells[STARTED] = time.monotonic_ns()
        self._cells[RESPONSES_BEFORE] = statistics.responses(self.statistics)
        self.set_details(ProcessDetails())
        self.heartbeat(Vitals())
        self.set_state(State.STARTING)

    def clear(self) -> None:
        """Mark the row as free."""
        self._cells[STATE] = FREE

    def set_pid(self) -> None:
        """Record that this process has the row."""
        self._cells[PID] = os.getpid()

    def set_state(self, state: State) -> None:
        self._cells[STATE] = state.value

    def set_details(self, details: ProcessDetails) -> None:
        """Record what the process says about itself. What does not fit is cut."""
        self._details.write(encode(details, self._details.capacity))

    def heartbeat(self, vitals: Vitals) -> None:
        """Record that the event loop runs."""
        self._cells[LAST_HEARTBEAT] = time.monotonic_ns()
        self._cells[IN_FLIGHT] = vitals.requests_in_flight
        self._cells[LAG] = int(vitals.event_loop_lag * 1e9)
        self._cells[WEBSOCKETS] = vitals.websockets
        self._cells[EVENT_STREAMS] = vitals.event_streams
        self._cells[MEMORY] = vitals.memory

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
    def websockets(self) -> int:
        """Open WebSockets at the last heartbeat."""
        return self._cells[WEBSOCKETS]

    @property
    def event_streams(self) -> int:
        """Open streams of server-sent events at the last heartbeat."""
        return self._cells[EVENT_STREAMS]

    @property
    def memory(self) -> int:
        """Resident memory at the last heartbeat, in bytes; 0 if the system does not tell."""
        return self._cells[MEMORY]

    @property
    def requests(self) -> int:
        """Responses of this process."""
        return statistics.responses(self.statistics) - self._cells[RESPONSES_BEFORE]

    @property
    def age(self) -> float:
        """Seconds since the process was started."""
        return time.monotonic() - self._cells[STARTED] / 1e9

    @property
    def details(self) -> ProcessDetails:
        """What the process says about itself."""
        # While it is being written, what was there before counts.
        self._last_read = self._details.read() or self._last_read
        return decode(self._last_read)

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

    @property
    def state(self) -> str:
        """The state in words."""
        cell = self._cells[STATE]
        if cell == FREE:  # the process has exited meanwhile
            return "missing"
        is_blocked = cell == State.READY.value and not self.responsive
        return "blocked" if is_blocked else State(cell).name.lower()


class Scoreboard:
    """All rows, the number of workers, the stopping flag, and the restart counts.

    Only the supervisor calls `claim`, `release` and `count_restart`, and sets `workers` and
    `stopping`. There can be `capacity` workers; by default as many as there are at the start.
    """

    def __init__(self, workers: int, capacity: int | None = None) -> None:
        self.capacity = capacity or workers
        rows = 1 + self.capacity + SPARE_ROWS
        cells = allocate((3 + self.capacity + rows * WIDTH) * WORD_SIZE).cast("q")
        details = allocate(rows * DETAILS_SIZE)
        self._stopping, self._workers, rest = cells[:1], cells[1:2], cells[2:]
        # By slot; index -1 is that of the admin process.
        self._restarts, rest = rest[: 1 + self.capacity], rest[1 + self.capacity :]
        self.workers = workers
        self.rows = [
            Row(
                rest[row * WIDTH :][:WIDTH],
                SharedText(details[row * DETAILS_SIZE :][:DETAILS_SIZE]),
            )
            for row in range(rows)
        ]
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

    @property
    def workers(self) -> int:
        """The number of workers: the slots from 0 to below it have one, or are about to."""
        return self._workers[0]

    @workers.setter
    def workers(self, count: int) -> None:
        self._workers[0] = count

    @property
    def responsive_slots(self) -> set[int]:
        """The slots whose connections a worker accepts."""
        return {row.slot for row in self if row.responsive}

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
            return resource_reasons(self._checks())
        return ["no worker responds" if any(row.ready for row in workers) else "starting"]

    def worker_statuses(self) -> list[WorkerStatus]:
        """Return the status of each worker, also of those that end because they are too many."""
        rows: dict[int, list[Row]] = {slot: [] for slot in range(self.workers)}
        for row in self:
            rows.setdefault(row.slot, []).append(row)
        rows.pop(ADMIN_SLOT, None)
        return [self._status(slot, rows[slot]) for slot in sorted(rows)]

    def resource_statuses(self) -> list[ResourceStatus]:
        """Return the status of each resource that has a check."""
        return resource_statuses(self._checks())

    def statistics(self) -> Sequence[int]:
        """Return what the workers have counted since the start, also those that have exited."""
        workers = [row.statistics for row in self.rows]
        return [sum(cells) for cells in zip(*workers, strict=True)]

    def _checks(self) -> WorkerChecks:
        # Of each process, not of each slot: during a reload a slot may have two.
        workers = [row for row in self if row.slot != ADMIN_SLOT and row.responsive]
        return [(row.slot, row.details.checks) for row in workers]

    def _status(self, slot: int, rows: Sequence[Row]) -> WorkerStatus:
        # During a reload a slot has two rows; the responsive one determines the pid.
        current = sorted(rows, key=lambda row: row.responsive)[-1] if rows else None
        return WorkerStatus(
            worker=slot,
            pid=current.pid if current else 0,
            ready=any(row.responsive for row in rows),
            requests_in_flight=sum(row.in_flight for row in rows),
            event_loop_lag=max((row.lag for row in rows), default=0.0),
            restarts=self._restarts[slot],
            state=current.state if current else "missing",
            age=current.age if current else 0.0,
            requests=current.requests if current else 0,
            memory=current.memory if current else 0,
            websockets=sum(row.websockets for row in rows),
            event_streams=sum(row.event_streams for row in rows),
            details=current.details if current else ProcessDetails(),
        )
