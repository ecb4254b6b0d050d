"""The request that the current task works for."""

from contextvars import ContextVar

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Id of the current request, None outside of one. Every log record contains it."""
