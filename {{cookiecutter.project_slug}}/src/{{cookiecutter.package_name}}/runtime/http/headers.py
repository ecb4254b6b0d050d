"""Headers added to every response."""

from typing import cast

from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import OutputTransform

from .request import Request

DEFAULTS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers that a handler may replace."""


class StandardHeaders(OutputTransform):
    """Adds the request id and the default headers."""

    def __init__(self, request: HTTPServerRequest) -> None:
        self._request = cast(Request, request)

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        headers.pop("Server", None)
        headers["X-Request-ID"] = self._request.id
        for name, value in DEFAULTS.items():
            if name not in headers:
                headers[name] = value
        return status_code, headers, chunk
