"""WebSockets: refused like any request, and known to the application, which a stop asks."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from tornado.websocket import WebSocketHandler

from ..logs.formatters import log_access
from .request import is_last
from .handler import Handler, Problem

if TYPE_CHECKING:
    from .application import Application

_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")


class WebSocket(Handler, WebSocketHandler):
    """Base of the service's WebSockets. Your own `prepare` or `on_finish` calls this one, too."""

    application: Application

    def prepare(self) -> None:
        # Tornado refuses a handshake in plain text, and takes some that are none.
        request, headers = self.request, self.request.headers
        if is_last(request):
            raise Problem(503, "The service is stopping.")
        if (
            headers.get("Upgrade", "").lower() != "websocket"
            or "upgrade" not in headers.get("Connection", "").lower()
            or headers.get("Sec-WebSocket-Version") != "13"
            or request.version != "HTTP/1.1"
        ):
            upgrade = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
            raise Problem(426, "This is a WebSocket.", headers=upgrade)
        if not _KEY.fullmatch(headers.get("Sec-WebSocket-Key", "")):
            raise Problem(400, "Sec-WebSocket-Key must be 16 bytes in base64.")
        if headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
            self.check_origin(headers.get("Origin", ""))
        if self.get_compression_options() is None:
            # None is on offer, and Tornado fails on some extensions that it does not know.
            headers.pop("Sec-WebSocket-Extensions", None)

    def check_origin(self, origin: str) -> bool:
        if not super().check_origin(origin):
            raise Problem(403, "WebSockets from this origin are not allowed.")
        return True

    def on_finish(self) -> None:
        # The handshake is over; what follows is no request in flight but an open WebSocket.
        if self.get_status() == HTTPStatus.SWITCHING_PROTOCOLS:
            self.application.websockets.add(self)

    def on_connection_close(self) -> None:
        if self in self.application.websockets:
            self.application.websockets.remove(self)
            log_access(self, more={"websocket.close_code": self.close_code})
        super().on_connection_close()
