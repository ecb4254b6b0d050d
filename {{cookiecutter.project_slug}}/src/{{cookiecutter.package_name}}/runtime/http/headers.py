"""Headers added to every response."""

from http import HTTPStatus
from typing import cast

from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import OutputTransform

from .request import Request, should_close

DEFAULTS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers that a handler may replace."""


class StandardHeaders(OutputTransform):
    """Adds the request id and the default headers, and counts the bytes of the body."""

    def __init__(self, request: HTTPServerRequest) -> None:
        self._request = cast(Request, request)

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        self._request.headers_sent = True
        headers.pop("Server", None)
        headers["X-Request-ID"] = self._request.id
        for name, value in DEFAULTS.items():
            if name not in headers:
                headers[name] = value
        if status_code != HTTPStatus.SWITCHING_PROTOCOLS and should_close(self._request):
            # Tornado sets this only if it was known before the request was read.
            headers["Connection"] = "close"
        return status_code, headers, self.transform_chunk(chunk, finishing)

    def transform_chunk(self, chunk: bytes, finishing: bool) -> bytes:
        if self._request.method != "HEAD":
            self._request.response_size += len(chunk)
        return chunk
