"""What every record of a task carries: the id of its request, and what extensions add."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Id of the current request, None outside of one. Every log record contains it."""

FieldSource = Callable[[], Mapping[str, str]]
"""Returns fields for a record of the current task."""

_sources: list[FieldSource] = []


@contextmanager
def added_fields(source: FieldSource) -> Iterator[None]:
    """Add fields, such as trace ids, to every record of this process until the context ends."""
    _sources.append(source)
    try:
        yield
    finally:
        _sources.remove(source)


def current_fields() -> dict[str, str]:
    """Return what extensions add to a record of the current task."""
    fields: dict[str, str] = {}
    for source in _sources:
        fields.update(source())
    return fields
