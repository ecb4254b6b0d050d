"""A service in which a lot goes on, for the live page. Run as a script."""

import asyncio
import random
import sys
import time

from runtime import Application, Handler, Problem, Route, Service, Settings
from runtime.metrics import Metrics
from runtime.workers import Prefork

QUICK = 0.004
"""Seconds of the quick route, so that a few connections do not load a machine fully."""


class Quick(Handler):
    async def get(self) -> None:
        await asyncio.sleep(QUICK)
        self.reply({"quick": True})


class Orders(Handler):
    async def get(self) -> None:
        await asyncio.sleep(random.lognormvariate(-4, 0.5))
        self.reply({"orders": []})


class Order(Handler):
    async def get(self, number: str) -> None:
        await asyncio.sleep(random.lognormvariate(-2.5, 0.4))
        if number == "failing":
            raise Problem(503, "The database does not respond.")
        self.reply({"number": number})


class Report(Handler):
    """Blocks the event loop."""

    def get(self) -> None:
        self.reply({"report": make_report()})


def make_report() -> str:
    time.sleep(60)
    return "long"


def make_app(settings: Settings) -> Application:
    return Application(
        settings,
        [
            Route("/", Quick),
            Route("/orders", Orders),
            Route("/orders/{number}", Order),
            Route("/report", Report),
        ],
    )


service = Service(
    "orders",
    "1.4.0",
    processes=Prefork(),
    extensions=[Metrics()],
    settings="runtime.settings:Settings",
    app="lively:make_app",
)

if __name__ == "__main__":
    sys.exit(service.main())
