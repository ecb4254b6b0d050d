"""The tasks in which handlers run."""

import asyncio
import gc
import weakref
from contextvars import ContextVar

from runtime.http import tasks
from runtime.http.application import Application
from runtime.settings import Settings
from tornado.gen import convert_yielded

place: ContextVar[str] = ContextVar("place")


async def test_tornado_starts_coroutines_as_plain_tasks() -> None:
    async def where() -> str:
        return place.get()

    Application(Settings(), [])
    place.set("here")
    task = convert_yielded(where())
    place.set("elsewhere")
    assert task in tasks._tasks
    assert await task == "here"
    await asyncio.sleep(0)
    assert task not in tasks._tasks


async def test_task_that_waits_is_not_collected() -> None:
    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    task = weakref.ref(tasks.start_task(wait()))
    await asyncio.sleep(0)
    gc.collect()
    waiting = task()
    assert waiting
    waiting.cancel()
