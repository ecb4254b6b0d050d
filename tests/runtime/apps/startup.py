"""A service whose start does what the variable START says: fail, be interrupted, or wait."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from runtime import (
    Application,
    Extension,
    Resource,
    Service,
    ServiceInfo,
    Settings,
    StartupError,
)

from tests.runtime.support.sample_app import until_released

START = os.environ.get("START")


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
async def open_database(settings: Settings) -> AsyncIterator[None]:
    if START == "resource fails":
        raise OSError("no database")
    if START == "signal":
        os.kill(os.getpid(), signal.SIGTERM)
    if START == "resource waits":
        await until_released()
    yield


def make_app(settings: Settings) -> Application:
    if START == "app fails":
        raise ValueError("no such thing")
    return Application(settings, [], resources=[Resource("database", open_database)])


service = Service(
    "startup",
    "1.0",
    extensions=[Tracker()],
    settings="runtime.settings:Settings",
    app="tests.runtime.apps.startup:make_app",
)

if __name__ == "__main__":
    sys.exit(service.main())
