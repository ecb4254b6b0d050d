"""Routes: from a path to a handler."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from tornado.httputil import HTTPServerRequest
from tornado.routing import Matcher, PathMatches, Rule
from tornado.web import RequestHandler
from tornado.websocket import WebSocketHandler

from ..http1.grammar import PATH_CHARACTER
from .event_stream import EventStream
from .request import Request

_PLACEHOLDER = re.compile(r"\{([^{}]*?)(\*?)\}")
# A path is compared as it arrives: percent-encoded, without the query.
_TEXT = re.compile(rf"{PATH_CHARACTER}*")


class Route(Rule):
    """A path template and its handler.

    ``Route("/orders/{number}", ShowOrder)`` calls ``ShowOrder.get(number)``. Arguments:

    - `path`: ``{name}`` matches one segment, ``{name*}`` the rest of the path, slashes included.
      The handler's method gets what matched, percent-decoded, as arguments.
    - `handler`: a subclass of `Handler`, `EventStream`, `WebSocket` or any handler of Tornado.
    - further keyword arguments are passed to the handler's ``initialize``, for example
      ``Route("/manuals/{path*}", StaticFiles, path="/srv/manuals")``.

    The template, not the path of the request, is what the access log and the metrics call a route.
    Raises `ValueError` if nothing can match it, or if a method of the handler does not take what
    the placeholders give.
    """

    def __init__(self, path: str, handler: type[RequestHandler], /, **arguments: Any) -> None:
        template = PathTemplate(path)
        _check_methods(template, handler)
        super().__init__(template, handler, arguments)


class PathTemplate(PathMatches):
    """Matches a path template and stores it on the request."""

    def __init__(self, template: str) -> None:
        self.template = template
        self.names: list[str] = []
        """Those of the placeholders."""
        super().__init__("".join(self._parse()))
        self._is_static = not self.names

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        if self._is_static:
            match: dict[str, Any] | None = {} if request.path == self.template else None
        else:
            match = super().match(request)
        if match is not None:
            cast(Request, request).route = self.template
        return match

    @property
    def first_segment(self) -> str | None:
        """What every path that matches begins with, up to the second slash; None if that varies."""
        segment = _first_segment(self.template)
        return None if "{" in segment else segment

    @property
    def shape(self) -> str:
        """Equal for templates that match the same paths, whatever their placeholders are called."""
        return _PLACEHOLDER.sub(r"{\2}", self.template)

    def _parse(self) -> Iterator[str]:
        """Yield the parts of a regular expression. Raises `ValueError`."""
        if not self.template.startswith("/"):
            raise self._error("a path begins with /")
        end = 0
        for placeholder in _PLACEHOLDER.finditer(self.template):
            yield self._parse_text(end, placeholder.start())
            end = placeholder.end()
            name, is_tail = placeholder.groups()
            if not name.isidentifier():
                rule = "is not {name} or {name*} with a name that Python allows"
                raise self._error(f"{placeholder[0]} {rule}")
            if name in self.names:
                raise self._error(f"the name {name} occurs twice")
            self.names.append(name)
            yield f"(?P<{name}>{'.*' if is_tail else '[^/]+'})"
        yield self._parse_text(end, len(self.template))

    def _parse_text(self, start: int, end: int) -> str:
        text = self.template[start:end]
        if "{" in text or "}" in text:
            raise self._error("a brace has no counterpart")
        if not _TEXT.fullmatch(text):
            raise self._error(
                f"{text!r} is in no path: write spaces and letters beyond ASCII percent-encoded, "
                "and leave out the query"
            )
        return re.escape(text)

    def _error(self, reason: str) -> ValueError:
        return ValueError(f"route {self.template!r}: {reason}")


class _FilePath(PathTemplate):
    """Matches the path of one file, and passes its name on."""

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        is_match = super().match(request) is not None
        return {"path_args": [self.template[1:]]} if is_match else None


def static_routes(
    prefix: str, handler: type[RequestHandler], arguments: Mapping[str, Any]
) -> list[Rule]:
    """Return the routes of Tornado's setting `static_path`, which come before all others."""
    files = ["/favicon.ico", "/robots.txt"]
    return [
        Route(prefix + "{path*}", handler, **arguments),
        *(Rule(_FilePath(file), handler, dict(arguments)) for file in files),
    ]


class RouteTable:
    """Finds the route of a path: the first one that matches, among those that can match.

    Tornado tries one route after the other, which takes long if there are hundreds.

    Raises `ValueError` if two routes match the same paths: the second one would never be found.
    """

    def __init__(self, routes: Sequence[Rule]) -> None:
        self._by_segment: dict[str, list[Rule]] = {}
        self._others: list[Rule] = []
        """The routes whose first segment varies."""
        _check_unique([route.matcher for route in routes])
        for route in routes:
            if not isinstance(route.matcher, PathTemplate):
                break  # it may match anything; Tornado finds it and what comes behind it
            segment = route.matcher.first_segment
            if segment is None:
                self._others.append(route)
                for candidates in self._by_segment.values():
                    candidates.append(route)
            else:
                self._by_segment.setdefault(segment, self._others.copy()).append(route)

    def find(self, request: Request) -> tuple[Rule, dict[str, Any]] | None:
        """Return the route, and the arguments that its template gives; None if none matches."""
        for route in self._by_segment.get(_first_segment(request.path), self._others):
            arguments = route.matcher.match(request)
            if arguments is not None:
                return route, arguments
        return None


def _first_segment(path: str) -> str:
    return path[1:].partition("/")[0]


def _check_unique(matchers: Sequence[Matcher]) -> None:
    """Raise `ValueError` if two templates match the same paths."""
    found: dict[str, str] = {}
    for matcher in matchers:
        if isinstance(matcher, PathTemplate):
            if matcher.shape in found:
                raise ValueError(
                    f"route {matcher.template!r} matches the same paths as "
                    f"{found[matcher.shape]!r} before it"
                )
            found[matcher.shape] = matcher.template


def _check_methods(template: PathTemplate, handler: type[RequestHandler]) -> None:
    """Raise `ValueError` if a method of a handler cannot be called with what a template gives."""
    arguments = dict.fromkeys(template.names, "")
    names = [method.lower() for method in handler.SUPPORTED_METHODS]
    if issubclass(handler, WebSocketHandler):
        names.append("open")
    if issubclass(handler, EventStream):
        names.append("stream")
    for name in names:
        method = getattr(handler, name, None)
        if method is None or method is getattr(RequestHandler, name, None):
            continue
        try:
            inspect.signature(method).bind("self", **arguments)
        except TypeError as error:
            raise ValueError(
                f"route {template.template!r}: {handler.__name__}.{name} does not take what the "
                f"placeholders give: {error}"
            ) from None
