"""What is logged past `logging` is the same, and only where nobody can tell the difference."""

import importlib
import itertools
import json
import logging
import os
import time
from collections.abc import Callable
from typing import Any, cast

import pytest
from runtime.logs import direct
from runtime.logs.context import field_source, request_id
from runtime.logs.formatters import JsonFormatter

from ..support.logs import MemoryHandler, configured_log

access = logging.getLogger("access")

ODD_TEXTS = [
    "",
    "check/1.7",
    "\udcff\ud800",
    '"\\\x00\x1b\x7f\u2028',
    "\U0001f600 é ÿ",
    "x" * 100_000,
    "%s %d {}",
    None,
]


@pytest.fixture(autouse=True)
def _frozen_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # Python takes the time of a record from one or the other.
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.25)
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_250_000_000)


def fields_of_a_request(**more: object) -> dict[str, Any]:
    return {"request_id": "check-17", "url.path": "/items", "duration_ms": 0.25, **more}


def log_both_ways(
    handler: MemoryHandler, level: int, args: tuple[object, ...], fields: dict[str, Any]
) -> tuple[str, str]:
    """Return the line that is logged directly, and the one that `logging` makes of the same."""
    direct.log(access, level, "%s %s %d", args, dict(fields))
    assert handler.emitted == 0
    access.log(level, "%s %s %d", *args, extra=fields)
    handler.emitted = 0
    ours, theirs = handler.pop_lines()
    return ours, theirs


def log_one() -> None:
    direct.log(access, logging.INFO, "%s %s %d", ("GET", "/", 200), fields_of_a_request())


@pytest.mark.parametrize("agent", ODD_TEXTS, ids=range(len(ODD_TEXTS)))
def test_line_is_the_one_that_logging_makes(agent: str | None) -> None:
    levels = logging.INFO, logging.ERROR, 35
    statuses = 101, 200, 499, 500
    paths = "/items/cup", "/" + str(agent), None
    with configured_log() as handler:
        for level, status, path in itertools.product(levels, statuses, paths):
            fields = fields_of_a_request(
                **{"url.path": path, "status": status, "user_agent.original": agent}
            )
            ours, theirs = log_both_ways(handler, level, ("GET", path, status), fields)
            assert ours == theirs
    line = json.loads(ours)
    assert line["timestamp"] == "2023-11-14T22:13:20.250Z"
    assert line["pid"] == os.getpid()


@pytest.mark.parametrize(
    "odd",
    [2**70, 10**5000, float("nan"), b"\xff", object(), {1: 2}, {"a": "\ud800"}, [None]],
    ids=range(8),
)
def test_line_with_any_value_is_the_one_that_logging_makes(odd: object) -> None:
    with configured_log() as handler:
        ours, theirs = log_both_ways(
            handler, logging.INFO, ("GET", "/", 200), fields_of_a_request(odd=odd)
        )
    assert ours == theirs
    assert '"odd":' in ours


def test_fields_of_the_context_are_those_that_logging_adds() -> None:
    with (
        configured_log() as handler,
        field_source(lambda: {"tenant": "acme", "duration_ms": 0}),
    ):
        ours, theirs = log_both_ways(
            handler, logging.INFO, ("GET", "/", 200), fields_of_a_request()
        )
    assert ours == theirs
    assert json.loads(ours).items() >= {"tenant": "acme", "duration_ms": 0.25}.items()


def test_request_id_is_that_of_the_request_not_of_the_context() -> None:
    token = request_id.set("another")
    with configured_log() as handler:
        ours, theirs = log_both_ways(
            handler, logging.INFO, ("GET", "/", 200), fields_of_a_request()
        )
    request_id.reset(token)
    assert ours == theirs
    assert json.loads(ours)["request_id"] == "check-17"


def test_renamed_level_is_used() -> None:
    logging.addLevelName(logging.INFO, "NOTICE")
    try:
        with configured_log() as handler:
            ours, theirs = log_both_ways(
                handler, logging.INFO, ("GET", "/", 200), fields_of_a_request()
            )
    finally:
        logging.addLevelName(logging.INFO, "INFO")
    assert ours == theirs
    assert json.loads(ours)["level"] == "notice"


class Collector(logging.Handler):
    """A handler as an owner adds it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record)


class Silence(logging.Filter):
    """A filter as an owner adds it."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "http.route" in record.__dict__


class NumberedRecord(logging.LogRecord):
    """A record as an owner's factory makes it: with one more field."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.number = 7


class CountingLogger(logging.Logger):
    def makeRecord(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = super().makeRecord(*args, **kwargs)
        record.__dict__["number"] = 7
        return record


def logged_lines(handler: MemoryHandler) -> list[Any]:
    return [json.loads(line) for line in handler.pop_lines()]


def test_filter_of_the_logger_is_obeyed_as_long_as_it_is_there() -> None:
    silence = Silence()
    with configured_log() as handler:
        log_one()
        access.addFilter(silence)
        log_one()
        access.removeFilter(silence)
        log_one()
        assert (len(handler.pop_lines()), handler.emitted) == (2, 0)


@pytest.mark.parametrize("instead", [False, True])
def test_filter_of_the_handler_is_obeyed(instead: bool) -> None:
    with configured_log() as handler:
        if instead:
            handler.filters.clear()
        handler.addFilter(Silence())
        log_one()
        assert handler.pop_lines() == []


@pytest.mark.parametrize("logger", [access, logging.getLogger()], ids=["access", "root"])
def test_other_handler_gets_the_record(logger: logging.Logger) -> None:
    other = Collector()
    with configured_log() as handler:
        logger.addHandler(other)
        log_one()
        logger.removeHandler(other)
        assert len(handler.pop_lines()) == 1
    [record] = other.seen
    assert record.getMessage() == "GET / 200"
    assert record.__dict__["url.path"] == "/items"
    assert record.funcName == "log_one"


def test_line_is_not_logged_without_propagation(monkeypatch: pytest.MonkeyPatch) -> None:
    with configured_log() as handler:
        monkeypatch.setattr(access, "propagate", False)
        log_one()
        assert handler.pop_lines() == []


def test_level_of_the_handler_is_obeyed() -> None:
    with configured_log() as handler:
        handler.setLevel(logging.WARNING)
        log_one()
        assert handler.pop_lines() == []
        direct.log(access, logging.WARNING, "%s", ("late",), {})
        assert len(handler.pop_lines()) == 1


def test_text_format_is_obeyed() -> None:
    with configured_log("text") as handler:
        log_one()
        [line] = handler.pop_lines()
    assert line.endswith(": GET / 200 request_id='check-17' duration_ms=0.25\n")


class Shouting(JsonFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).upper()


def test_own_format_is_obeyed() -> None:
    with configured_log() as handler:
        handler.setFormatter(Shouting())
        log_one()
        [line] = handler.pop_lines()
    assert '"MESSAGE":"GET / 200"' in line


def test_own_handler_instead_of_ours_gets_the_record() -> None:
    other = Collector()
    with configured_log() as handler:
        other.setFormatter(handler.formatter)
        other.addFilter(handler.filters[0])
        logging.getLogger().handlers[:] = [other]
        log_one()
        assert handler.pop_lines() == []
    assert len(other.seen) == 1


def test_record_factory_is_obeyed() -> None:
    factory = logging.getLogRecordFactory()
    with configured_log() as handler:
        logging.setLogRecordFactory(NumberedRecord)
        log_one()
        logging.setLogRecordFactory(factory)
        log_one()
        assert [line.get("number") for line in logged_lines(handler)] == [7, None]
        assert handler.emitted == 1


@pytest.mark.parametrize("method", ["_log", "makeRecord", "handle", "callHandlers"])
def test_method_that_a_library_replaces_is_called(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    original = cast(Callable[..., Any], getattr(logging.Logger, method))
    calls = []

    def replacement(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return original(*args, **kwargs)

    with configured_log() as handler:
        monkeypatch.setattr(logging.Logger, method, replacement)
        log_one()
        monkeypatch.undo()
        assert len(handler.pop_lines()) == 1
    assert len(calls) == 1


def test_method_that_was_replaced_before_the_start_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = logging.Logger.callHandlers
    calls = []

    def replacement(self: logging.Logger, record: logging.LogRecord) -> None:
        calls.append(record)
        original(self, record)

    monkeypatch.setattr(logging.Logger, "callHandlers", replacement)
    try:
        importlib.reload(direct)
        with configured_log() as handler:
            log_one()
            assert len(handler.pop_lines()) == 1
    finally:
        monkeypatch.undo()
        importlib.reload(direct)
    assert len(calls) == 1


def test_class_of_the_logger_is_obeyed() -> None:
    logger = CountingLogger("access")
    logger.parent = logging.getLogger()
    with configured_log() as handler:
        direct.log(logger, logging.INFO, "%s", ("hello",), {})
        assert [line["number"] for line in logged_lines(handler)] == [7]


def test_arguments_that_do_not_fit_are_logged_by_logging() -> None:
    with configured_log() as handler:
        direct.log(access, logging.INFO, "%d", ("x",), fields_of_a_request())
        [line] = logged_lines(handler)
    assert line["message"] == "%d ('x',)"
    assert handler.emitted == 1


def test_context_that_fails_is_reported_and_stops_nobody(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> dict[str, object]:
        raise RuntimeError("no context")

    with configured_log() as handler, field_source(fail):
        log_one()
        assert handler.pop_lines() == []
    assert "no context" in capsys.readouterr().err
