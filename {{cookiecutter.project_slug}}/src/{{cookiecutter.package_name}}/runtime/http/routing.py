"""Routes: from a path to a handler."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from tornado.httputil import HTTPServerRequest
from tornado.routing import PathMatches, Rule
from tornado.web import RequestHandler

from .request import Request

_PLACEHOLDER = re.compile(r"\\\{(\w+)(\\\*)?\\\}")  # in a template that `re.escape` has escaped


class Route(Rule):
    """A path template and its handler.

    ``Route("/orders/{number}", ShowOrder)`` calls ``ShowOrder.get(number)``. Arguments:

    - `path`: ``{name}`` matches one segment, ``{name*}`` the rest of the path, slashes included.
      The handler's method gets what matched, percent-decoded, as arguments.
    - `handler`: a subclass of `Handler`, `WebSocket` or any handler of Tornado.
    - further keyword arguments are passed to the handler's ``initialize``, for example
      ``Route("/manuals/{path*}", StaticFiles, path="/srv/manuals")``.

    The template, not the path of the request, is what the access log and the metrics call a route.
    """

    def __init__(self, path: str, handler: type[RequestHandler], /, **arguments: Any) -> None:
        super().__init__(PathTemplate(path), handler, arguments)


class PathTemplate(PathMatches):
    """Matches a path template and stores it on the request."""

    def __init__(self, template: str) -> None:
        super().__init__(_PLACEHOLDER.sub(_placeholder_regex, re.escape(template)))
        self.template = template
        self._is_static = not _PLACEHOLDER.search(re.escape(template))

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
    """

    def __init__(self, routes: Sequence[Rule]) -> None:
        self._by_segment: dict[str, list[Rule]] = {}
        self._others: list[Rule] = []
        """The routes whose first segment varies."""
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


def _placeholder_regex(placeholder: re.Match[str]) -> str:
    name, is_tail = placeholder.groups()
    return f"(?P<{name}>{'.*' if is_tail else '[^/]+'})"
