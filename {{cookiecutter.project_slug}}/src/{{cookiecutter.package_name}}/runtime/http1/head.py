"""The head of a request: its request line and its header fields, strictly.

If a proxy and the server understand a message differently, requests can be smuggled; so whatever
HTTP forbids is refused. One regular expression accepts a head or refuses it. No part of it can
match in two ways, so it takes linear time. It was compared with two others that cost the same:
llhttp (httptools) accepts bare line feeds, other protocols and heads without limit, so it would
need the same checks on top; Tornado's parsing functions accept bare line feeds until 6.7, and
unusual versions.
"""

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from tornado.httputil import HTTPHeaders, RequestStartLine

from .body import Body, ChunkedBody, FixedBody
from .errors import RequestError
from .grammar import PATH_CHARACTER, TOKEN, VALUE

MAX_HEAD_SIZE = 16 * 1024
"""Bytes of a request line and its header fields."""
MAX_LENGTH_DIGITS = 18
"""Digits of a Content-Length; more than any body has."""
HEAD_END = b"\r\n\r\n"

BARE_LINE_END = "Lines end in CR LF, and contain no other CR or LF."
MALFORMED_REQUEST_LINE = "The request line is malformed: method, target and HTTP/1.1 or HTTP/1.0."

# Source: RFC 9110 and 9112.
_FIELD = rf"{TOKEN}:{VALUE}\r\n"
_HEAD = re.compile(rf"({TOKEN}) ([!-~]++) HTTP/1\.([01])\r\n((?:{_FIELD})*+)\r\n")
_REQUEST_LINE = re.compile(rf"{TOKEN} [!-~]++ HTTP/1\.[01]\r\n")
# A path, perhaps with a query, or the asterisk of OPTIONS.
_QUERY = rf"(?:\?(?:\?|{PATH_CHARACTER})*+)?"
_PATH = re.compile(rf"/{PATH_CHARACTER}*+{_QUERY}|\*")
# From a client that takes us for a proxy.
_ABSOLUTE = re.compile(
    rf"[Hh][Tt][Tt][Pp][Ss]?://(?P<host>[^/?#@]+)(?P<path>(?:/{PATH_CHARACTER}*+)?{_QUERY})"
)
# Tornado crashes on very long ports, and accepts ports that are not numbers.
_HOST = re.compile(r"(?:[^\s:,/@\[\]\x80-\xff]*|\[[\da-fA-F:.]+\])(?::\d{0,5})?")


class Head(NamedTuple):
    """A request without its body."""

    start_line: RequestStartLine
    headers: HTTPHeaders
    body: Body
    """Reads the body, which follows."""
    keep_alive: bool
    """Whether the client lets the connection open for another request."""
    expects_continue: bool
    """Whether the client sends the body only after ``100 Continue``."""


def parse_head(data: bytes) -> Head:
    """Parse a head, with the empty line at its end. Raises `RequestError`."""
    text = data.decode("latin-1")
    match = _HEAD.fullmatch(text)
    if not match:
        raise RequestError(400, _explain(text))
    method, target, minor, lines = match.groups()
    headers, fields = _parse_fields(lines)
    is_1_1 = minor == "1"
    if is_1_1 and "host" not in fields:
        raise RequestError(400, "The header Host is missing.")
    return Head(
        RequestStartLine(method, _check_target(target, headers, fields), f"HTTP/1.{minor}"),
        headers,
        _body(fields, is_1_1=is_1_1),
        _keeps_alive(fields.get("connection"), is_1_1=is_1_1),
        is_1_1 and fields.get("expect", "").lower() == "100-continue",
    )


def _parse_fields(text: str) -> tuple[HTTPHeaders, dict[str, str]]:
    """Return the header fields for handlers, and by their names in lower case."""
    headers = HTTPHeaders()
    fields: dict[str, str] = {}
    for line in text.split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        value = value.strip(" \t")
        key = name.lower()
        if key in fields:
            headers.add(name, value)
            fields[key] += f",{value}"
        else:  # faster than `add`, which would check the field once more
            headers[name] = fields[key] = value
    return headers, fields


def check_incomplete(data: bytes) -> None:
    """Check the beginning of a head, of which more will come, or too much. Raises `RequestError`.

    So a client that ends its lines in a bare line feed, and waits, is told at once.
    """
    if data.startswith(b"\r\n"):
        raise RequestError(400, MALFORMED_REQUEST_LINE)
    first = data[:MAX_HEAD_SIZE]  # so the reason does not depend on how the head was split
    pairs = first.count(b"\r\n")
    if first.count(b"\n") != pairs or first.count(b"\r") - first.endswith(b"\r") != pairs:
        raise RequestError(400, BARE_LINE_END)
    if len(data) > MAX_HEAD_SIZE:
        raise RequestError(431, f"Request line and headers may have at most {MAX_HEAD_SIZE} bytes.")


def _explain(text: str) -> str:
    """Say what is wrong with a head, without repeating it."""
    lines = text.split("\r\n")
    if not lines[0]:
        return MALFORMED_REQUEST_LINE
    if "\n" in "".join(lines) or "\r" in "".join(lines):
        return BARE_LINE_END
    if not _REQUEST_LINE.fullmatch(f"{lines[0]}\r\n"):
        return MALFORMED_REQUEST_LINE
    for number, line in enumerate(lines[1:-2], 1):
        if not re.fullmatch(_FIELD, f"{line}\r\n"):
            return f"Header field {number} is malformed."
    return "The request is malformed."


def _check_target(target: str, headers: HTTPHeaders, fields: dict[str, str]) -> str:
    """Return the path and query of a target; check the host. Raises `RequestError`."""
    if "host" in fields:
        _check_host(fields["host"])
    if "origin" in fields:
        _check_origin(fields["origin"])
    if _PATH.fullmatch(target):
        return target
    match = _ABSOLUTE.fullmatch(target)
    if not match:
        raise RequestError(400, "The request target is malformed.")
    # Source: RFC 9112, 3.2.2: the host of the target replaces the header.
    _check_host(match["host"])
    headers["Host"] = match["host"]
    path: str = match["path"]
    return path if path.startswith("/") else f"/{path}"


@lru_cache(maxsize=256)
def _check_host(host: str) -> None:
    if not _HOST.fullmatch(host):
        raise RequestError(400, "The header Host is malformed.")


@lru_cache(maxsize=256)
def _check_origin(origin: str) -> None:
    try:
        urlsplit(origin)
    except ValueError:
        raise RequestError(400, "The header Origin is malformed.") from None


def _body(fields: dict[str, str], *, is_1_1: bool) -> Body:
    """Return what reads the body. Raises `RequestError`."""
    coding, length = fields.get("transfer-encoding"), fields.get("content-length")
    if coding is not None:
        if not is_1_1 or coding.lower() != "chunked":
            raise RequestError(400, "Transfer-Encoding must be chunked, and needs HTTP/1.1.")
        if length is not None:
            raise RequestError(400, "Content-Length and Transfer-Encoding exclude each other.")
        return ChunkedBody()
    if length is None:
        return FixedBody(0)
    # Proxies sometimes repeat it; all must be equal.
    lengths = {length.strip(" \t") for length in length.split(",")}
    length = lengths.pop()
    if lengths or not (length.isascii() and length.isdigit() and len(length) <= MAX_LENGTH_DIGITS):
        raise RequestError(400, "Content-Length must be a number of bytes.")
    return FixedBody(int(length))


def _keeps_alive(connection: str | None, *, is_1_1: bool) -> bool:
    if connection is None:
        return is_1_1
    options = {option.strip() for option in connection.lower().split(",")}
    return "close" not in options and (is_1_1 or "keep-alive" in options)
