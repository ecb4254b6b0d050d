"""From a request to its handler, and what holds for every request, whoever handles it.

A request gets its id, its route and its true client here, and counts as in flight from here on
(`connections.py` says until when). Handlers that do not derive from `web.Handler` are no exception;
only the bodies of their errors are their own.
"""

import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

from tornado import web as tornado_web
from tornado.httputil import (
    HTTPHeaders,
    HTTPServerRequest,
    ParseBodyConfig,
    ParseMultipartConfig,
    set_parse_body_config,
)
from tornado.routing import PathMatches, Rule

from .forwarded import TrustedProxies
from .headers import StandardHeaders
from ..logs.formatters import log_access
from ..extensions import Observer
from .request import NO_ROUTE, Request, request_id
from ..settings import Settings
from .validation import check_request
from .handler import NotFound, TooLarge
from .websocket import WebSocket

_PLACEHOLDER = re.compile(r"\\\{(\w+)(\\\*)?\\\}")  # in a template that `re.escape` has treated
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

Resource = Callable[[], AbstractAsyncContextManager[object]]


def _group(placeholder: re.Match[str]) -> str:
    name, rest = placeholder.groups()
    return f"(?P<{name}>{'.*' if rest else '[^/]+'})"


class Route(PathMatches):
    """Matches a path template such as ``/greetings/{name}`` and notes it on the request.

    Each ``{name}`` stands for one segment, which the handler's method gets as an argument;
    ``{name*}`` stands for all the rest.
    """

    def __init__(self, template: str) -> None:
        super().__init__(_PLACEHOLDER.sub(_group, re.escape(template)))
        self._template = template

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        match = super().match(request)
        if match is not None:
            cast(Request, request).route = self._template
        return match


class Application(tornado_web.Application):
    """Tornado's application with this service's conventions.

    `routes` are ``(template, handler)`` or ``(template, handler, arguments of its initialize)``.
    `resources` are functions that return an async context manager. They are entered before the
    service is ready and left after it has drained; handlers find what they yield under the same
    name in ``self.settings``. `observers` see every request.
    """

    def __init__(
        self,
        settings: Settings,
        routes: Sequence[tuple[Any, ...]],
        *,
        resources: Mapping[str, Resource] | None = None,
        observers: Sequence[Observer] = (),
        access_level: int = logging.INFO,
    ) -> None:
        super().__init__(
            [Rule(Route(template), *target) for template, *target in routes],
            default_handler_class=NotFound,
            transforms=[StandardHeaders],
            cross_origin_protection=True,
            serve_traceback=settings.debug,
            websocket_max_message_size=settings.max_body_size,
            websocket_ping_interval=30,
        )
        # Nothing here takes uploads in this format, whose parser has a history of vulnerabilities.
        # Tornado keeps this for the whole process.
        set_parse_body_config(ParseBodyConfig(multipart=ParseMultipartConfig(enabled=False)))
        self.resources = resources or {}
        self.observers = observers
        self.in_flight: set[object] = set()
        """The connections that carry a request now."""
        self.websockets: set[WebSocket] = set()
        self._access_level = access_level
        self._max_body_size = settings.max_body_size
        self._proxies = TrustedProxies(settings.trusted_proxies)

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """Tornado calls this once for each request, when its headers have arrived."""
        check_request(request)
        note = cast(Request, request)
        note.started = time.perf_counter()
        note.route = NO_ROUTE
        note.answer_begun = False
        note.body_size = 0
        self.in_flight.add(request.server_connection)
        self._proxies.apply(request)
        # The id stands in the headers, where a client or proxy puts it: there it is at hand for
        # handlers of every kind and for calls to other services.
        if not _SANE_ID.fullmatch(request.headers.get("X-Request-ID", "")):
            request.headers["X-Request-ID"] = secrets.token_hex(16)
        request_id.set(request.headers["X-Request-ID"])
        if _body_size(request.headers) > self._max_body_size:
            delegate: Any = self.get_handler_delegate(request, TooLarge)
        else:
            delegate = super().find_handler(request, **kwargs)
        for observer in self.observers:
            observer.begin(note)
        return delegate

    def log_request(self, handler: tornado_web.RequestHandler) -> None:
        """Tornado calls this once for each answer."""
        log_access(handler, self._access_level)
        for observer in self.observers:
            observer.end(handler)


def _body_size(headers: HTTPHeaders) -> int:
    """Read how large a body is announced. What makes no sense Tornado refuses in a moment."""
    length = headers.get("Content-Length", "")
    if "Transfer-Encoding" in headers or not length.isdecimal() or len(length) > 18:
        return 0
    return int(length)
