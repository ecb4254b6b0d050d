"""Whoever wants to see every request, to measure it, say."""

from contextlib import AbstractAsyncContextManager, nullcontext

from tornado.web import RequestHandler

from .http.request import Request


class Observer:
    """Base of what sees every request of an `Application`. It overrides what it needs."""

    def running(self) -> AbstractAsyncContextManager[object]:
        """Return what is entered before the resources, and left after them."""
        return nullcontext()

    def begin(self, request: Request) -> None:
        """See a request whose headers have arrived. Its handler runs in a copy of this context."""

    def end(self, handler: RequestHandler) -> None:
        """See a request whose answer is complete: once for each, after its access line."""
