"""A service that takes its time, for test_server.py: ``python -m tests.slow_service``."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from {{ cookiecutter.package_name }}.echo import Echo
from {{ cookiecutter.package_name }}.routing import Application
from {{ cookiecutter.package_name }}.server import serve
from {{ cookiecutter.package_name }}.settings import Settings, load
from {{ cookiecutter.package_name }}.web import Handler

logger = logging.getLogger(__name__)


def may_go_on() -> bool:
    return Path("go").exists()


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
async def resource() -> AsyncIterator[None]:
    thread = await asyncio.to_thread(threading.current_thread)
    logger.info("resource entered", extra={"blocking_call": thread.name})
    yield
    logger.info("resource left")


def make_app(settings: Settings) -> Application:
    routes = [("/slow", Slow), ("/stuck", Stuck), ("/echo", Echo)]
    return Application(settings, routes, resources=[resource])


if __name__ == "__main__":
    serve(load(), make_app)
