"""Error responses: RFC 9457 problem details."""

from collections.abc import Iterator, Sequence

from tornado.web import HTTPError

LOGGED_ERRORS = 3
"""How many of the errors of a problem are in the log."""
LOGGED_CHARACTERS = 200
"""Characters of one of them; a pointer may be a name that the client has sent."""


class Problem(HTTPError):
    """An error response. Raise it for what the client can do something about.

    The response is ``application/problem+json`` (RFC 9457). Arguments:

    - `status`: 400 to 599. Anything else raises `ValueError`.
    - `detail`: a sentence that says what to do about it. The client reads it.
    - `errors`: what is wrong with which part of the request, such as
      ``[{"pointer": "/name", "detail": "Field required"}]``. A pointer is a JSON Pointer.
    - `headers`: more headers of the response.

    Example: ``raise Problem(404, "No such order. GET /orders lists them.")``
    """

    def __init__(
        self,
        status: int,
        detail: str | None = None,
        *,
        errors: list[dict[str, str]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        if not 400 <= status < 600:
            raise ValueError(f"{status} is not the status of an error")
        super().__init__(status, " ".join(_reasons(detail, errors or ())) or None)
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}


def _reasons(detail: str | None, errors: Sequence[dict[str, str]]) -> Iterator[str]:
    """Yield what the log says about a problem."""
    if detail:
        yield detail
    for error in errors[:LOGGED_ERRORS]:
        yield f"[{error.get('pointer', '')}: {error.get('detail', '')}]"[:LOGGED_CHARACTERS]
