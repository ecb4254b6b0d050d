"""What handlers are made of: JSON in and out, every error as ``application/problem+json``.

A handler parses, calls and replies. It raises `Problem` for what the client did wrong; what it
does not expect becomes a 500 whose cause is in the log and not in the answer.
"""

import logging
import re
import sys
import traceback
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPServerRequest
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler, stream_request_body
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from .logs import log_access
from .request import Request, is_last

if TYPE_CHECKING:
    from .routing import Application

MAX_ERRORS = 100
"""Errors that an answer lists; a body can have a hundred thousand."""

_WEBSOCKET_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")

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
        super().__init__(status)
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}


class Body(BaseModel):
    """Base of the JSON bodies that handlers take. Unknown members are an error: most are typos."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, request: HTTPServerRequest) -> Self:
        """Read the body of a request. Raises `Problem` 400, 415 or 422."""
        media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if media_type != "application/json" or "Content-Encoding" in request.headers:
            raise Problem(415, "The body must be application/json, not compressed.")
        try:
            return cls.of(orjson.loads(request.body))
        except orjson.JSONDecodeError as error:
            raise Problem(400, f"The body is not JSON: {error}.") from None

    @classmethod
    def of(cls, data: object) -> Self:
        """Check data from outside. Raises `Problem` 422 that lists all that is wrong."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            if error.error_count() > MAX_ERRORS:
                raise Problem(422, f"{error.error_count()} things are wrong.") from None
            errors = [
                {"pointer": "".join(f"/{part}" for part in detail["loc"]), "detail": detail["msg"]}
                for detail in error.errors(include_url=False, include_input=False)
            ]
            raise Problem(422, errors=errors) from None


class Handler(RequestHandler):
    """Base of the service's handlers."""

    request: Request
    application: "Application"

    def set_default_headers(self) -> None:
        self.set_header("Content-Type", "application/json")

    def reply(self, body: object, status: int = 200) -> None:
        """Answer with `body` as JSON."""
        self.set_status(status)
        self.finish(orjson.dumps(body))

    def head(self, *args: str, **kwargs: str) -> Any:
        # Tornado leaves the body out of the answer.
        return self.get(*args, **kwargs)

    def compute_etag(self) -> str | None:
        # Hashing every answer costs more than it saves. A handler that knows a version returns it.
        return None

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        problem: dict[str, object] = {
            "type": "about:blank",
            "title": HTTPStatus(status_code).phrase,
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

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if isinstance(value, HTTPError):
            # It was raised on purpose and the access line shows its status.
            logger.debug("%s", value)
        elif isinstance(value, StreamClosedError | WebSocketClosedError):
            logger.debug("the client has gone")
        else:
            logger.error("%s %s failed", self.request.method, self.request.route, exc_info=value)

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


class WebSocket(Handler, WebSocketHandler):
    """Base of the service's WebSockets: known to the application, so that a stop can close them."""

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
        if not _WEBSOCKET_KEY.fullmatch(headers.get("Sec-WebSocket-Key", "")):
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
