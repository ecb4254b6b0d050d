"""Responds with the version of its code."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from runtime import Application, Handler, Resource, Route, Settings

from tests.runtime.support.sample_app import Slow

from . import revision


class Version(Handler):
    def get(self) -> None:
        self.reply({"version": revision.VERSION})


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[None]:
    await revision.connect()
    yield


def make_app(settings: Settings) -> Application:
    revision.prepare()
    return Application(
        settings,
        [Route("/", Version), Route("/slow", Slow)],
        resources=[Resource("database", open_database)],
    )
