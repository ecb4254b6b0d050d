"""WebSocket base class: handshake errors as problem+json, and tracking for the drain."""

import asyncio
import re
import sys
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Any

from tornado.iostream import IOStream
from tornado.websocket import WebSocketHandler

from .access_log import log_access
from .handler import Handler
from .problem import Problem

_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")


class WebSocket(Handler, WebSocketHandler):
    """Base class of WebSockets.

    ::

        class Echo(WebSocket):
            async def on_message(self, message: str | bytes) -> None:
                await self.write_message(message)    # awaited for back-pressure

    ``open`` and ``on_close`` frame its life. Handshakes from other origins get 403; to allow
    them, name them in ``Application(trusted_origins=[...])`` or override
    ``check_trusted_origin``. A drain closes it with code 1001. Call ``super()`` if you override
    ``prepare``. If ``open`` raises, the WebSocket is closed without ``on_close``, as in Tornado.
    """

    def __str__(self) -> str:
        return f"WebSocket {self.request.route}"

    def prepare(self) -> Awaitable[None] | None:
        # Tornado rejects bad handshakes in plain text, and accepts some invalid ones.
        if self.is_draining:
            raise Problem(503, "The service is shutting down.")
        headers = self.request.headers
        self._check_upgrade()
        if self.get_compression_options() is None:
            # No extension is supported, and Tornado fails on some unknown ones.
            headers.pop("Sec-WebSocket-Extensions", None)
        return None

    def _check_upgrade(self) -> None:
        headers = self.request.headers
        connection = {option.strip() for option in headers.get("Connection", "").lower().split(",")}
        if (
            self.request.method != "GET"
            or headers.get("Upgrade", "").lower() != "websocket"
            or "upgrade" not in connection
            or headers.get("Sec-WebSocket-Version") != "13"
            or self.request.version != "HTTP/1.1"
        ):
            upgrade = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
            raise Problem(426, "WebSocket upgrade required.", headers=upgrade)
        if not _KEY.fullmatch(headers.get("Sec-WebSocket-Key", "")):
            raise Problem(400, "Sec-WebSocket-Key must be 16 bytes in base64.")

    async def get(self, *args: Any, **kwargs: Any) -> None:
        # Tornado checks this itself, but rejects in plain text.
        if self._check_cross_origin(self.check_origin):
            raise Problem(403, "WebSockets from this origin are not allowed.")
        try:
            await super().get(*args, **kwargs)
        finally:
            # However it has ended: Tornado does not call `on_connection_close` in every case.
            self._ended()

    def detach(self) -> IOStream:
        # The handshake is done: from here on it counts as a WebSocket, not as a request.
        if not self.request.exchange.client_left:
            self._connections.websockets.add(self)
        task, tasks = asyncio.current_task(), self._connections.tasks
        if task in tasks:
            tasks[task] = self
        return super().detach()

    def _ended(self) -> None:
        if self in self._connections.websockets:
            self._connections.websockets.remove(self)
            if "log_function" not in self.settings:
                extra: dict[str, object] = {"websocket.close_code": self.close_code}
                log_access(self, self.request.request_time(), extra=extra)
        elif self.get_status() == HTTPStatus.SWITCHING_PROTOCOLS:
            self.request.exchange.abort()  # `on_finish` has failed, and the client waits

    def on_connection_close(self) -> None:
        try:
            super().on_connection_close()
        except Exception:  # of `on_close`; Tornado would hide a ValueError
            self.log_exception(*sys.exc_info())
