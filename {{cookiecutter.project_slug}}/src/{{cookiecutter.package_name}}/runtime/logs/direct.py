"""Log without `logging`, where that makes no difference.

A `LogRecord`, and all that handles it, costs several times as much as the line that it becomes.
That counts for the access line, for which every request pays.
"""

import logging
import time
from types import FunctionType
from typing import Any

from .context import add_context
from .formatters import JsonFormatter, RedactionFilter
from .writer import BufferedHandler


def log(
    logger: logging.Logger,
    level: int,
    message: str,
    args: tuple[object, ...],
    fields: dict[str, Any],
) -> None:
    """Do what ``logger.log(level, message, *args, extra=fields)`` does, the short way if possible.

    The level must be enabled for the logger.
    """
    if target := _only_target(logger, level):
        handler, formatter = target
        try:
            line = _line(formatter, handler.pid, logger, level, message % args, fields)
        except Exception:  # noqa: S110 - `logging` can report it
            pass
        else:
            handler.add(line, level)
            return
    logger.log(level, message, *args, extra=fields, stacklevel=2)


def _line(
    formatter: JsonFormatter,
    pid: int,
    logger: logging.Logger,
    level: int,
    message: str,
    fields: dict[str, Any],
) -> bytes:
    add_context(fields)
    level_name = logging.getLevelName(level)
    return formatter.line(time.time(), level_name, logger.name, pid, message, fields) + b"\n"


def _only_target(
    logger: logging.Logger, level: int
) -> tuple[BufferedHandler, JsonFormatter] | None:
    """Return the runtime's handler and format if a record would go there and nowhere else.

    Everything that an owner or a library may add is looked at each time: it can be added later.
    """
    handlers = logging.root.handlers
    if (
        len(handlers) != 1
        or logger.handlers
        or logger.filters
        or not logger.propagate
        or _methods(type(logger)) != _UNCHANGED
        or logging.getLogRecordFactory() is not logging.LogRecord
    ):
        return None
    [handler] = handlers
    formatter = handler.formatter
    if (
        isinstance(handler, BufferedHandler)
        and type(formatter) is JsonFormatter
        and level >= handler.level
        and len(handler.filters) == 1
        # It only changes records of Tornado.
        and type(handler.filters[0]) is RedactionFilter
    ):
        return handler, formatter
    return None


def _methods(logger: type[logging.Logger]) -> tuple[object, ...]:
    """Return what a record passes through. Error trackers and tracers replace these."""
    return logger._log, logger.makeRecord, logger.handle, logger.callHandlers


def _is_from_logging(method: object) -> bool:
    return type(method) is FunctionType and method.__globals__ is vars(logging)


# None if they have been replaced before this module was imported.
_UNCHANGED = _methods(logging.Logger)
if not all(map(_is_from_logging, _UNCHANGED)):
    _UNCHANGED = ()
