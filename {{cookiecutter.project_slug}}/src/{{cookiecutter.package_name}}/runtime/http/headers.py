"""The headers that every answer has, whichever handler gives it."""

from http import HTTPStatus
from typing import cast

from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import OutputTransform

from .request import Request, ends_connection

DEFAULTS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class StandardHeaders(OutputTransform):
    """The headers of every answer: the request's id, and defaults that handlers may replace."""

    def __init__(self, request: HTTPServerRequest) -> None:
        self._request = cast(Request, request)

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        self._request.answer_begun = True
        headers.pop("Server", None)
        headers["X-Request-ID"] = self._request.headers["X-Request-ID"]
        for name, value in DEFAULTS.items():
            if name not in headers:
                headers[name] = value
        if status_code != HTTPStatus.SWITCHING_PROTOCOLS and ends_connection(self._request):
            # Tornado itself says so only where it was known before the request came.
            headers["Connection"] = "close"
        return status_code, headers, self.transform_chunk(chunk, finishing)

    def transform_chunk(self, chunk: bytes, finishing: bool) -> bytes:
        if self._request.method != "HEAD":
            self._request.body_size += len(chunk)
        return chunk
