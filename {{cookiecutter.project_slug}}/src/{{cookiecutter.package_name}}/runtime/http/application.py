"""The application: what applies to every request, whichever handler gets it.

Each request is validated, identified, counted and routed here. Plain Tornado handlers are
included; only the bodies of their errors differ.
"""

import logging
import time
from asyncio import AbstractEventLoop, Future, Task
from collections.abc import Awaitable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar, cast

from tornado import web
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerRequest,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import StreamClosedError
from tornado.routing import Rule

from ..http1.connection import NO_DELEGATE
from ..http1.connections import Connections
from ..http1.errors import RequestError
from ..http1.exchange import Exchange
from ..http1.server import HTTPServer
from ..monitor.statistics import RequestStatistics
from ..settings import Settings
from . import tasks
from .access_log import log_access
from .cors import AllowedOrigins, Preflight
from .forwarded import TrustedProxies
from .handler import CLIENT_CLOSED_REQUEST, Handler, implemented_methods, is_connection_closed
from .headers import default_headers
from .hooks import RequestHooks, call_each, overriding, report_error
from .problem import Problem
from .request import Request
from .resources import Resource, Resources, declare
from .routing import Route, RouteTable, static_routes
from .static import StaticFiles

T = TypeVar("T")

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
    access line at level info for each request, templates and the versions of static files kept
    in memory unless APP_DEBUG is true.
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
            "compiled_template_cache": not settings.debug,
            "static_hash_cache": not settings.debug,
            # Tornado's setting `debug` would start it. It must not restart a single worker.
            "autoreload": False,
            "static_url_prefix": "/static/",
            "static_handler_class": StaticFiles,
            "websocket_max_message_size": settings.max_body_size,
            "websocket_ping_interval": WEBSOCKET_PING_INTERVAL,
        }
        options = defaults | tornado_settings
        # Tornado's own routes for static files would come behind those of the table, and have no
        # name in the access log and the metrics.
        static_path = options.pop("static_path", None)
        all_routes: list[Rule] = list(routes)
        if static_path is not None:
            arguments = {**options.get("static_handler_args", {}), "path": static_path}
            prefix, handler = options["static_url_prefix"], options["static_handler_class"]
            all_routes = static_routes(prefix, handler, arguments) + all_routes
        super().__init__(all_routes, **options)
        if static_path is not None:
            self.settings["static_path"] = static_path
        self._route_table = RouteTable(all_routes)
        self.config = settings
        self.resources = Resources()
        self.declared_resources = declare(resources)
        """What is opened before the process is ready."""
        self.hooks = ()
        self.connections = Connections()
        self.statistics = RequestStatistics()
        """What is counted. The processes of a service share what follows it."""
        self._access_level = access_level
        self._proxies = TrustedProxies(settings.trusted_proxies)
        self._allowed_origins = (
            AllowedOrigins(settings.cors_origins) if settings.cors_origins else None
        )
        tasks.simplify_tasks()

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
        allowed = self._allowed_origins
        headers = allowed.other_headers if allowed else default_headers()
        return HTTPServer(self, self.config, self.connections, headers)

    def background(
        self, coroutine: Coroutine[Any, Any, T], request: Request | None = None
    ) -> Task[T]:
        """Start a task that may go on after a response: ``self.background(send(receipt))``.

        It is drained like a request in flight: a stop waits for it, for APP_DRAIN_TIMEOUT at most,
        before the resources are closed. An exception in it is logged and reported to the
        extensions, with the request that it is for. Handlers have it, too.
        """
        return tasks.start_background_task(
            coroutine, self.connections.tasks, lambda error: self._report(error, request)
        )

    def handle_error_of_loop(self, loop: AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log, and report to the extensions, an error that is not awaited. For the event loop."""
        loop.default_exception_handler(context)
        error = context.get("exception")
        if error and not is_connection_closed(error):  # a client has left
            self._report(error, None)

    def _report(self, error: BaseException, request: Request | None) -> None:
        report_error(self._hooks, error, request)

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        """Tornado calls this when a connection waits for a request."""
        return RequestDelegate(self, server_conn, request_conn)

    def dispatch(self, request: Request) -> HTTPMessageDelegate:
        """Return what handles a request whose headers have arrived. Raises `HTTPInputError`."""
        self._proxies.apply(request)
        request.identify()
        try:
            delegate = self._find_handler(request)
            if self._allowed_origins and self._allowed_origins.apply(request):
                delegate = self._find_preflight_handler(request, delegate)
            return delegate
        finally:  # also if that fails: each request has a start and an end
            call_each(self._started_hooks, request)

    def _find_handler(self, request: Request) -> HTTPMessageDelegate:
        found = self._route_table.find(request)
        if not found:
            return cast(HTTPMessageDelegate, self.find_handler(request))
        route, arguments = found
        return cast(
            HTTPMessageDelegate,
            self.get_handler_delegate(request, route.target, route.target_kwargs, **arguments),
        )

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

    def _find_preflight_handler(
        self, request: Request, delegate: HTTPMessageDelegate
    ) -> HTTPMessageDelegate:
        """Return what handles a preflight; `delegate` if there is no such route."""
        handler = getattr(delegate, "handler_class", None)
        if handler is None or handler is self.settings["default_handler_class"]:
            return delegate
        methods = implemented_methods(handler)
        if not methods or "OPTIONS" in methods:
            return delegate
        preflight = self.get_handler_delegate(request, Preflight, {"methods": methods})
        return cast(HTTPMessageDelegate, preflight)

    def add_handlers(self, host_pattern: str, host_handlers: Any) -> None:
        """Add handlers for a host, which come before the others."""
        self._route_table = RouteTable(())
        super().add_handlers(host_pattern, host_handlers)

    def log_request(self, handler: web.RequestHandler) -> None:
        """Tornado calls this once for each response."""
        request = cast(Request, handler.request)
        if request.exchange.client_left and not request.stream_started:
            # Whether the response has arrived is unknown. A stream of events has no other end.
            handler.set_status(*CLIENT_CLOSED_REQUEST)
        # Once for the access line, the statistics and the metrics: reading the clock takes as long
        # as counting.
        ended = time.perf_counter()
        request.duration = (request.stream_started or ended) - request.start_time
        if "log_function" in self.settings:
            super().log_request(handler)
        else:
            log_access(handler, ended - request.start_time, self._access_level)
        self.statistics.record(handler.get_status(), request.duration)
        call_each(self._finished_hooks, handler)


class RequestDelegate(HTTPMessageDelegate):
    """Receives one request of a connection and passes it to its handler."""

    request: Request | None = None
    """None until its headers have arrived."""

    def __init__(
        self, application: Application, server_conn: object, request_conn: HTTPConnection
    ) -> None:
        self._application = application
        self._server_conn = server_conn
        self._request_conn = request_conn
        # A connection may close before the headers of a request have arrived.
        self._delegate = NO_DELEGATE
        self.tasks = application.connections.tasks

    def __str__(self) -> str:
        return f"{self.request.method} {self.request.route}" if self.request else "a request"

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        request = Request(
            cast(Exchange, self._request_conn),
            self._server_conn,
            cast(RequestStartLine, start_line),
            headers,
        )
        self.request = request
        self._delegate = self._application.dispatch(request)
        tasks.owner = self
        try:
            return self._delegate.headers_received(start_line, headers)
        finally:
            tasks.owner = None

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._delegate.data_received(chunk)

    def finish(self) -> None:
        tasks.owner = self
        try:
            self._delegate.finish()
        finally:
            tasks.owner = None

    def on_connection_close(self) -> None:
        self._delegate.on_connection_close()

    def discard_body(self) -> None:
        """End a handler that waits for more of a body, although it has responded."""
        body: Future[None] | None = getattr(self.request, "_body_future", None)
        if body and not body.done():
            body.set_exception(StreamClosedError())
            body.exception()  # otherwise asyncio logs it if no handler awaits it

    def refuse(self, error: BaseException) -> bool:
        """End a request that its handler cannot handle.

        For example its body is too large, or the handler's ``initialize`` raised an error. There is
        one response, if it is possible, and one access line in any case. Return False if the
        request is not known.
        """
        request = self.request
        if not request:
            return False
        request.body = b""  # it is not parsed once more
        if request.headers_sent or request.exchange.is_closed:
            Refused(self._application, request, error=error).end_without_response()
        else:
            self._delegate = self._application.get_handler_delegate(
                request, Refused, {"error": error}
            )
            self.finish()
        return True


class NotFound(Handler):
    """Handles requests that match no route."""

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        self.request.body = b""  # not parsed: the response is 404 whatever is wrong with it

    def prepare(self) -> None:
        raise Problem(404, "No route matches this path.")

    def check_trusted_origin(self, origin: str) -> bool:
        # 404 instead of 403 for cross-origin requests.
        return True

    def check_xsrf_cookie(self) -> None:
        # The same for forms without a token.
        pass


class Refused(NotFound):
    """Handles requests that their handler cannot handle, because of an error."""

    def initialize(self, error: BaseException) -> None:
        if isinstance(error, RequestError):
            error = Problem(error.status, error.detail)
        self._error = error

    def prepare(self) -> None:
        raise self._error

    def end_without_response(self) -> None:
        """Log the request: a response is not possible any more."""
        error, exchange = self._error, self.request.exchange
        self.log_exception(type(error), error, error.__traceback__)
        self.set_status(error.status_code if isinstance(error, web.HTTPError) else 500)
        if not exchange.is_closed:
            exchange.abort()  # a truncated response must not look complete
        exchange.finish()
        self.application.log_request(self)
