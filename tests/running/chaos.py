"""A service whose handlers take a while, write down what they ran, and fail."""

import asyncio
import os
from collections.abc import Awaitable
from typing import Any

from tornado_service.runtime import Application, Handler, Route, Settings, WebSocket

PIECE = b"x" * 10_000


class Ran(Handler):
    """Writes down the id of the request, once the body is there, and responds after a while."""

    async def post(self, seconds: str) -> None:
        # Not in the log: a killed worker loses its last lines.
        os.write(self.settings["ran"], f"{self.request.id}\n".encode())
        if float(seconds):
            await asyncio.sleep(float(seconds))
        self.reply({"pid": os.getpid()})


class Who(Handler):
    """Responds with the process."""

    async def get(self) -> None:
        self.reply({"pid": os.getpid()})


class Large(Handler):
    """Responds with a megabyte, piece by piece."""

    async def get(self) -> None:
        for _ in range(100):
            self.write(PIECE)
            await self.flush()


class Broken(WebSocket):
    """Fails in the callback that the path names, in the others not."""

    def _fail(self, callback: str) -> None:
        if self.path_kwargs["callback"] == callback:
            raise RuntimeError(f"{callback} fails, as it should")

    def prepare(self) -> Awaitable[None] | None:
        self.set_header("Pid", str(os.getpid()))
        self._fail("prepare")
        return super().prepare()

    def check_trusted_origin(self, origin: str) -> bool:
        self._fail("check_trusted_origin")
        return True

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        self._fail("select_subprotocol")
        return None

    async def open(self, *args: str, **kwargs: str) -> None:
        await asyncio.sleep(0)
        self._fail("open")

    async def on_message(self, message: str | bytes) -> None:
        await asyncio.sleep(0)
        self._fail("on_message")
        await self.write_message(message)

    def on_ping(self, data: bytes) -> None:
        self._fail("on_ping")

    def on_close(self) -> None:
        self._fail("on_close")

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._fail("on_connection_close")

    def on_finish(self) -> None:
        super().on_finish()
        self._fail("on_finish")


def make_app(settings: Settings) -> Application:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    tornado_settings: dict[str, Any] = {"ran": os.open("ran", flags, 0o644)}
    return Application(
        settings,
        [
            Route("/ran/{seconds}", Ran),
            Route("/who", Who),
            Route("/large", Large),
            Route("/broken/{callback}", Broken),
        ],
        **tornado_settings,
    )
