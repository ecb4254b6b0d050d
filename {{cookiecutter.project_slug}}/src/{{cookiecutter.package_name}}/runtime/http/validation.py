"""Stricter HTTP validation than Tornado's.

If a proxy and the server parse a message differently, requests can be smuggled; so anything that
HTTP forbids gets 400 and the connection is closed. Review this with each Tornado release: 6.7
rejects bare LF itself.
"""

import re
from urllib.parse import urlsplit

from tornado.httputil import HTTPInputError, HTTPServerRequest

# A path, perhaps with a query (RFC 3986), or the asterisk of OPTIONS.
_TARGET = re.compile(r"/(?:[!$&-;=?-Z\[\]_a-z~|^{}]|%[0-9A-Fa-f]{2})*|\*")
# Tornado crashes on very long ports and accepts ports that are not numbers.
_BAD_HOST = re.compile(
    rb"\nhost:(?![ \t]*([^\s:\[\]]*|\[[\da-f:.]+\])(:\d{0,5})?[ \t]*\r)", re.IGNORECASE
)


def check_head(head: bytes) -> None:
    """Check the raw request line and headers. Raises `HTTPInputError`."""
    if not head.count(b"\n") == head.count(b"\r") == head.count(b"\r\n"):
        raise HTTPInputError("bare CR or LF")
    if _BAD_HOST.search(head):
        raise HTTPInputError("malformed Host")


def check_request(request: HTTPServerRequest) -> None:
    """Check a request that Tornado has parsed. Raises `HTTPInputError`."""
    if not _TARGET.fullmatch(request.uri or ""):
        raise HTTPInputError("malformed request target")
    if request.version == "HTTP/1.0" and "Transfer-Encoding" in request.headers:
        raise HTTPInputError("Transfer-Encoding in HTTP/1.0")
    try:
        urlsplit(request.headers.get("Origin", ""))
    except ValueError:
        raise HTTPInputError("malformed Origin") from None
