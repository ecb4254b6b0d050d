"""What the service consists of, with the routes that some benchmarks need.

It replaces the `app.py` of a baked project.
"""

import asyncio
import os
import time

import payload

from .echo import Echo
from .greetings.handlers import GreetByName, Welcome
from .runtime import Application, Handler, Route
from .settings import Settings


class Json(Handler):
    def get(self, size: str) -> None:
        self.reply({"articles": payload.articles(int(size))})


class Pid(Handler):
    def get(self) -> None:
        self.reply({"pid": os.getpid()})


class Slow(Handler):
    async def get(self) -> None:
        await asyncio.sleep(1)
        self.reply({"message": "Hello, slow world!"})


class Block(Handler):
    """Blocks the event loop, as a bug may do."""

    def get(self) -> None:
        time.sleep(600)


def make_app(settings: Settings) -> Application:
    more = range(int(os.environ.get("ROUTES", "0")))
    return Application(
        settings,
        routes=[
            Route("/", Welcome),
            *(Route(f"/r{number}/{{name}}", GreetByName) for number in more),
            Route("/json/{size}", Json),
            Route("/pid", Pid),
            Route("/slow", Slow),
            Route("/block", Block),
            Route("/echo", Echo),
        ],
    )
