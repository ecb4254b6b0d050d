"""Why a request is refused."""

from tornado.httputil import HTTPInputError


class RequestError(HTTPInputError):
    """A request that cannot be served. The response has this status, and the connection closes.

    `detail` is a sentence for the client. It contains nothing that the client has sent, so it can
    be logged.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
