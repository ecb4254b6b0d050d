"""The hooks that an application calls for each request."""

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Literal

from tornado.web import RequestHandler

from .request import Request

Hook = Callable[..., None]
HookName = Literal["request_started", "request_finished", "request_failed", "error_raised"]

REPORTED_FOR = "_reported_for_request"
"""The attribute of an exception that has the id of the request for which it has been reported."""

logger = logging.getLogger(__name__)


class RequestHooks:
    """Base class of what observes every request. Override what you need.

    The hooks run in the event loop, so they must not block. An exception in one of them is logged
    and changes no response.
    """

    def request_started(self, request: Request) -> None:
        """Called when the headers have arrived.

        The handler runs in a copy of this context. A context variable set here keeps its value
        until the connection's next request, so set it for each one.
        """

    def request_finished(self, handler: RequestHandler) -> None:
        """Called when the response is complete and its access line logged.

        Once for each request that started, also if there is no response, for example because the
        client has left. For a WebSocket that is after the handshake.
        """

    def request_failed(self, handler: RequestHandler, error: BaseException) -> None:
        """Called when a `Handler` or `WebSocket` raises an error that is not a response.

        `handler.request` is the request. A `Problem`, and a client that disconnects, are no
        failures.
        """

    def error_raised(self, error: BaseException, request: Request | None) -> None:
        """Called for each unexpected exception: what an error tracker needs.

        Once for an error of a request, after `request_failed`. Also if a background task fails,
        with the request for which a handler has started it; and, with None, if a task or a callback
        of asyncio fails that is not awaited.
        """


def overriding(observers: Iterable[RequestHooks], name: HookName) -> list[Hook]:
    """Return a hook of each extension that has one of its own."""
    default = getattr(RequestHooks, name)
    return [
        getattr(observer, name)
        for observer in observers
        if getattr(type(observer), name) is not default
    ]


def report_error(
    observers: Iterable[RequestHooks], error: BaseException, request: Request | None
) -> None:
    """Call `error_raised`, once for an error of a request.

    A handler raises that of a background task again, for example, if it awaits the task.
    """
    if request:
        if getattr(error, REPORTED_FOR, None) == request.id:
            return
        with suppress(AttributeError):  # a class may not have it
            setattr(error, REPORTED_FOR, request.id)
    call_each(overriding(observers, "error_raised"), error, request)


def call_each(hooks: Iterable[Hook], *arguments: object) -> None:
    """Call the hooks. What one raises is logged: it must not break the request."""
    for hook in hooks:
        try:
            hook(*arguments)
        except Exception:
            logger.exception("%s failed", hook.__qualname__)
