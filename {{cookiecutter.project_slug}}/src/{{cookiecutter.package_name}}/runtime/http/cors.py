"""CORS: which other origins may use the service from a browser (Fetch Standard, HTTP-CORS).

Without credentials: a page gets no response to a request with cookies, and such a request that
changes something is refused, as it is from any other origin (`Handler.check_trusted_origin`).
"""

import re
from collections.abc import Iterable, Sequence

from ..http1.defaults import DefaultHeaders
from .handler import Handler
from .headers import default_headers
from .request import Request

MAX_AGE = 600
"""Seconds for which a browser may keep the response to a preflight."""
EXPOSED_HEADERS = "X-Request-ID"
"""What scripts of other origins may read, beside the headers that they always may."""

_HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]*")


class AllowedOrigins:
    """The origins that may read responses, each with the default headers of its responses."""

    def __init__(self, origins: Iterable[str]) -> None:
        self.other_headers = default_headers(vary="Origin")
        """For requests of all other origins. They have `Vary`, too: caches keep both apart."""
        self._headers: dict[str, DefaultHeaders] = {}
        for origin in origins:
            headers = {
                "Access-Control-Allow-Origin": origin,
                "Access-Control-Expose-Headers": EXPOSED_HEADERS,
            }
            self._headers[origin] = default_headers(headers, vary="Origin")

    def apply(self, request: Request) -> bool:
        """Let an allowed origin read the response. Return whether this is its preflight."""
        headers = self._headers.get(request.headers.get("Origin", ""))
        if headers is None:
            return False
        request.exchange.default_headers = headers
        return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers


class Preflight(Handler):
    """Tells a browser which requests another origin may send to a route."""

    # Those of the route do not apply: a preflight has no body.
    max_body_size = 0

    def initialize(self, methods: Sequence[str]) -> None:
        self._methods = methods

    def options(self, *args: str, **kwargs: str) -> None:
        self.set_header("Access-Control-Allow-Methods", ", ".join(self._methods))
        names = self.request.headers.get("Access-Control-Request-Headers", "")
        if names and _HEADER_NAMES.fullmatch(names):
            self.set_header("Access-Control-Allow-Headers", names)
        self.set_header("Access-Control-Max-Age", str(MAX_AGE))
        self.clear_header("Content-Type")
        self.reply(status=204)
