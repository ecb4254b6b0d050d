"""Headers of every response that a handler does not set itself."""

from collections.abc import Mapping

from ..http1.defaults import DefaultHeaders

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
OWN_ORIGIN = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
"""What a page may load and do: only with the service itself, and nothing inline."""
SCRIPT_HEADERS = {"Content-Security-Policy": OWN_ORIGIN}
"""A script may be a web worker, to which its own policy applies."""
HEADERS_BY_TYPE = {
    # With no-referrer, browsers would send forms with `Origin: null`, as if they were foreign.
    "text/html": {"Content-Security-Policy": OWN_ORIGIN, "Referrer-Policy": "same-origin"},
    "text/javascript": SCRIPT_HEADERS,
    "application/javascript": SCRIPT_HEADERS,
}


def default_headers(more: Mapping[str, str] | None = None, vary: str = "") -> DefaultHeaders:
    """Return the headers of the runtime, and `more`."""
    return DefaultHeaders({**HEADERS, **(more or {})}, HEADERS_BY_TYPE, vary)
