"""What this service refuses although Tornado takes it, or fails on it.

Two readings of one message, here and in a proxy in front, are how requests are smuggled; so what
HTTP does not allow is answered 400 and the connection closed. Look here again after each new
release of Tornado: 6.7 refuses bare LF itself.
"""

import re
from urllib.parse import urlsplit

from tornado.httputil import HTTPInputError, HTTPServerRequest

# A path, perhaps with a query (RFC 3986), or the asterisk of OPTIONS.
_TARGET = re.compile(r"/(?:[!$&-;=?-Z\[\]_a-z~|^{}]|%[0-9A-Fa-f]{2})*|\*")
# Tornado fails on a port of more digits than Python reads, and takes one that is no number.
_BAD_HOST = re.compile(
    rb"\nhost:(?![ \t]*([^\s:\[\]]*|\[[\da-f:.]+\])(:\d{0,5})?[ \t]*\r)", re.IGNORECASE
)


def check_head(head: bytes) -> None:
    """Check request line and headers as they came. Raises `HTTPInputError`."""
    if not head.count(b"\n") == head.count(b"\r") == head.count(b"\r\n"):
        raise HTTPInputError("CR or LF alone")
    if _BAD_HOST.search(head):
        raise HTTPInputError("malformed Host")


def check_request(request: HTTPServerRequest) -> None:
    """Check request line and headers as Tornado has parsed them. Raises `HTTPInputError`."""
    if not _TARGET.fullmatch(request.uri or ""):
        raise HTTPInputError("malformed request target")
    if request.version == "HTTP/1.0" and "Transfer-Encoding" in request.headers:
        raise HTTPInputError("Transfer-Encoding in HTTP/1.0")
    try:
        urlsplit(request.headers.get("Origin", ""))
    except ValueError:
        raise HTTPInputError("malformed Origin") from None
