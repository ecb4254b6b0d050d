"""The short way of an access line: the same line as the long way, whenever nobody else looks."""

import json
import logging
from typing import Any

import pytest
from runtime.logs import direct
from runtime.logs.context import added_fields
from runtime.logs.direct import log_fields
from runtime.logs.formatters import configure
from runtime.logs.writer import BufferedHandler
from runtime.settings import Settings

FIELDS = {"request_id": "7", "http.route": "/items/{name}", "duration_ms": 0.25}

logger = logging.getLogger("access-test")


class Refuses(logging.Filter):
    """A filter of an owner."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "secret" not in record.getMessage()


class Collects(logging.Handler):
    """A handler of an owner."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which way each record takes that has not been logged yet."""
    taken: list[str] = []
    real = direct._only_output

    def choose(logger: logging.Logger) -> Any:
        handler = real(logger)
        taken.append("short" if handler else "long")
        return handler

    monkeypatch.setattr(direct, "_only_output", choose)
    return taken


def only_handler(monkeypatch: pytest.MonkeyPatch, log_format: str = "json") -> BufferedHandler:
    """Configure logging as a service does, in the test itself: pytest adds a handler before it."""
    root, handler = logging.getLogger(), BufferedHandler()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(logging, "captureWarnings", lambda capture: None)
    configure(Settings(log_format=log_format), handler, 3)
    monkeypatch.setattr(root, "handlers", [handler])
    return handler


def written(handler: BufferedHandler) -> list[dict[str, Any]]:
    return [json.loads(line) for line in handler.pop_all().splitlines()]


@pytest.mark.parametrize(
    ("level", "arguments", "fields"),
    [
        (logging.INFO, ("GET", "/", 200), {}),
        (logging.ERROR, ("BREW", "/" + "a" * 300, 599), {"user_agent.original": None}),
        (logging.WARNING, ("GET", "/\u2028\x1b", 499), {"user_agent.original": "\xe9\u20ac"}),
        (logging.INFO, ("GET", "/", 200), {"user_agent.original": "a\ud800b"}),
        (logging.INFO, ("GET", "/", 101), {"websocket.close_code": 1001}),
        (logging.INFO, ("GET", "/", 200), {"large": 2**70, "odd": {"a", "b"}, "object": object}),
        (logging.INFO, ("GET", "/", 200), {"level": "forged", "pid": 0, "request_id": None}),
    ],
)
def test_both_ways_write_the_same(
    monkeypatch: pytest.MonkeyPatch,
    ways: list[str],
    level: int,
    arguments: tuple[object, ...],
    fields: dict[str, object],
) -> None:
    handler = only_handler(monkeypatch)
    with added_fields(lambda: {"trace_id": "4"}):
        log_fields(logger, level, "%s %s %d", arguments, FIELDS | fields)
        logger.log(level, "%s %s %d", *arguments, extra=FIELDS | fields)
    short, long = written(handler)
    assert ways == ["short"]
    times = short.pop("timestamp"), long.pop("timestamp")
    assert all(len(time) == len("2026-01-01T00:00:00.000Z") for time in times)
    assert short["message"] == " ".join(map(str, arguments))
    assert list(short.items()) == list(long.items())


def test_level_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = only_handler(monkeypatch)
    log_fields(logger, logging.DEBUG, "%s", ("hidden",), FIELDS)
    assert written(handler) == []


def test_own_filter_is_obeyed(monkeypatch: pytest.MonkeyPatch, ways: list[str]) -> None:
    handler = only_handler(monkeypatch)
    for place in logger, handler:
        refuses = Refuses()
        place.addFilter(refuses)
        log_fields(logger, logging.INFO, "%s", ("a secret",), FIELDS)
        log_fields(logger, logging.INFO, "%s", ("shown",), FIELDS)
        place.removeFilter(refuses)
        assert [record["message"] for record in written(handler)] == ["shown"]
    assert ways == ["long"] * 4


def test_own_handler_gets_the_record(monkeypatch: pytest.MonkeyPatch, ways: list[str]) -> None:
    handler = only_handler(monkeypatch)
    for place in logger, logging.getLogger():
        collects = Collects()
        place.addHandler(collects)
        log_fields(logger, logging.INFO, "%s", ("shown",), FIELDS)
        place.removeHandler(collects)
        assert collects.messages == ["shown"]
        assert [record["message"] for record in written(handler)] == ["shown"]
    assert ways == ["long"] * 2


def test_logger_that_does_not_propagate_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = only_handler(monkeypatch)
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logging, "lastResort", None)
    log_fields(logger, logging.INFO, "%s", ("hidden",), FIELDS)
    assert written(handler) == []


def test_disabled_logger_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = only_handler(monkeypatch)
    monkeypatch.setattr(logger, "disabled", True)
    log_fields(logger, logging.INFO, "%s", ("hidden",), FIELDS)
    assert written(handler) == []


def test_text_takes_the_long_way(monkeypatch: pytest.MonkeyPatch, ways: list[str]) -> None:
    handler = only_handler(monkeypatch, "text")
    log_fields(logger, logging.INFO, "%s", ("shown",), FIELDS)
    assert b" shown" in handler.pop_all()
    assert ways == ["long"]
