"""Responds with the version of its code."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from runtime import Application, Handler, Resource, Route, Settings

from tests.runtime.support.sample_app import Slow

from . import revision

LEAK = 64 * 1024
"""Bytes of memory that a request costs."""

kept: list[bytes] = []


class Version(Handler):
    def get(self) -> None:
        self.reply({"version": revision.VERSION})


class Leak(Handler):
    """Never forgets a request, and responds with the process that does not."""

    def get(self) -> None:
        kept.append(b"x" * LEAK)
        self.reply({"pid": os.getpid()})


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[None]:
    await revision.connect()
    yield


def make_app(settings: Settings) -> Application:
    revision.prepare()
    return Application(
        settings,
        [Route("/", Version), Route("/slow", Slow), Route("/leak", Leak)],
        resources=[Resource("database", open_database)],
    )
