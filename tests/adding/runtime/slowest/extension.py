"""The extension: remembers the slowest requests, and logs them when the process stops."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from markupsafe import escape
from tornado.web import RequestHandler

from ..errors import StartupError
from ..extensions import Extension
from ..settings import Settings
from ..version import ServiceInfo

VARIABLE = "SLOWEST_COUNT"
DEFAULT_COUNT = 3

logger = logging.getLogger(__name__)


class Slowest(Extension):
    """The slowest requests: ``Service(..., extensions=[Slowest()])``."""

    @asynccontextmanager
    async def lifespan(self, service: ServiceInfo, settings: Settings) -> AsyncIterator[None]:
        self._count = _count()
        self._requests: list[tuple[float, str]] = []
        yield
        for seconds, name in reversed(self._requests):
            # Some people read their logs in a browser.
            logger.info("slowest: %s took %.3f s", escape(name), seconds)

    def request_finished(self, handler: RequestHandler) -> None:
        request = handler.request
        finished = (request.request_time(), f"{request.method} {request.path}")
        self._requests = sorted([*self._requests, finished])[-self._count :]


def _count() -> int:
    """Return how many requests to remember. Raises `StartupError`."""
    text = os.environ.get(VARIABLE) or str(DEFAULT_COUNT)
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise StartupError(f"{VARIABLE} must be a number from 1, not {text!a}")
    return int(text)
