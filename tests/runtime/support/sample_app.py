"""The service that most tests talk to: ``python -m tests.runtime.support.sample_app``."""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from runtime import Application, Body, Handler, Resource, Route, Service, Settings, WebSocket
from runtime.workers import Prefork

logger = logging.getLogger(__name__)


def is_released() -> bool:
    """Return whether the test lets slow requests finish; see `release_slow_requests`."""
    return Path("released").exists()


async def until_released() -> None:
    """Wait until the test lets slow requests finish."""
    while not is_released():  # noqa: ASYNC110 - the event is a file
        await asyncio.sleep(0.005)


def release_slow_requests(folder: Path) -> None:
    """Let the slow requests of a service finish that runs in a folder."""
    (folder / "released").touch()


class Root(Handler):
    def get(self) -> None:
        self.reply({"root": True})


class Item(Body):
    name: str


class Items(Handler):
    def post(self) -> None:
        self.reply({"name": Item.from_request(self.request).name}, status=201)


class OneItem(Handler):
    def get(self, name: str) -> None:
        self.reply({"name": name})


class Slow(Handler):
    """Responds as soon as the test lets it."""

    async def get(self) -> None:
        logger.info("slow request arrived")
        await until_released()
        self.reply({"slow": True})


class Later(Handler):
    """Responds, and works in the background until the test lets it finish."""

    def get(self) -> None:
        self.background(finish_later())
        self.reply({"later": True}, status=202)


async def finish_later() -> None:
    await until_released()
    logger.info("background task finished")


class Stuck(Handler):
    """Blocks the event loop, which no handler should."""

    def get(self) -> None:
        logger.info("event loop blocked")
        while not is_released():
            time.sleep(0.005)


@asynccontextmanager
async def open_resource(settings: Settings) -> AsyncIterator[str]:
    thread = await asyncio.to_thread(threading.current_thread)
    logger.info("resource entered", extra={"blocking_call": thread.name})
    yield "what the resource yields"
    logger.info("resource left")


RESOURCE = Resource("resource", open_resource)


def make_app(settings: Settings) -> Application:
    return Application(
        settings,
        [
            Route("/", Root),
            Route("/items", Items),
            Route("/items/{name}", OneItem),
            Route("/socket", WebSocket),
            Route("/slow", Slow),
            Route("/later", Later),
            Route("/stuck", Stuck),
        ],
        resources=[RESOURCE],
    )


service = Service(
    "sample_app",
    "1.0",
    processes=Prefork(),
    settings="runtime.settings:Settings",
    app=f"{__spec__.name}:make_app" if __spec__ else "",
)

if __name__ == "__main__":
    sys.exit(service.main())
