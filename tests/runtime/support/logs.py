"""Lines of a log, to write and to read."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runtime.logs import formatters
from runtime.logs.writer import BufferedHandler
from runtime.settings import Settings


class MemoryHandler(BufferedHandler):
    """The log of a process, in memory. `emitted` counts the records that came from `logging`."""

    def __init__(self) -> None:
        super().__init__()
        self.emitted = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.emitted += 1
        super().emit(record)

    def pop_lines(self) -> list[str]:
        """Remove and return the lines so far."""
        return [line.decode() for line in self.pop_all().splitlines(keepends=True)]


@contextmanager
def configured_log(log_format: str = "json") -> Iterator[MemoryHandler]:
    """Configure the root logger as a process does that serves, and restore it at the end.

    Not a fixture: pytest adds its own handlers to the root logger when the test begins.
    """
    handler, root = MemoryHandler(), logging.getLogger()
    handlers, level = root.handlers, root.level
    root.handlers = []
    try:
        formatters.configure(Settings(log_format=log_format), handler)
        yield handler
    finally:
        logging.captureWarnings(False)
        root.handlers = handlers
        root.setLevel(level)


def log(handler: logging.Handler, *messages: str, level: int = logging.INFO) -> None:
    """Pass records with these messages to a handler."""
    for message in messages:
        fields = {"msg": message, "levelno": level, "levelname": logging.getLevelName(level)}
        handler.handle(logging.makeLogRecord(fields))


def lines(*paths: Path) -> list[str]:
    """Return the lines of files; those that do not exist have none."""
    found = []
    for path in paths:
        with suppress(FileNotFoundError):  # it may be renamed at any time
            found += path.read_text().splitlines()
    return found


def numbered(count: int) -> list[str]:
    """Return short messages that can be told apart."""
    return [f"line {number}" for number in range(count)]
