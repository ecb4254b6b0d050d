"""A service with a resource whose check does what a file says; see `tests.runtime.support.checks`.

The file `check-PID` is for one process, `check` for all of them.
"""

import asyncio
import errno
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from runtime import Application, Handler, Resource, Route, Service, Settings
from runtime.workers import Prefork

from tests.runtime.support.checks import INTERVAL, TIMEOUT
from tests.runtime.support.sample_app import Slow

logger = logging.getLogger(__name__)


class Store:
    """What is checked."""

    def __init__(self) -> None:
        self.running = 0
        self.calls = 0


class Root(Handler):
    def get(self) -> None:
        store = self.resources[STORE]
        self.reply({"calls": store.calls, "running": store.running})


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[Store]:
    store = Store()
    yield store
    logger.info("store closed, checks running: %d", store.running)


async def check_store(store: Store) -> None:
    store.calls += 1
    store.running += 1
    try:
        await behave(store)
    finally:
        store.running -= 1


async def behave(store: Store) -> None:
    files = Path(f"check-{os.getpid()}"), Path("check")
    [behaviour, *_] = [file.read_text() for file in files if file.exists()] or [""]
    if behaviour == "raise" or (behaviour == "flap" and store.calls % 2):
        raise ConnectionRefusedError(
            errno.ECONNREFUSED, "nothing listens at db://user:pass@example"
        )
    if behaviour == "hang":
        await asyncio.Event().wait()
    while behaviour == "ignore":
        with suppress(BaseException):
            await asyncio.Event().wait()


STORE = Resource("store", open_store, check=check_store, interval=INTERVAL, timeout=TIMEOUT)


def make_app(settings: Settings) -> Application:
    return Application(settings, [Route("/", Root), Route("/slow", Slow)], resources=[STORE])


service = Service(
    "checked",
    "1.0",
    processes=Prefork(),
    settings="runtime.settings:Settings",
    app="tests.runtime.apps.checked:make_app",
)

if __name__ == "__main__":
    sys.exit(service.main())
