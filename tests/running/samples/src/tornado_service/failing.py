"""Handlers that fail."""

import asyncio
import logging

from .runtime import Handler, Problem

logger = logging.getLogger(__name__)


class Fail(Handler):
    async def get(self, name: str) -> None:
        text = self.get_query_argument("text")
        await asyncio.sleep(0.05)  # the requests interleave
        raise ValueError(f"{name}: {len(text)} characters")

    def post(self, name: str) -> None:
        self.background(self._fail_later(name))
        self.reply(status=202)

    async def _fail_later(self, name: str) -> None:
        await asyncio.sleep(0.05)
        raise ValueError(name)


class Refuse(Handler):
    def get(self) -> None:
        raise Problem(503)


class Leave(Handler):
    """Its client leaves."""

    def prepare(self) -> None:
        self.left = asyncio.Event()
        logger.info("arrived")

    async def get(self) -> None:
        await self.left.wait()
        await self.flush()

    def on_connection_close(self) -> None:
        self.left.set()
