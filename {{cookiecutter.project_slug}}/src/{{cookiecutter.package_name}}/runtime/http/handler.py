"""What handlers are made of: JSON out, and every error as ``application/problem+json``.

A handler parses, calls and replies. It raises `Problem` for what the client did wrong; what it
does not expect becomes a 500 whose cause is in the log and not in the answer.
"""

import logging
import sys
import traceback
from asyncio import Future
from http import HTTPStatus
from http.client import responses
from types import TracebackType
from typing import Any, cast

import orjson
from tornado.http1connection import HTTP1Connection
from tornado.iostream import IOStream, StreamClosedError
from tornado.web import HTTPError, RequestHandler, stream_request_body
from tornado.websocket import WebSocketClosedError

from .request import Request

CLOSED = (StreamClosedError, WebSocketClosedError)
# The client has gone before its answer came. Nginx has this status for its log, too.
GONE = 499, "Client Closed Request"

logger = logging.getLogger(__name__)


class Problem(HTTPError):
    """An error that the client is told about.

    The answer has the form of RFC 9457. `detail` is a sentence for people; `errors` says what is
    wrong with which part of the body: ``{"pointer": "/name", "detail": "Field required"}``.
    """

    def __init__(
        self,
        status: int,
        detail: str | None = None,
        *,
        errors: list[dict[str, str]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        if not 400 <= status < 600:
            raise ValueError(f"{status} is not the status of an error")
        super().__init__(status, detail)
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}


class Handler(RequestHandler):
    """Base of the service's handlers."""

    request: Request

    def set_default_headers(self) -> None:
        self.set_header("Content-Type", "application/json")

    def reply(self, body: object = None, status: int = 200) -> None:
        """Answer with `body` as JSON, or with none: ``self.reply(status=204)``."""
        self.set_status(status)
        self.finish(None if body is None else orjson.dumps(body))

    def finish(self, chunk: Any = None) -> Future[None]:
        if self._client_has_gone() and not self.request.answer_begun:
            self.set_status(*GONE)
        return super().finish(chunk)

    def head(self, *args: str, **kwargs: str) -> Any:
        # Tornado leaves the body out of the answer.
        return self.get(*args, **kwargs)

    def compute_etag(self) -> str | None:
        # Hashing every answer costs more than it saves. A handler that knows a version returns it.
        return None

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        if not 400 <= status_code < 600:
            # Somebody raised an HTTPError whose status is not that of an error.
            status_code = 500
            self.set_status(status_code)
        problem: dict[str, object] = {
            "type": "about:blank",
            "title": responses.get(status_code, "Unknown"),
            "status": status_code,
            "request_id": self.request.headers["X-Request-ID"],
        }
        if isinstance(error, Problem):
            if error.detail:
                problem["detail"] = error.detail
            if error.errors:
                problem["errors"] = error.errors
            for name, value in error.headers.items():
                self.set_header(name, value)
        if error and self.settings.get("serve_traceback"):
            problem["traceback"] = "".join(traceback.format_exception(error))
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", ", ".join(self._implemented_methods()))
        self.set_header("Content-Type", "application/problem+json")
        self.finish(orjson.dumps(problem))

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        if self._client_has_gone():
            # Nobody is there to be told.
            self.set_status(*GONE)
            self.finish()
        elif self.request.answer_begun:
            # Half an answer must not look like a whole one.
            self._stream().close()
            self.set_status(status_code)
            self.finish()
        else:
            super().send_error(status_code, **kwargs)

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if isinstance(value, HTTPError):
            # It was raised on purpose and the access line shows its status. If it is our fault, the
            # log tells the cause as well.
            level = logging.ERROR if value.status_code >= 500 else logging.DEBUG
            logger.log(level, "%s %s: %s", self.request.method, self.request.route, value)
        elif isinstance(value, CLOSED) and self._client_has_gone():
            logger.debug("the client has gone")
        else:
            logger.error("%s %s failed", self.request.method, self.request.route, exc_info=value)

    def _client_has_gone(self) -> bool:
        # A WebSocket has taken the stream away from its request.
        return self._stream() is None or self._stream().closed()

    def _stream(self) -> IOStream:
        return cast(HTTP1Connection, self.request.connection).stream

    def _implemented_methods(self) -> list[str]:
        return [
            method
            for method in self.SUPPORTED_METHODS
            # HEAD is always there, but stands for GET.
            if getattr(type(self), method.replace("HEAD", "GET").lower())
            is not getattr(RequestHandler, method.lower())
        ]


class NotFound(Handler):
    """Answers what no route matched."""

    def prepare(self) -> None:
        raise Problem(404)

    def check_trusted_origin(self, origin: str) -> bool:
        # Nothing can be changed here, and 404 tells more than 403.
        return True


@stream_request_body
class TooLarge(NotFound):
    """Answers a request whose announced body is over the limit, without reading it."""

    def prepare(self) -> None:
        # Tornado would answer 400 as well, after this answer and without a word of explanation.
        connection = cast(HTTP1Connection, self.request.connection)
        connection.set_max_body_size(sys.maxsize)
        raise Problem(413)
