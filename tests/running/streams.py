"""The generated service with a stream of events and a WebSocket. Run as a script.

The events are numbers that a clock gives out, the same ones in every worker: a client that asks for
what comes after the last number that it has got misses none and gets none twice.
"""

import asyncio
import os
import sys
import time

from tornado_service.__main__ import service as project
from tornado_service.runtime import Application, EventStream, Route, Service, Settings, WebSocket

INTERVAL = 0.5
"""Seconds between two numbers."""


class Numbers(EventStream):
    """Sends each number when it is due, beginning after the one that the client has."""

    async def stream(self) -> None:
        begin = float(os.environ["BEGIN"])
        now = int((time.time() - begin) / INTERVAL)
        number = int(self.last_event_id or now) + 1
        while True:
            await asyncio.sleep(begin + number * INTERVAL - time.time())
            await self.send({"number": number, "pid": os.getpid()}, id=str(number))
            number += 1


class Stubborn(EventStream):
    """Does not end when it is told to."""

    async def stream(self) -> None:
        await self.send("hello")
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue


def make_app(settings: Settings) -> Application:
    return Application(
        settings,
        [
            Route("/numbers", Numbers),
            Route("/stubborn", Stubborn),
            Route("/socket", WebSocket),
        ],
    )


service = Service(
    "tornado_service",
    "1.0",
    processes=project.processes,
    extensions=project.extensions,
    app="streams:make_app",
)

if __name__ == "__main__":
    sys.exit(service.main())
