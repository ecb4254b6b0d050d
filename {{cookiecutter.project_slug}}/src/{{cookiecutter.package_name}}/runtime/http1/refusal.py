"""The response to a request that no handler gets, because it cannot be understood."""

import secrets
from http.client import responses

import orjson

from .defaults import DefaultHeaders
from .errors import RequestError


def refusal(error: RequestError, default_headers: DefaultHeaders) -> tuple[str, bytes]:
    """Return a request id, and a whole response with the error as problem details (RFC 9457)."""
    request_id = secrets.token_hex(16)
    title = responses[error.status]
    problem = {
        "type": "about:blank",
        "title": title,
        "status": error.status,
        "request_id": request_id,
        "detail": error.detail,
    }
    body = orjson.dumps(problem)
    head = (
        f"HTTP/1.1 {error.status} {title}\r\n"
        "Content-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"X-Request-ID: {request_id}\r\n"
        f"Connection: close\r\n{default_headers.lines({})}\r\n"
    )
    return request_id, head.encode() + body
