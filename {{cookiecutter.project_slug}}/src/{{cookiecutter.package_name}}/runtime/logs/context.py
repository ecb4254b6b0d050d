"""What a log record says about where it comes from: the current request, and its trace."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Id of the current request, None outside of one. Every log record contains it."""

FieldSource = Callable[[], Mapping[str, object]]
"""Returns fields for a record that is being logged now, in the current context."""

_sources: list[FieldSource] = []


@contextmanager
def field_source(source: FieldSource) -> Iterator[None]:
    """Within this context manager every log record has the fields of `source`, too."""
    _sources.append(source)
    try:
        yield
    finally:
        _sources.remove(source)


def add_context(fields: dict[str, object]) -> None:
    """Add the request id and the fields of all sources. Fields that are there already win."""
    current = request_id.get()
    if current is not None:
        fields.setdefault("request_id", current)
    for source in _sources:
        for name, value in source().items():
            fields.setdefault(name, value)
