"""The generated service with routes that misbehave on purpose. Run as a script."""

import asyncio
import logging
import os
import sys
import time
from typing import ClassVar

from tornado.routing import Rule
from tornado.web import RequestHandler
from tornado_service.runtime import settings
from tornado_service.__main__ import serve
from tornado_service.runtime.http.application import Application, Route
from tornado_service.runtime.http.handler import Handler

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


def make_app(values: settings.Settings) -> Application:
    """Add the faults to what the service serves anyway."""
    # In the worker alone: what makes metrics must not be imported twice in a process.
    from tornado_service import app

    if os.environ.get("QUIET"):
        logging.getLogger("access").setLevel(logging.WARNING)
    application = app.make_app(values)
    application.wildcard_router.add_rules(
        Rule(Route(template), handler)
        for template, handler in {
            "/sleep/{seconds}": Sleep,
            "/who/{seconds}": Who,
            "/plain/{seconds}": PlainSleep,
            "/block/{seconds}": Block,
            "/thread/{seconds}": Thread,
            "/fail": Fail,
            "/status/{status}": Status,
            "/log/{count}": Log,
            "/flood/{count}": Flood,
            "/long/{count}/{size}": LongLines,
        }.items()
    )
    return application


def import_app(values: settings.Settings) -> Application:
    """Import this file in the worker, as the service does with its `app.py`."""
    import faults

    return faults.make_app(values)


if __name__ == "__main__":
    sys.exit(serve(settings.load(), import_app))
