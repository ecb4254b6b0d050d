"""A service whose start does what the variable START says: fail, be interrupted, or wait.

So does its end, with END.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from runtime import (
    Application,
    Extension,
    Resource,
    Service,
    ServiceInfo,
    Settings,
    StartupError,
)
from runtime.workers import Prefork

from tests.runtime.support.sample_app import until_released

START = os.environ.get("START")
END = os.environ.get("END")


class Tracker(Extension):
    """An extension that may not start."""

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        if START == "extension fails":
            raise OSError("no tracker")
        if START == "extension refuses":
            raise StartupError("the tracker has no key")
        yield

    def lifespan(
        self, service: ServiceInfo, settings: Settings
    ) -> AbstractAsyncContextManager[object]:
        return self._open()


@asynccontextmanager
async def open_queue(settings: Settings) -> AsyncIterator[None]:
    with suppress(Exception if END == "queue hides errors" else ()):
        try:
            yield
        finally:
            if END == "queue waits":
                await until_released()
            if END == "queue fails":
                raise OSError("messages are left")
    if END == "queue waits for what it has cancelled":
        task = asyncio.create_task(until_released())
        task.cancel()
        await task


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[None]:
    if START == "resource fails":
        raise OSError("no database")
    if START == "signal":
        os.kill(os.getpid(), signal.SIGTERM)
    if START == "resource waits":
        await until_released()
    yield


RESOURCES = [Resource("queue", open_queue), Resource("database", open_database)]


def make_app(settings: Settings) -> Application:
    if START == "app fails":
        raise ValueError("no such thing")
    return Application(settings, [], resources=RESOURCES)


service = Service(
    "startup",
    "1.0",
    processes=Prefork(),
    extensions=[Tracker()],
    settings="runtime.settings:Settings",
    app="tests.runtime.apps.startup:make_app",
)

if __name__ == "__main__":
    sys.exit(service.main())
