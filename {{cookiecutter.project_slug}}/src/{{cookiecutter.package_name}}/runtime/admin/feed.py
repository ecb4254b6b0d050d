"""What browsers that show the live page are told: once a second, the same for all of them."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import takewhile
from typing import Any, NamedTuple

import orjson

from ..monitor.history import SECOND, SECONDS, Point, Second, clock
from ..monitor.monitor import Monitor
from ..monitor.statistics import errors, responses
from ..settings import Settings
from ..status import StatusSource, WorkerStatus

LATENESS = 0.005
"""Seconds after the beginning of a second at which it is recorded: a timer may be early."""

MAX_MESSAGES = 16
"""Messages that are kept for other browsers at the same position."""

logger = logging.getLogger(__name__)


class Position(NamedTuple):
    """How far a browser has read: the last second and the last event."""

    second: int = 0
    event: int = 0


START = Position()


class Feed:
    """Records the history, and makes messages of it. Construct it in the process that serves them.

    A message has everything after a position. So a browser that was away, or that reads slowly,
    gets in one message what it has missed, and nothing is kept for it meanwhile.
    """

    def __init__(self, status: StatusSource, monitor: Monitor) -> None:
        self._status = status
        self._monitor = monitor
        self._seconds: deque[Second] = deque()
        self._last = 0
        """The second that was recorded last."""
        self._state: dict[str, object] = {}
        """What a message has apart from history."""
        self._workers: Sequence[WorkerStatus] = ()
        self._messages: dict[Position, tuple[str, Position]] = {}
        """Those of this second, by the position that they continue."""
        self._recorded = asyncio.Event()

    @asynccontextmanager
    async def running(self, settings: Settings) -> AsyncIterator["Feed"]:
        """Record each second meanwhile. `settings` is not used; resources get it."""
        task = asyncio.create_task(self._run())
        try:
            yield self
        finally:
            task.cancel()

    async def next_second(self) -> None:
        """Wait until another second has been recorded."""
        await self._recorded.wait()

    def message(self, position: Position) -> tuple[str, Position]:
        """Return what is new since a position, as JSON, and the position after it."""
        if position not in self._messages:
            if len(self._messages) == MAX_MESSAGES:
                self._messages.clear()
            self._messages[position] = self._make_message(position)
        return self._messages[position]

    def id_of(self, position: Position) -> str:
        """Return a position as the id of an event."""
        return f"{self._monitor.token}-{position.second}-{position.event}"

    def position_of(self, identifier: str) -> Position:
        """Return the position of an id; `START` if it is not one of this run of the service."""
        token, *numbers = identifier.split("-")
        if token != self._monitor.token or len(numbers) != len(START):
            return START
        if not all(number.isascii() and number.isdigit() for number in numbers):
            return START
        second, event = (int(number[:18]) for number in numbers)
        return Position(min(second, self._last), min(event, self._monitor.events.last))

    def record(self) -> None:
        """Record this second."""
        history, last_event = self._monitor.history, self._monitor.events.last
        self._workers, cells = self._status.worker_statuses(), self._status.statistics()
        self._last = history.record(self._workers, cells, last_event)
        after = self._seconds[-1].number if self._seconds else 0
        self._seconds += history.seconds(after, self._last)
        while self._seconds and self._seconds[0].number <= self._last - SECONDS:
            self._seconds.popleft()
        self._state = {
            "service": self._monitor.info.name,
            "now": self._last,
            "requests": responses(cells),
            "errors": errors(cells),
            "reasons": self._status.not_ready_reasons(),
        }
        self._messages.clear()
        self._recorded.set()
        self._recorded = asyncio.Event()

    async def _run(self) -> None:
        while True:
            try:
                self.record()
            except Exception:  # a failure must not end the page
                logger.exception("cannot record the history")
            await asyncio.sleep(1 + LATENESS - clock() % SECOND / SECOND)

    def _make_message(self, position: Position) -> tuple[str, Position]:
        events = self._monitor.events.after(position.event)
        newest = reversed(self._seconds)
        seconds = [*takewhile(lambda second: second.number > position.second, newest)][::-1]
        message = {
            **self._state,
            "reset": position == START,
            "seconds": _columns(Second._fields, map(_rounded_second, seconds)),
            "workers": [self._worker(worker, position.second) for worker in self._workers],
            "events": [
                {"number": number, "event": orjson.Fragment(event)} for number, event in events
            ],
        }
        last_event = events[-1][0] if events else position.event
        return orjson.dumps(message).decode(), Position(self._last, last_event)

    def _worker(self, status: WorkerStatus, after: int) -> dict[str, object]:
        points = self._monitor.history.points(status.worker, after, self._last)
        return {
            "worker": status.worker,
            "pid": status.pid,
            "state": status.state,
            "age": round(status.age),
            "requests": status.requests,
            "requests_in_flight": status.requests_in_flight,
            "event_loop_lag": round(status.event_loop_lag, 4),
            "memory": status.memory,
            "restarts": status.restarts,
            "version": status.details.version,
            "revision": status.details.revision,
            "points": _columns(Point._fields, map(_rounded_point, points)),
        }


def _rounded_second(second: Second) -> Second:
    return second._replace(
        time=round(second.time, 1),
        elapsed=round(second.elapsed, 3),
        p50=_rounded_latency(second.p50),
        p99=_rounded_latency(second.p99),
    )


def _rounded_latency(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 5)


def _rounded_point(point: Point) -> Point:
    return point._replace(rate=round(point.rate, 1), event_loop_lag=round(point.event_loop_lag, 4))


def _columns(names: Sequence[str], rows: Iterable[Sequence[object]]) -> dict[str, Any]:
    """Return rows as columns: JSON without a name for each value."""
    columns: list[Any] = [*zip(*rows, strict=True)] or [()] * len(names)
    return dict(zip(names, columns, strict=True))
