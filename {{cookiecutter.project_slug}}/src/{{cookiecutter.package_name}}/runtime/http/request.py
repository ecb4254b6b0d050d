"""What the service knows of a request, whichever handler answers it."""

from contextvars import ContextVar

from tornado.http1connection import HTTP1ServerConnection
from tornado.httputil import HTTPServerRequest

NO_ROUTE = "none"
"""The route of a request that matched none: one constant, however many paths are tried."""

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that this task works for; every log record carries it."""


class Request(HTTPServerRequest):
    """Tornado's request, with what `Application.find_handler` notes on it. Only ever cast to."""

    route: str
    """The path template that matched, such as ``/greetings/{name}``."""

    answer_begun: bool
    """Whether status and headers have been sent."""

    body_size: int
    """Bytes of the answer's body so far."""

    started: float
    """When the headers had arrived, in seconds of `time.perf_counter`."""


def ends_connection(request: HTTPServerRequest) -> bool:
    """Tell whether the client is to send its next request on another connection."""
    stream = getattr(request.server_connection, "stream", None)
    return is_last(request) or getattr(stream, "for_one_request", False)


def is_last(request: HTTPServerRequest) -> bool:
    """Tell whether the connection ends with this request because the service is stopping."""
    connection = request.server_connection
    return isinstance(connection, HTTP1ServerConnection) and connection.params.no_keep_alive
