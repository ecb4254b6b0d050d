"""A request, with what the runtime knows about it whichever handler gets it."""

import re
import secrets
import time
from typing import Any, cast

from tornado.httputil import HTTPServerRequest

from ..http1.exchange import Exchange
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

    @property
    def exchange(self) -> Exchange:
        """The connection, as far as this request is concerned."""
        return cast(Exchange, self.connection)

    @property
    def headers_sent(self) -> bool:
        """Whether status and headers of the response have been sent."""
        return self.exchange.headers_sent

    @property
    def response_size(self) -> int:
        """Body bytes of the response sent so far."""
        return self.exchange.body_size

    @property
    def id(self) -> str:
        """The request id, which the response and every log record of this request contain."""
        return self.exchange.request_id

    def identify(self) -> None:
        """Keep a valid X-Request-ID of the client, or create one."""
        own = self.headers["X-Request-ID"] if "X-Request-ID" in self.headers else ""
        if not _VALID_REQUEST_ID.fullmatch(own):
            # Kept in the request headers, so that any handler can read and forward it.
            own = self.headers["X-Request-ID"] = secrets.token_hex(16)
        self.exchange.request_id = own
        request_id.set(own)
