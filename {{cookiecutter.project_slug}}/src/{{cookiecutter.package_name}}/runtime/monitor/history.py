"""The last fifteen minutes, second by second, in shared memory.

What is kept are counts since the start of the service. Everything else is computed from differences
when it is read, so two writers during a reload do no harm, and a second that was not recorded is
missing and changes no other.

Its size is fixed: 0.67 MiB, and 8.5 KiB for each worker, so 1.2 MiB for 64. Memory that is never
written costs nothing.
"""

import time
from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from ..status import WorkerStatus
from .shared import WORD_SIZE, allocate
from .statistics import CLASSES, SIZE, Cells, errors, quantile, responses

SECONDS = 15 * 60
"""Seconds that are kept."""
WINDOW = 5
"""Seconds over which latencies are taken: of a single second they say little."""
POINT_INTERVAL = 5
"""Seconds between two points of a worker."""

SECOND = 1_000_000_000
"""Nanoseconds."""
NANOSECOND = 1e-9
MICROSECOND = 1e-6
MILLISECOND = 1e-3

CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)
"""A clock that is never set, and that goes on while the machine is suspended."""


class Second(NamedTuple):
    """What happened since the second before that was recorded."""

    number: int
    """Seconds since the machine was started. Numbers that are missing were not recorded."""
    time: float
    """The time of day, in seconds since 1970. Clocks are set: use it to show, not to compute."""
    elapsed: float
    """Seconds that `requests` and `errors` are the count of: about 1, more after a gap."""
    requests: int
    """Responses."""
    errors: int
    """Responses with a status of 500 or above."""
    p50: float | None
    """Seconds within which half of the responses ended, of the last `WINDOW` seconds."""
    p99: float | None
    requests_in_flight: int
    last_event: int
    """The number of the last event; see `EventLog`."""


class Point(NamedTuple):
    """A worker at a moment."""

    number: int
    """The second, as in `Second`."""
    rate: float
    """Responses a second, since the point before."""
    requests_in_flight: int
    event_loop_lag: float
    """Seconds."""
    memory: int
    """Bytes."""


class Ring:
    """Rows of numbers, each with a key from 1 on; a new key takes the place of the oldest one.

    A row is written once: what a second process writes under the same key is ignored.
    """

    def __init__(self, length: int, width: int) -> None:
        self._width = 1 + width
        self._length = length
        self._cells = allocate(length * self._width * WORD_SIZE).cast("q")

    def write(self, key: int, values: Sequence[int]) -> None:
        row = self._row(key)
        if row[0] != key:
            row[0] = 0  # no row, if this process is killed now
            row[1:] = memoryview(array("q", values))
            row[0] = key

    def read(self, key: int) -> list[int] | None:
        """Return the row of a key; None if there is none."""
        row = self._row(key)
        before, *values = row.tolist()
        return values if before == key == row[0] else None

    def _row(self, key: int) -> "memoryview[int]":
        start = key % self._length * self._width
        return self._cells[start : start + self._width]


class _Sample(NamedTuple):
    number: int
    now: int
    """Nanoseconds of `clock`."""
    time: int
    """Milliseconds since 1970."""
    in_flight: int
    last_event: int
    cells: Cells


class History:
    """The last fifteen minutes. Create it before the first fork; `slots` is the most workers."""

    def __init__(self, slots: int) -> None:
        self._seconds = Ring(SECONDS + WINDOW + 1, width=4 + SIZE)
        points = SECONDS // POINT_INTERVAL + 1
        self._workers = [Ring(points, width=5) for _ in range(slots)]

    def record(self, workers: Sequence[WorkerStatus], cells: Cells, last_event: int) -> int:
        """Record this second, and return its number. Call it about once a second.

        `cells` is what `StatusSource.statistics` returns.
        """
        now, time_of_day = clock(), time.time_ns() // 1_000_000
        number = now // SECOND
        in_flight = sum(worker.requests_in_flight for worker in workers)
        self._seconds.write(number, (now, time_of_day, in_flight, last_event, *cells))
        for worker in workers:
            if worker.pid:
                lag = round(worker.event_loop_lag / MICROSECOND)
                values = (now, worker.requests, worker.requests_in_flight, lag, worker.memory)
                self._workers[worker.worker].write(number // POINT_INTERVAL, values)
        return number

    def seconds(self, after: int, last: int) -> list[Second]:
        """Return what was recorded after the second `after`, up to `last`, the oldest first.

        Not more than `SECONDS` of it.
        """
        first = max(after + 1, last - SECONDS + 1)
        samples = [*self._samples(first - WINDOW, last)]
        return [
            _second(before, sample, _window_start(samples, index + 1))
            for index, (before, sample) in enumerate(pairwise(samples))
            if sample.number >= first
        ]

    def points(self, slot: int, after: int, last: int) -> list[Point]:
        """Return the points of a worker, as `seconds` does."""
        first = max(after, last - SECONDS) // POINT_INTERVAL + 1
        points = []
        before: tuple[int, list[int]] | None = None
        for key in range(first - 1, last // POINT_INTERVAL + 1):
            values = self._workers[slot].read(key)
            if values and before and key >= first:
                points.append(_point(key, before[1], values))
            before = (key, values) if values else before
        return points

    def _samples(self, first: int, last: int) -> Iterator[_Sample]:
        for number in range(max(first, 1), last + 1):
            if values := self._seconds.read(number):
                now, time_of_day, in_flight, last_event, *cells = values
                yield _Sample(number, now, time_of_day, in_flight, last_event, cells)


def _second(before: _Sample, sample: _Sample, window_start: _Sample) -> Second:
    counts = _difference(before.cells[:CLASSES], sample.cells[:CLASSES])
    window = _difference(window_start.cells, sample.cells)
    return Second(
        sample.number,
        sample.time * MILLISECOND,
        (sample.now - before.now) * NANOSECOND,
        responses(counts),
        errors(counts),
        quantile(window, 0.5),
        quantile(window, 0.99),
        sample.in_flight,
        sample.last_event,
    )


def _window_start(samples: Sequence[_Sample], index: int) -> _Sample:
    """Return the sample from which the window of another one counts."""
    earliest = samples[index].number - WINDOW
    start = index - 1
    while start and samples[start - 1].number >= earliest:
        start -= 1
    return samples[start]


def _point(key: int, before: Sequence[int], values: Sequence[int]) -> Point:
    now, requests, in_flight, lag, memory = values
    # The requests of another process begin at 0.
    count = requests - before[1] if requests >= before[1] else requests
    rate = count / ((now - before[0]) * NANOSECOND)
    return Point(key * POINT_INTERVAL, rate, in_flight, lag * MICROSECOND, memory)


def _difference(before: Cells, after: Cells) -> list[int]:
    # Two writers may record a second each, one of them with counts that are a little older.
    return [max(new - old, 0) for old, new in zip(before, after, strict=True)]


def clock() -> int:
    """Return the nanoseconds since the machine was started."""
    return time.monotonic_ns() if CLOCK is None else time.clock_gettime_ns(CLOCK)
