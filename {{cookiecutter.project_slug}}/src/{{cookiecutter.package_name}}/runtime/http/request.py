"""A request, with what the runtime knows about it whichever handler gets it."""

import re
import secrets
import time
from typing import Any

from tornado.http1connection import HTTP1ServerConnection
from tornado.httputil import HTTPServerRequest

from ..logs.context import request_id

UNMATCHED_ROUTE = "none"
"""The route of requests that match none: a constant, to bound the number of label values."""

_VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


class Request(HTTPServerRequest):
    """Tornado's request, with its route, its id and what has been sent in response."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.start_time = time.perf_counter()
        """When the headers had arrived, in seconds of `time.perf_counter`."""
        self.route = UNMATCHED_ROUTE
        """The path template that matched, such as ``/greetings/{name}``."""
        self.headers_sent = False
        """Whether status and headers of the response have been sent."""
        self.response_size = 0
        """Body bytes of the response sent so far."""

    @property
    def id(self) -> str:
        """The request id, which the response and every log record of this request contain."""
        return self.headers["X-Request-ID"]

    def identify(self) -> None:
        """Keep a valid X-Request-ID of the client, or create one."""
        # Kept in the request headers, so that any handler can read and forward it.
        if not _VALID_REQUEST_ID.fullmatch(self.headers.get("X-Request-ID", "")):
            self.headers["X-Request-ID"] = secrets.token_hex(16)
        request_id.set(self.headers["X-Request-ID"])


def should_close(request: HTTPServerRequest) -> bool:
    """Return whether the connection closes after this response."""
    stream = getattr(request.server_connection, "stream", None)
    return is_draining(request) or getattr(stream, "close_after_response", False)


def is_draining(request: HTTPServerRequest) -> bool:
    """Return whether the service is draining: this is the last request of its connection."""
    connection = request.server_connection
    return isinstance(connection, HTTP1ServerConnection) and connection.params.no_keep_alive
