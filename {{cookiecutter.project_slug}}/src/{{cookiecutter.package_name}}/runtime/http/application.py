"""The application: what applies to every request, whichever handler gets it.

Each request is validated, identified, counted and routed here. Plain Tornado handlers are
included; only the bodies of their errors differ.
"""

import logging
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, cast

from tornado import web
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerRequest,
    RequestStartLine,
    ResponseStartLine,
)

from ..http1.connections import Connections
from ..http1.errors import RequestError
from ..http1.exchange import Exchange
from ..http1.server import HTTPServer
from ..settings import Settings
from .access_log import log_access
from .forwarded import TrustedProxies
from .handler import CLIENT_CLOSED_REQUEST, Handler
from .headers import DEFAULT_HEADERS
from .hooks import RequestHooks, call_each, overriding
from .problem import Problem
from .request import Request
from .resources import Resource, Resources
from .routing import Route, RouteTable
from .tasks import simplify_tasks

WEBSOCKET_PING_INTERVAL = 30
"""Seconds between two pings of an open WebSocket; without a pong it is closed."""


class Application(web.Application):
    """A Tornado application with the conventions of the runtime.

    Arguments:

    - `settings`: handlers find it as ``self.config``.
    - `routes`: the first one that matches counts.
    - `resources`: pools and clients, opened in this order and closed in the reverse order.
    - further keyword arguments are settings of `tornado.web.Application`, such as
      ``static_path=`` or ``log_function=``; they replace the defaults of the runtime.

    - `access_level`: the level of access lines; those of 500 and above are errors.

    Defaults: cross-origin protection on, WebSocket messages of at most APP_MAX_BODY_SIZE, an
    access line at level info for each request.
    """

    def __init__(
        self,
        settings: Settings,
        routes: Sequence[Route],
        *,
        resources: Iterable[Resource[Any]] = (),
        access_level: int = logging.INFO,
        **tornado_settings: Any,
    ) -> None:
        defaults: dict[str, Any] = {
            "default_handler_class": NotFound,
            "cross_origin_protection": True,
            "serve_traceback": settings.debug,
            "websocket_max_message_size": settings.max_body_size,
            "websocket_ping_interval": WEBSOCKET_PING_INTERVAL,
        }
        super().__init__(list(routes), **(defaults | tornado_settings))
        self._route_table = RouteTable(routes)
        self.config = settings
        self.resources = Resources()
        self.declared_resources = tuple(resources)
        """What is opened before the process is ready."""
        self.hooks = ()
        self.connections = Connections()
        self._access_level = access_level
        self._proxies = TrustedProxies(settings.trusted_proxies)
        simplify_tasks()

    @property
    def hooks(self) -> Sequence[RequestHooks]:
        """What is called for each request."""
        return self._hooks

    @hooks.setter
    def hooks(self, hooks: Sequence[RequestHooks]) -> None:
        self._hooks = hooks
        self._started_hooks = overriding(hooks, "request_started")
        self._finished_hooks = overriding(hooks, "request_finished")

    def create_server(self) -> HTTPServer:
        """Return a server for this application. Call it in the event loop."""
        return HTTPServer(self, self.config, self.connections, DEFAULT_HEADERS)

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        """Tornado calls this when a connection waits for a request."""
        return RequestDelegate(self, server_conn, request_conn)

    def dispatch(self, request: Request) -> HTTPMessageDelegate:
        """Return what handles a request whose headers have arrived. Raises `HTTPInputError`."""
        self._proxies.apply(request)
        request.identify()
        delegate = self._find_handler(request)
        call_each(self._started_hooks, request)
        return delegate

    def _find_handler(self, request: Request) -> HTTPMessageDelegate:
        found = self._route_table.find(request)
        if not found:
            return cast(HTTPMessageDelegate, self.find_handler(request))
        route, arguments = found
        delegate: HTTPMessageDelegate = self.get_handler_delegate(
            request, route.target, route.target_kwargs, **arguments
        )
        return delegate

    def get_handler_delegate(
        self,
        request: HTTPServerRequest,
        target_class: type[web.RequestHandler],
        target_kwargs: dict[str, Any] | None = None,
        path_args: list[bytes] | None = None,
        path_kwargs: dict[str, bytes] | None = None,
    ) -> Any:
        """Return what creates the handler of a request, and apply the limits of its class."""
        if cast(Request, request).exchange.has_body:
            cast(Request, request).apply_limits(target_class)
        return super().get_handler_delegate(
            request, target_class, target_kwargs, path_args, path_kwargs
        )

    def add_handlers(self, host_pattern: str, host_handlers: Any) -> None:
        """Add handlers for a host, which come before the others."""
        self._route_table = RouteTable(())
        super().add_handlers(host_pattern, host_handlers)

    def log_request(self, handler: web.RequestHandler) -> None:
        """Tornado calls this once for each response."""
        if cast(Request, handler.request).exchange.client_left:
            # Whether the response has arrived is unknown.
            handler.set_status(*CLIENT_CLOSED_REQUEST)
        if "log_function" in self.settings:
            super().log_request(handler)
        else:
            log_access(handler, self._access_level)
        call_each(self._finished_hooks, handler)


# Does nothing: a connection may close before the headers of a request have arrived.
_NO_DELEGATE = HTTPMessageDelegate()


class RequestDelegate(HTTPMessageDelegate):
    """Receives one request of a connection and passes it to its handler."""

    def __init__(
        self, application: Application, server_conn: object, request_conn: HTTPConnection
    ) -> None:
        self._application = application
        self._server_conn = server_conn
        self._request_conn = request_conn
        self._delegate = _NO_DELEGATE
        self._request: Request

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self._request = Request(
            cast(Exchange, self._request_conn),
            self._server_conn,
            cast(RequestStartLine, start_line),
            headers,
        )
        self._delegate = self._application.dispatch(self._request)
        return self._delegate.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._delegate.data_received(chunk)

    def finish(self) -> None:
        self._delegate.finish()

    def on_connection_close(self) -> None:
        self._delegate.on_connection_close()

    def refuse(self, error: RequestError | web.HTTPError) -> None:
        """Respond to a request whose body cannot be read, or is too large or too slow.

        Also if its handler refuses the body before its end.
        """
        self._delegate = self._application.get_handler_delegate(
            self._request, Refused, {"error": error}
        )
        self._delegate.finish()


class NotFound(Handler):
    """Handles requests that match no route."""

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        self.request.body = b""  # not parsed: the answer is 404 whatever is wrong with it

    def prepare(self) -> None:
        raise Problem(404, "No route matches this path.")

    def check_trusted_origin(self, origin: str) -> bool:
        # 404 instead of 403 for cross-origin requests.
        return True


class Refused(NotFound):
    """Handles requests whose body cannot be read."""

    def initialize(self, error: RequestError | web.HTTPError) -> None:
        self._error = error

    def prepare(self) -> None:
        if isinstance(self._error, web.HTTPError):
            raise self._error
        raise Problem(self._error.status, self._error.detail)
