"""The tasks in which handlers run."""

import asyncio
from collections.abc import Coroutine
from types import CoroutineType
from typing import Any, cast

from tornado.gen import convert_yielded

_tasks: set[asyncio.Task[Any]] = set()
"""Keeps tasks alive: an event loop only has weak references to them."""


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
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return task
