"""The generated service with routes that misbehave on purpose. Run as a script."""

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

from tornado.web import RequestHandler
from tornado_service.__main__ import service as project
from tornado_service.runtime import Application, Handler, Resource, Route, Service, Settings

VERSION = 1

logger = logging.getLogger("faults")


class Sleep(Handler):
    """Answers after so many seconds."""

    async def get(self, seconds: str) -> None:
        await asyncio.sleep(float(seconds))
        self.reply({"slept": seconds})


class Who(Handler):
    """Answers after so many seconds which process and which version of this file it is."""

    async def get(self, seconds: str) -> None:
        if float(seconds):
            await asyncio.sleep(float(seconds))
        self.reply({"pid": os.getpid(), "version": VERSION})


class PlainSleep(RequestHandler):
    """The same with a handler that knows nothing of the service's own."""

    async def get(self, seconds: str) -> None:
        await asyncio.sleep(float(seconds))
        self.write("slept")


class Block(Handler):
    """Blocks the event loop."""

    def get(self, seconds: str) -> None:
        logger.info("blocking")
        time.sleep(float(seconds))
        self.reply({"blocked": seconds})


class Thread(Handler):
    """Blocks a thread of the pool."""

    async def get(self, seconds: str) -> None:
        await asyncio.to_thread(time.sleep, float(seconds))
        self.reply({"slept": seconds})


class Fail(Handler):
    """Raises what nobody expects."""

    def get(self) -> None:
        raise RuntimeError("the cause, for the log alone")


class Status(Handler):
    """Answers with a status."""

    def get(self, status: str) -> None:
        self.reply({"status": int(status)}, status=int(status))


class Log(Handler):
    """Logs so many numbered lines, a slice at a time, and says when it is done."""

    extra: ClassVar[dict[str, str]] = {}

    async def get(self, count: str) -> None:
        for number in range(int(count)):
            logger.info("line %d", number, extra=self.extra)
            if number % 100 == 0:
                await asyncio.sleep(0)
        self.reply({"logged": int(count)})


class Flood(Log):
    """The same with lines of more than a kilobyte."""

    extra: ClassVar[dict[str, str]] = {"padding": "x" * 1000}


class LongLines(Handler):
    """Logs so many numbered lines with so many characters more."""

    async def get(self, count: str, size: str) -> None:
        for number in range(int(count)):
            logger.info("line %d", number, extra={"padding": "x" * int(size)})
            await asyncio.sleep(0)
        self.reply({"logged": int(count)})


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[None]:
    yield


def find_fault() -> str | None:
    """Read the file that says that the database is down, for all processes or for this one."""
    files = Path("database-down"), Path(f"database-down-{os.getpid()}")
    return next((file.read_text() for file in files if file.exists()), None)


async def check_database(database: None) -> None:
    fault = find_fault()
    if fault == "it hangs":
        await asyncio.Event().wait()
    if fault is not None:
        raise ConnectionRefusedError


DATABASE = Resource("database", open_database, check=check_database, interval=0.5, timeout=0.5)


def make_app(settings: Settings) -> Application:
    """Add the faults to what the service serves anyway."""
    # In the worker alone, as the service imports its `app.py`.
    from tornado_service import app

    if os.environ.get("QUIET"):
        logging.getLogger("access").setLevel(logging.WARNING)
    application = app.make_app(settings)
    application.declared_resources += (DATABASE,)
    application.wildcard_router.add_rules(
        [
            Route("/sleep/{seconds}", Sleep),
            Route("/who/{seconds}", Who),
            Route("/plain/{seconds}", PlainSleep),
            Route("/block/{seconds}", Block),
            Route("/thread/{seconds}", Thread),
            Route("/fail", Fail),
            Route("/status/{status}", Status),
            Route("/log/{count}", Log),
            Route("/flood/{count}", Flood),
            Route("/long/{count}/{size}", LongLines),
        ]
    )
    return application


# The processes and extensions are those that the project has.
service = Service(
    "tornado_service",
    "1.0",
    processes=project.processes,
    extensions=project.extensions,
    app="faults:make_app",
)

if __name__ == "__main__":
    sys.exit(service.main())
