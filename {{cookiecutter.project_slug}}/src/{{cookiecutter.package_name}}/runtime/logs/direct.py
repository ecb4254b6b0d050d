"""The short way of an access line into the log.

A record of `logging` passes filters, handlers and a formatter, which takes longer than everything
else that the runtime does for a request. Where nobody could tell the difference, the line is
formatted at once and handed to the writer.
"""

import logging
import time

from .formatters import JsonFormatter, RedactionFilter
from .writer import BufferedHandler


def log_fields(
    logger: logging.Logger,
    level: int,
    message: str,
    arguments: tuple[object, ...],
    fields: dict[str, object],
) -> None:
    """Log ``message % arguments`` with `fields`, which contain the ``request_id``."""
    if not logger.isEnabledFor(level):
        return
    output = _only_output(logger)
    if output:
        handler, formatter = output
        line = formatter.line(
            created=time.time(),
            level=logging.getLevelName(level),
            logger=logger.name,
            pid=handler.pid,
            message=message % arguments,
            fields=fields,
        )
        handler.write_line(line + b"\n", is_urgent=level >= logging.WARNING)
    else:
        logger.log(level, message, *arguments, extra=fields)


def _only_output(logger: logging.Logger) -> tuple[BufferedHandler, JsonFormatter] | None:
    """Return the runtime's own handler if nothing else sees the records of a logger.

    It is looked up each time: an owner may add a filter or a handler at any moment.
    """
    handlers = logging.root.handlers
    if len(handlers) != 1 or logger.handlers or logger.filters or not logger.propagate:
        return None
    handler, formatter = handlers[0], handlers[0].formatter
    if (
        isinstance(handler, BufferedHandler)
        and type(formatter) is JsonFormatter
        and logger.parent is logging.root
        and len(handler.filters) == 1
        and type(handler.filters[0]) is RedactionFilter
    ):
        return handler, formatter
    return None
