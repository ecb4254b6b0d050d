"""Lines of a log, to write and to read."""

import logging
from pathlib import Path


def log(handler: logging.Handler, *messages: str) -> None:
    """Pass records with these messages to a handler."""
    for message in messages:
        handler.handle(logging.makeLogRecord({"msg": message, "levelname": "INFO"}))


def lines(*paths: Path) -> list[str]:
    """Return the lines of files; those that do not exist have none."""
    return [line for path in paths if path.exists() for line in path.read_text().splitlines()]


def numbered(count: int) -> list[str]:
    """Return short messages that can be told apart."""
    return [f"line {number}" for number in range(count)]
