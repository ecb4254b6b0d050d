"""The tasks in which handlers run, and those that a service starts itself.

A task that is for a request, or for the service, counts as work: a drain waits for it.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any, Protocol, TypeVar, cast

from tornado.gen import convert_yielded

from ..http1.connections import Tasks

T = TypeVar("T")

_tasks: Tasks = {}
"""The tasks that are not for a request."""

logger = logging.getLogger(__name__)


class Owner(Protocol):
    """What tasks are started for."""

    tasks: Tasks
    """Where they are recorded."""


owner: Owner | None = None
"""What the tasks that Tornado starts at the moment are for. Set while a handler is started."""


def simplify_tasks() -> None:
    """Let Tornado start coroutines, such as the handlers', as plain tasks of asyncio.

    Through the public function that Tornado extends for other types. Its own way of it takes four
    more calls and a callback for each request, to do the same.
    """
    # It is a `functools.singledispatch`, which its annotation does not say.
    cast(Any, convert_yielded).register(CoroutineType, start_task)


def start_task(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start a coroutine in the event loop, as soon as it runs."""
    # Not `get_running_loop`: Tornado may start a coroutine before its loop runs.
    task = asyncio.get_event_loop().create_task(coroutine)
    tasks = _tasks if owner is None else owner.tasks
    tasks[task] = owner
    task.add_done_callback(tasks.pop)
    return task


def start_background_task(
    coroutine: Coroutine[Any, Any, T], tasks: Tasks, failed: Callable[[BaseException], None]
) -> asyncio.Task[T]:
    """Start a task of the service. If it fails, that is logged, and `failed` gets the error."""
    name = getattr(coroutine, "__qualname__", "task").replace(".<locals>", "")
    task = asyncio.get_running_loop().create_task(coroutine)
    tasks[task] = name

    def ended(task: asyncio.Task[T]) -> None:
        del tasks[task]
        if not task.cancelled() and (error := task.exception()):
            logger.error("task %s failed", name, exc_info=error)
            failed(error)

    task.add_done_callback(ended)
    return task
