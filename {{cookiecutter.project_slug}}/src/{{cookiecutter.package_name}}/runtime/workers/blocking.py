"""What a blocked event loop is running: the worker tells it, the supervisor reads it.

Nothing is recorded for it while requests are served. The supervisor asks in two ways, because each
reaches what the other does not, and both reach Python code:

- SIGUSR1. Its handler runs in the thread that is blocked, if a system call is interrupted or native
  code looks for signals, such as that of `re`.
- A byte. A thread answers while a call has released the GIL, as those of database drivers do.

Native code that does neither cannot be asked; only its stack is known, which `faulthandler` writes.
"""

import asyncio
import faulthandler
import gc
import json
import re
import signal
import socket
import sys
from asyncio import AbstractEventLoop, Task
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Context
from typing import Any

from ..http import tasks
from ..http1.connections import Connections
from ..logs.context import request_id

QUESTION = b"?"
"""What the supervisor sends."""
ANSWER = re.compile("\x1e(.*)\n")
"""An answer among what a process has written, maybe in the middle of its stack."""

WORK = "work"
"""The field with what is running, in words, such as ``GET /orders/{number}``."""
FIELDS = (WORK, "http.request.method", "http.route", "request_id")
"""What an answer may have. Neither the path nor the query: they may be confidential."""
MAX_FIELD_LENGTH = 200
"""Characters."""


class WorkTeller:
    """Tells the supervisor, whenever it asks, what the event loop of this process is running."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._loop: AbstractEventLoop | None = None
        self._connections = Connections()
        signal.signal(signal.SIGUSR1, lambda *_: self._tell())
        # First the stack, whatever the process does.
        faulthandler.register(signal.SIGUSR1, channel, all_threads=False, chain=True)

    def watch(self, loop: AbstractEventLoop, connections: Connections) -> None:
        """Tell what this loop is running from now on. Before that, it is nothing."""
        self._loop, self._connections = loop, connections

    def answer_until_eof(self) -> None:
        """Answer in this thread, until the supervisor has exited."""
        with suppress(OSError):  # a reset: it has not read everything
            while self._channel.recv(1):
                self._tell()

    def _tell(self) -> None:
        fields: Mapping[str, str] = {}
        with suppress(Exception):  # it is read in the middle of whatever goes on
            fields = current_work(self._loop, self._connections) if self._loop else {}
        shortened = {name: value[:MAX_FIELD_LENGTH] for name, value in fields.items()}
        answer = f"\x1e{json.dumps(shortened)}\n".encode()
        with suppress(OSError):
            self._channel.send(answer, socket.MSG_DONTWAIT)


def current_work(loop: AbstractEventLoop, connections: Connections) -> dict[str, str]:
    """Return what an event loop is running, from any thread: some of `FIELDS`.

    Nothing if it waits, or runs a callback that belongs to no task.
    """
    work: object = tasks.owner
    identifier = None
    if task := asyncio.current_task(loop):
        identifier = _context(task).get(request_id)
        # A task that a handler, or Tornado for a handler, has started has only the id of the
        # request.
        work = connections.tasks.get(task) or _find(identifier, connections)
    fields = {}
    if work:
        fields[WORK] = f"task {work}" if isinstance(work, str) else str(work)
    if request := getattr(work, "request", None):
        identifier = request.id
        fields["http.request.method"] = request.method
        fields["http.route"] = request.route
    if identifier:
        fields["request_id"] = identifier
    return fields


def _find(identifier: str | None, connections: Connections) -> object:
    """Return what works for the request with this id."""
    # Copied at once: the event loop may go on meanwhile.
    for work in (
        *tuple(connections.websockets),
        *tuple(connections.in_flight.values()),
        *tuple(connections.tasks.values()),
    ):
        request = getattr(work, "request", None)
        if request and request.id == identifier:
            return work
    return None


def _context(task: Task[Any]) -> Context:
    if sys.version_info >= (3, 12):
        return task.get_context()
    # Python 3.11 has no function for it.
    return next(value for value in gc.get_referents(task) if isinstance(value, Context))


def split_answer(report: str) -> tuple[str, dict[str, str] | None]:
    """Split what a process has written into its stack and its last answer; None without one."""
    answers = ANSWER.findall(report)
    stack = ANSWER.sub("", report)
    return stack, _decode(answers[-1]) if answers else None


def _decode(answer: str) -> dict[str, str]:
    # A process that is about to crash may write garbage; that must not crash the supervisor.
    with suppress(ValueError, RecursionError, AttributeError):
        fields = json.loads(answer)
        return {name: str(fields[name])[:MAX_FIELD_LENGTH] for name in FIELDS if fields.get(name)}
    return {}
