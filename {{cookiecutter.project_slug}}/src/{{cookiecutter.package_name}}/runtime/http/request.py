"""A request, with what the runtime knows about it whichever handler gets it."""

import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from tornado.escape import parse_qs_bytes
from tornado.httputil import (
    HTTPFile,
    HTTPHeaders,
    HTTPInputError,
    HTTPServerRequest,
    ParseBodyConfig,
    ParseMultipartConfig,
    RequestStartLine,
    parse_body_arguments,
    split_host_and_port,
)

from ..http1.errors import RequestError
from ..http1.exchange import Exchange
from ..logs.context import request_id
from .problem import Problem

UNMATCHED_ROUTE = "none"
"""The route of requests that match none: a constant, to bound the number of label values."""

MAX_QUERY_ARGUMENTS = 1000
"""Arguments of a query; parsing them takes time."""

ID_BYTES = 16
IDS_PER_CALL = 64

_VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


class Request(HTTPServerRequest):
    """Tornado's request, with its route, its id and what has been sent in response."""

    reason: str | None = None
    """Why the request is refused, for the access line."""
    stream_started: float | None = None
    """When a stream of events began, on the clock of `start_time`; None for other responses."""
    duration: float = 0.0
    """Seconds that the response took, for statistics; set when it has ended.

    For a stream of events, which has no end of its own, it is the time until its beginning.
    """
    _multipart: ParseMultipartConfig | None = None
    """The limits for a multipart body; None if the handler does not accept any."""

    def __init__(
        self,
        connection: Exchange,
        server_connection: object,
        start_line: RequestStartLine,
        headers: HTTPHeaders,
    ) -> None:
        # Not `super().__init__`: it checks again what the server has checked, and parses and copies
        # a query even if there is none, which takes longer than reading the whole request.
        self.method, self.uri, self.version = start_line
        self.headers = headers
        self.body = b""
        self.connection = connection
        self.exchange = connection
        """The connection, as far as this request is concerned."""
        self.server_connection = server_connection
        self.remote_ip = connection.context.remote_ip
        self.protocol = connection.context.protocol
        # HTTP/1.0 does not require it.
        self.host = headers["Host"] if "Host" in headers else "127.0.0.1"  # noqa: SIM401 - faster
        self.host_name = _host_name(self.host)
        self.path, _, self.query = self.uri.partition("?")
        self.arguments = _arguments(self.query)
        self.query_arguments = {name: values.copy() for name, values in self.arguments.items()}
        self.body_arguments: dict[str, list[bytes]] = {}
        self.files: dict[str, list[HTTPFile]] = {}
        self.start_time = time.perf_counter()
        """When the headers had arrived, in seconds of `time.perf_counter`."""
        self.route = UNMATCHED_ROUTE
        """The path template that matched, such as ``/greetings/{name}``."""

    def request_time(self) -> float:
        """Return the seconds since the headers had arrived."""
        return time.perf_counter() - self.start_time

    def apply_limits(self, handler: type) -> None:
        """Apply the limits for bodies that a class of handlers may have; see `Handler`."""
        if (size := getattr(handler, "max_body_size", None)) is not None:
            self.exchange.set_max_body_size(size)
        if (seconds := getattr(handler, "body_timeout", None)) is not None:
            self.exchange.set_body_timeout(seconds)
        self._multipart = getattr(handler, "multipart", None)

    def _parse_body(self) -> None:
        # Most requests have none.
        if self.body and "Content-Type" in self.headers:
            self._parse_form(self.headers["Content-Type"])

    def _parse_form(self, media_type: str) -> None:
        """Parse a body that is a form. Raises `Problem`."""
        config, arguments = ParseBodyConfig(), self.body_arguments
        if media_type.startswith("multipart/form-data"):
            if not self._multipart:
                raise Problem(415, "This path does not accept multipart/form-data.")
            # Tornado counts what is before the first part as one.
            config.multipart = replace(self._multipart, max_parts=self._multipart.max_parts + 1)
        try:
            parse_body_arguments(
                media_type, self.body, arguments, self.files, self.headers, config=config
            )
        except HTTPInputError as error:
            raise Problem(400, f"The form cannot be read: {error}.") from None
        for name, values in arguments.items():
            self.arguments.setdefault(name, []).extend(values)

    @property
    def headers_sent(self) -> bool:
        """Whether status and headers of the response have been sent."""
        return self.exchange.headers_sent

    @property
    def response_size(self) -> int:
        """Body bytes of the response sent so far."""
        return self.exchange.body_size

    @property
    def id(self) -> str:
        """The request id, which the response and every log record of this request contain."""
        return self.exchange.request_id

    def identify(self) -> None:
        """Keep a valid X-Request-ID of the client, or create one."""
        headers = self.headers
        if "X-Request-ID" in headers and _VALID_REQUEST_ID.fullmatch(headers["X-Request-ID"]):
            identifier = headers["X-Request-ID"]
        else:
            # Kept in the request headers, so that any handler can read and forward it.
            identifier = headers["X-Request-ID"] = next(_new_ids)
        self.exchange.request_id = identifier
        request_id.set(identifier)


def _random_ids() -> Iterator[str]:
    """Yield random ids. One system call makes many of them."""
    while True:
        digits = secrets.token_hex(ID_BYTES * IDS_PER_CALL)
        for start in range(0, len(digits), 2 * ID_BYTES):
            yield digits[start : start + 2 * ID_BYTES]


# Only a process that serves asks it, so no two processes share random bytes.
_new_ids = _random_ids()


@lru_cache(maxsize=256)
def _host_name(host: str) -> str:
    return split_host_and_port(host.lower())[0]


def _arguments(query: str) -> dict[str, list[bytes]]:
    """Parse a query. Raises `RequestError`."""
    if not query:
        return {}
    try:
        return parse_qs_bytes(query, keep_blank_values=True, max_num_fields=MAX_QUERY_ARGUMENTS)
    except ValueError:
        detail = f"A query may have at most {MAX_QUERY_ARGUMENTS} arguments."
        raise RequestError(400, detail) from None
