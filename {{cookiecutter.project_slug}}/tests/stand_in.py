"""The service that most tests talk to, in place of the real one: ``python -m tests.stand_in``."""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from {{ cookiecutter.package_name }}.__main__ import serve
from {{ cookiecutter.package_name }}.runtime.http.body import Body
from {{ cookiecutter.package_name }}.runtime.http.application import Application
from {{ cookiecutter.package_name }}.runtime.settings import Settings, load
from {{ cookiecutter.package_name }}.runtime.http.handler import Handler
from {{ cookiecutter.package_name }}.runtime.http.websocket import WebSocket

logger = logging.getLogger(__name__)


def may_go_on() -> bool:
    return Path("go").exists()


class Root(Handler):
    def get(self) -> None:
        self.reply({"root": True})


class Item(Body):
    name: str


class Items(Handler):
    def post(self) -> None:
        self.reply({"name": Item.read(self.request).name}, status=201)


class OneItem(Handler):
    def get(self, name: str) -> None:
        self.reply({"name": name})


class Slow(Handler):
    """Answers as soon as the test lets it."""

    async def get(self) -> None:
        logger.info("slow request arrived")
        while True:
            if may_go_on():
                break
            await asyncio.sleep(0.005)
        self.reply({"slow": True})


class Stuck(Handler):
    """Blocks the event loop, which no handler should."""

    def get(self) -> None:
        logger.info("event loop blocked")
        while not may_go_on():
            time.sleep(0.005)


@asynccontextmanager
async def resource() -> AsyncIterator[str]:
    thread = await asyncio.to_thread(threading.current_thread)
    logger.info("resource entered", extra={"blocking_call": thread.name})
    yield "what the resource yields"
    logger.info("resource left")


def make_app(settings: Settings) -> Application:
    """Put the stand-in together, as `make_app` of the service does with the real one."""
    return Application(
        settings,
        [
            ("/", Root),
            ("/items", Items),
            ("/items/{name}", OneItem),
            ("/socket", WebSocket),
            ("/slow", Slow),
            ("/stuck", Stuck),
        ],
        resources={"resource": resource},
    )


def import_app(settings: Settings) -> Application:
    """Import the stand-in where it is made, as the service does with its `app.py`."""
    from tests import stand_in

    return stand_in.make_app(settings)


if __name__ == "__main__":
    sys.exit(serve(load(), import_app))
