"""Events: what an operator wants to know at once, such as a reload or the death of a worker.

An event is a log record with the field ``event.name``, one of the names below. So the log and the
live page say the same, down to APP_LOG_LEVEL. ::

    logger.error("reload failed", extra={EVENT: RELOAD_FAILED})
"""

import json
import logging
import socket
from collections.abc import Callable
from contextlib import suppress

from .shared import HEADER_SIZE, WORD_SIZE, SharedText, allocate

EVENT = "event.name"
"""The field of a log record. The name is OpenTelemetry's."""

# The names of events.
SERVICE_STARTED = "service.started"
SERVICE_STOPPING = "service.stopping"
RELOAD_STARTED = "reload.started"
RELOADED = "reload.finished"
RELOAD_FAILED = "reload.failed"
WORKER_DIED = "worker.died"
WORKER_BLOCKED = "worker.blocked"
WORKER_NOT_STARTED = "worker.not_started"
WORKER_RENEWING = "worker.renewing"
WORKER_NOT_RENEWED = "worker.not_renewed"
WORKERS_CHANGED = "workers.changed"
WORKERS_NOT_CHANGED = "workers.not_changed"
CHECK_FAILED = "check.failed"
CHECK_RECOVERED = "check.recovered"
RECORDS_DROPPED = "log.dropped"
REQUESTS_ABORTED = "requests.aborted"

MAX_EVENTS = 128
"""Events that are kept."""
MAX_EVENT_SIZE = 8 * 1024 - HEADER_SIZE - WORD_SIZE
"""Bytes of an event."""
BUFFER_SIZE = 256 * 1024
"""Bytes of events that wait for the supervisor."""
MAX_STACK_LENGTH = 4000
"""Characters of a stack in an event."""
MAX_MESSAGE_LENGTH = 1000
"""Characters of its message."""

STACKS = ("code.stacktrace", "exception.stacktrace")
"""Fields of a record that an event has, too."""

_RUNTIME = logging.getLogger(__name__.rpartition(".monitor")[0])

Sink = Callable[[bytes], None]
"""Takes an event as JSON. It must not block."""


class EventLog:
    """The last events, in shared memory. One process appends, others read."""

    def __init__(self) -> None:
        size = HEADER_SIZE + WORD_SIZE + MAX_EVENT_SIZE
        memory = allocate(WORD_SIZE + MAX_EVENTS * size)
        self._count = memory[:WORD_SIZE].cast("q")
        starts = range(WORD_SIZE, len(memory), size)
        self._events = [SharedText(memory[start : start + size]) for start in starts]

    def append(self, event: bytes) -> None:
        """Add an event, in the place of the oldest one."""
        number = self._count[0] + 1
        self._events[number % MAX_EVENTS].write(number.to_bytes(WORD_SIZE) + event)
        self._count[0] = number

    @property
    def last(self) -> int:
        """The number of the last event; 0 before the first one."""
        return self._count[0]

    def after(self, number: int) -> list[tuple[int, bytes]]:
        """Return the events after `number`, the oldest first, with their numbers from 1 on."""
        last = self.last
        events = []
        for wanted in range(max(number, last - MAX_EVENTS) + 1, last + 1):
            text = self._events[wanted % MAX_EVENTS].read()
            # Another one if the log has been written to meanwhile.
            if int.from_bytes(text[:WORD_SIZE]) == wanted:
                events.append((wanted, text[WORD_SIZE:]))
        return events


class EventHandler(logging.Handler):
    """Hands the events among the records of the runtime to a sink.

    `worker` is the number of the worker whose records these are; None in the supervisor and in the
    admin process.
    """

    def __init__(self, sink: Sink, worker: int | None = None) -> None:
        super().__init__()
        self._sink = sink
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        if name := record.__dict__.get(EVENT):
            try:
                self._sink(_encode(name, record, self._worker))
            except Exception:
                self.handleError(record)


def forward_events(sink: Sink, worker: int | None = None) -> None:
    """Hand the events of this process to `sink`, instead of where its parent's go."""
    for handler in _event_handlers():
        _RUNTIME.removeHandler(handler)
    _RUNTIME.addHandler(EventHandler(sink, worker))


def announce(record: logging.LogRecord) -> None:
    """Hand over the event of a record that does not pass through `logging`. Thread-safe."""
    for handler in _event_handlers():
        handler.handle(record)


class EventChannel:
    """Takes events from the workers to the supervisor. Created before the first fork.

    Without a thread and without waiting: what the supervisor does not take in time is dropped.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        # On macOS an event with a stack would not fit into the buffers that there are by default.
        self._writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_SIZE)
        self._reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_SIZE)
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def send(self, event: bytes) -> None:
        """Send an event. For a worker."""
        with suppress(OSError):  # full, or the supervisor has exited
            self._writer.send(event)

    def receive(self) -> list[bytes]:
        """Return the events that have arrived, without what is none. For the supervisor."""
        received = []
        with suppress(BlockingIOError):
            while True:
                received.append(self._reader.recv(MAX_EVENT_SIZE + 1))
        return [data for data in received if _is_event(data)]


def _is_event(data: bytes) -> bool:
    with suppress(ValueError, RecursionError):
        return len(data) <= MAX_EVENT_SIZE and isinstance(json.loads(data), dict)
    return False


def _event_handlers() -> list[EventHandler]:
    return [handler for handler in _RUNTIME.handlers if isinstance(handler, EventHandler)]


def _encode(name: str, record: logging.LogRecord, worker: int | None) -> bytes:
    fields = record.__dict__
    stacks = [str(fields[field])[-MAX_STACK_LENGTH:] for field in STACKS if fields.get(field)]
    event: dict[str, object] = {
        "time": round(record.created, 3),
        "name": name,
        "level": record.levelname.lower(),
        "message": record.getMessage()[:MAX_MESSAGE_LENGTH],
        "worker": fields.get("worker", worker),
        "stack": stacks[0] if stacks else None,
    }
    text = _to_json(event)
    if len(text) > MAX_EVENT_SIZE:  # of characters that are several bytes
        text = _to_json(event | {"stack": None})
    return text


def _to_json(event: dict[str, object]) -> bytes:
    # Without escapes, which are up to twelve bytes. A lone surrogate cannot be encoded.
    return json.dumps(event, ensure_ascii=False).encode(errors="replace")
