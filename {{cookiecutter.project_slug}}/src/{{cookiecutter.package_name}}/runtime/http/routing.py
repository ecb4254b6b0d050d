"""Routes: from a path to a handler."""

import re
from collections.abc import Sequence
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
      ``Route("/files/{path*}", StaticFileHandler, path="/srv/files")``.

    The template, not the path of the request, is what the access log and the metrics call a route.
    """

    def __init__(self, path: str, handler: type[RequestHandler], /, **arguments: Any) -> None:
        super().__init__(PathTemplate(path), handler, arguments)


class PathTemplate(PathMatches):
    """Matches a path template and stores it on the request."""

    def __init__(self, template: str) -> None:
        super().__init__(_PLACEHOLDER.sub(_placeholder_regex, re.escape(template)))
        self.template = template
        self.is_static = not _PLACEHOLDER.search(re.escape(template))
        """Whether it matches one path only, which is the template."""

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        match = super().match(request)
        if match is not None:
            cast(Request, request).route = self.template
        return match


def static_routes(routes: Sequence[Rule]) -> dict[str, Rule]:
    """Return the routes that can be found by their paths, because no route before them matches."""
    found: dict[str, Rule] = {}
    others: list[PathTemplate] = []
    for route in routes:
        template = route.matcher
        if not isinstance(template, PathTemplate):
            break  # it may match anything
        path = template.template
        if not template.is_static:
            others.append(template)
        elif not any(other.regex.match(path) for other in others):
            found.setdefault(path, route)
    return found


def _placeholder_regex(placeholder: re.Match[str]) -> str:
    name, is_tail = placeholder.groups()
    return f"(?P<{name}>{'.*' if is_tail else '[^/]+'})"
