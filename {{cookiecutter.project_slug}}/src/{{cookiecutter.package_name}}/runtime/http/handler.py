"""Base class of handlers: JSON responses, errors as ``application/problem+json``."""

import logging
import traceback
from asyncio import Future, Task
from collections.abc import Coroutine, Sequence
from http import HTTPStatus
from http.client import responses
from typing import Any, ClassVar, TypeVar, cast

import orjson
from tornado import web
from tornado.httputil import HTTPHeaders, ParseMultipartConfig
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler
from tornado.websocket import WebSocketClosedError

from ..http1.connections import Connections
from ..settings import Settings
from .hooks import RequestHooks, call_each, overriding, report_error
from .problem import Problem
from .request import Request
from .resources import Resources

CONNECTION_CLOSED = (StreamClosedError, WebSocketClosedError)
CLIENT_CLOSED_REQUEST = 499, "Client Closed Request"
"""Logged when the client closes the connection before the response has ended, as Nginx does."""

JSON = "application/json"
MAX_REASON_LENGTH = 200
"""Characters of the reason of a refusal. Some repeat a header."""

DETAILS = {
    403: "Requests like this one are not allowed.",
    405: "The header Allow lists the methods that are allowed.",
    500: "The cause is in the log of the service, under this request_id.",
}
"""What to do about an error that is not a `Problem` with a detail of its own."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Handler(RequestHandler):
    """Base class of the handlers of a service. A handler parses, calls and replies.

    A method named like an HTTP method, in lower case, handles it; it may be ``async``, and gets
    what the placeholders of the route matched. HEAD is handled by ``get``. ::

        class ShowOrder(Handler):
            config: Settings            # your own settings class, for type checkers

            async def get(self, number: str) -> None:
                order = await self.resources[ORDERS].find(number)
                if order is None:
                    raise Problem(404, "No such order.")
                self.reply({"number": number, "currency": self.config.currency})

    ``prepare`` runs before each method, and may raise a `Problem`: the place for authentication.
    ``self.set_header("Location", url)`` before `reply` adds a header. A method that the class does
    not have gets 405.

    `Problem` is for errors of the client. Any other exception is logged, reported to the
    extensions, and becomes a 500 without details. Blocking calls hold up every other request of
    the process: ``await asyncio.to_thread(call)``.

    A handler whose client disconnects goes on; ``on_connection_close`` is called. A stop waits for
    handlers, and for what they start with `background`.

    A form is parsed: ``self.get_body_argument("name")``, and ``self.request.files`` if the class
    sets `multipart`. A large upload is not held in memory if ``@tornado.web.stream_request_body``
    decorates the class: ``async def data_received(self, chunk: bytes)`` gets the body piece by
    piece, after ``prepare`` and before the method; it may raise a `Problem`.
    """

    max_body_size: ClassVar[int | None] = None
    """Bytes that the body of a request may have; None is APP_MAX_BODY_SIZE."""
    body_timeout: ClassVar[float | None] = None
    """Seconds that the body may take to arrive; None is APP_BODY_TIMEOUT."""
    multipart: ClassVar[ParseMultipartConfig | None] = None
    """The limits of multipart forms, such as ``ParseMultipartConfig(max_parts=10)``.

    None accepts none. Their files are held in memory, so `max_body_size` is what they may take.
    """

    request: Request
    config: Settings
    """The settings of the service."""
    resources: Resources
    """What the application has opened: ``self.resources[ORDERS]``."""

    def __init__(self, application: Any, request: Any, **arguments: Any) -> None:
        # Set first, so that `initialize`, which Tornado calls, can use them.
        self.config = application.config
        self.resources = application.resources
        self._hooks: Sequence[RequestHooks] = application.hooks
        super().__init__(application, request, **arguments)

    def clear(self) -> None:
        # As Tornado's, without the date and the name of the server, which the server adds or not.
        # Formatting the date takes as long as routing.
        self._headers = HTTPHeaders()
        self._headers["Content-Type"] = JSON
        self.set_default_headers()
        self._write_buffer = []
        self._status_code, self._reason = 200, "OK"

    def reply(self, body: object = None, status: int = 200) -> None:
        """Respond with `body` as JSON, or without a body: ``self.reply(status=204)``.

        `body` may hold what orjson serialises: dicts, lists, numbers, texts, dataclasses,
        datetimes, UUIDs. Raises `TypeError` for anything else.
        """
        self.set_status(status)
        self.finish(None if body is None else orjson.dumps(body))

    def render(self, template_name: str, **kwargs: Any) -> "Future[None]":
        """Respond with a page: a template of the folder that is Tornado's setting `template_path`.

        ``self.set_header("Content-Type", ...)`` before it if the template is not HTML.
        """
        if self._headers["Content-Type"] == JSON:
            self.set_header("Content-Type", "text/html; charset=UTF-8")
        return super().render(template_name, **kwargs)

    def background(self, coroutine: Coroutine[Any, Any, T]) -> Task[T]:
        """Start a task that may go on after the response: ``self.background(send(receipt))``.

        As `Application.background`: a stop waits for it, and an exception in it is logged and
        reported to the extensions, with this request.
        """
        application: Any = self.application
        task: Task[T] = application.background(coroutine, self.request)
        return task

    @property
    def is_draining(self) -> bool:
        """Whether the service is stopping, or this worker is being replaced."""
        return self._connections.draining.is_set()

    async def drain_started(self) -> None:
        """Wait until the service stops, or this worker is replaced.

        For a response that takes long: it can end early, before APP_DRAIN_TIMEOUT aborts it.
        """
        await self._connections.draining.wait()

    @property
    def _connections(self) -> Connections:
        """The record of the server."""
        application: Any = self.application
        return cast(Connections, application.connections)

    def check_trusted_origin(self, origin: str) -> bool:
        if super().check_trusted_origin(origin):
            return True
        # Not with cookies: what a browser sends by itself must not count as the user's wish.
        return origin in self.config.cors_origins and "Cookie" not in self.request.headers

    def decode_argument(self, value: bytes, name: str | None = None) -> str:
        try:
            return super().decode_argument(value, name)
        except HTTPError:
            # Tornado's message repeats the value, which may be a password.
            place = f"The argument {name}" if name else "The path"
            raise Problem(400, f"{place} is not valid UTF-8.") from None

    def check_etag_header(self) -> bool:
        # Tornado would search both headers in every response.
        return "If-None-Match" in self.request.headers and super().check_etag_header()

    def head(self, *args: str, **kwargs: str) -> Any:
        # Tornado leaves the body out of the response.
        return self.get(*args, **kwargs)

    def compute_etag(self) -> str | None:
        # Hashing every response is not worth it. Override if the version is known.
        return None

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        if not 400 <= status_code < 600:
            # An HTTPError with a status that is not an error.
            status_code = 500
            self.set_status(status_code)
        problem: dict[str, object] = {
            "type": "about:blank",
            "title": responses.get(status_code, "Unknown"),
            "status": status_code,
            "request_id": self.request.id,
        }
        if status_code in DETAILS:
            problem["detail"] = DETAILS[status_code]
        if isinstance(error, Problem):
            problem |= self._details(error)
        elif reason := _reason_of_tornado(error):
            problem["detail"] = f"{reason}."
        if error and self.settings.get("serve_traceback"):
            problem["traceback"] = "".join(traceback.format_exception(error))
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", ", ".join(implemented_methods(type(self))))
        self.set_header("Content-Type", "application/problem+json")
        self.finish(orjson.dumps(problem))

    def _details(self, error: Problem) -> dict[str, object]:
        for name, value in error.headers.items():
            self.set_header(name, value)
        details = {"detail": error.detail, "errors": error.errors}
        return {name: value for name, value in details.items() if value}

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        if self.request.headers_sent:
            # A truncated response must not look complete: close the connection.
            if not self.request.exchange.is_closed:
                self.request.exchange.abort()
            self.set_status(status_code)
            self.finish()
        else:
            super().send_error(status_code, **kwargs)

    def log_exception(self, typ: object, value: Any, tb: object) -> None:
        if isinstance(value, HTTPError):
            # Raised on purpose; the access line has the status and the reason.
            self.request.reason = _reason(value)
            level = logging.ERROR if value.status_code >= 500 else logging.DEBUG
            logger.log(level, "%s %s: %s", self.request.method, self.request.route, value)
        elif self._is_disconnection(value):
            logger.debug("client disconnected")
        else:
            logger.error("%s %s failed", self.request.method, self.request.route, exc_info=value)
            call_each(overriding(self._hooks, "request_failed"), self, value)
            report_error(self._hooks, value, self.request)

    def _is_disconnection(self, error: BaseException) -> bool:
        """Return whether an error says no more than that the client has left."""
        return is_connection_closed(error) and self.request.exchange.is_closed


def is_connection_closed(error: BaseException) -> bool:
    """Return whether an error, or each one of a group, is that a connection has closed."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(CONNECTION_CLOSED)[1] is None
    return isinstance(error, CONNECTION_CLOSED)


def implemented_methods(handler: type[RequestHandler]) -> list[str]:
    """Return the methods that a handler has, such as ``["GET", "HEAD"]``."""
    return [
        method
        for method in handler.SUPPORTED_METHODS
        # HEAD is always implemented, but stands for GET.
        if getattr(handler, method.replace("HEAD", "GET").lower())
        is not getattr(RequestHandler, method.lower())
    ]


def _reason(error: HTTPError) -> str:
    return (error.get_message() or "")[:MAX_REASON_LENGTH]


def _reason_of_tornado(error: BaseException | None) -> str | None:
    """Return why Tornado itself refuses a request: an argument is missing, an origin is another.

    The messages of other errors are for the log only.
    """
    if not isinstance(error, HTTPError) or error.status_code >= 500:
        return None
    raised_in = error.__traceback__
    while raised_in and raised_in.tb_next:
        raised_in = raised_in.tb_next
    if not raised_in or raised_in.tb_frame.f_globals["__name__"] != web.__name__:
        return None
    return _reason(error)
