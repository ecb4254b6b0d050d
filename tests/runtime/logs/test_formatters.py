import json
import logging
import os
import random
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from runtime.logs import formatters
from runtime.logs.context import field_source, request_id
from runtime.logs.formatters import JsonFormatter, RedactionFilter, TextFormatter, timestamp
from runtime.logs.writer import ThreadedHandler
from runtime.settings import Settings


def record(message: str = "hello", *args: object, **extra: Any) -> logging.LogRecord:
    fields = {"name": "orders", "levelno": logging.INFO, "levelname": "INFO", "msg": message}
    return logging.makeLogRecord(fields | {"args": args} | extra)


def failed(error: Exception, **extra: Any) -> logging.LogRecord:
    try:
        raise error
    except Exception:
        return record(exc_info=sys.exc_info(), **extra)


def as_json(given: logging.LogRecord) -> Any:
    line = JsonFormatter().format(given)
    assert "\n" not in line
    return json.loads(line)


def as_text(given: logging.LogRecord) -> str:
    return TextFormatter().format(given)


@pytest.fixture
def check_17() -> Iterator[None]:
    """Run the test as a part of the request with the id check-17."""
    token = request_id.set("check-17")
    yield
    request_id.reset(token)


def test_json_line_has_the_standard_fields() -> None:
    line = as_json(record("hello %s", "Ada"))
    when = datetime.fromisoformat(line["timestamp"])
    assert abs((datetime.now(UTC) - when).total_seconds()) < 60
    assert line["timestamp"].endswith("Z")
    assert line["pid"] > 0
    assert line | {"timestamp": None, "pid": None} == {
        "timestamp": None,
        "level": "info",
        "logger": "orders",
        "message": "hello Ada",
        "request_id": None,
        "pid": None,
        "worker": 0,
    }


@pytest.mark.usefixtures("check_17")
def test_line_has_the_request_id() -> None:
    assert as_json(record())["request_id"] == "check-17"
    assert as_text(record()).endswith("hello request_id='check-17'")


def test_text_line_outside_a_request_has_no_request_id() -> None:
    assert "request_id" not in as_text(record())


@pytest.mark.usefixtures("check_17")
def test_line_has_the_fields_of_every_source_last() -> None:
    tenants = iter(["acme", "emca"])
    with field_source(lambda: {"tenant": next(tenants)}), field_source(lambda: {"shard": 3}):
        line = as_json(failed(ValueError(), order=17))
        text = as_text(record(order=17))
    assert list(line)[6:11] == ["worker", "order", "tenant", "shard", "exception.type"]
    assert (line["request_id"], line["tenant"], line["shard"]) == ("check-17", "acme", 3)
    assert text.endswith("hello order=17 request_id='check-17' tenant='emca' shard=3")


@pytest.mark.usefixtures("check_17")
def test_fields_of_the_record_win_over_those_of_the_context() -> None:
    given = record(tenant="acme", request_id="mine")
    with field_source(lambda: {"tenant": "other", "worker": 9, "request_id": "other"}):
        line, text = as_json(given), as_text(given)
    assert (line["tenant"], line["request_id"], line["worker"]) == ("acme", "mine", 0)
    assert text.endswith("hello tenant='acme' request_id='mine' worker=9")


def test_source_ends_with_its_context_manager() -> None:
    with pytest.raises(RuntimeError), field_source(lambda: {"tenant": "acme"}):
        raise RuntimeError
    assert "tenant" not in as_json(record())


def test_timestamp_is_that_of_datetime() -> None:
    microseconds = [0, 999, 1000, 123_000, 999_999, 999_499, 1_700_000_000_123_000]
    choose = random.Random(17)
    microseconds += [choose.randrange(2 * 10**15) for _ in range(1000)]
    microseconds += [choose.randrange(2 * 10**12) * 1000 for _ in range(1000)]
    for number in microseconds:
        seconds = number / 1e6
        expected = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
        assert timestamp(seconds) == expected.replace("+00:00", "Z")


def test_extra_fields_are_in_the_line() -> None:
    given = record(order=17, **{"url.path": "/orders"})
    line = as_json(given)
    assert (line["order"], line["url.path"]) == (17, "/orders")
    assert as_text(given).endswith(f" orders[{os.getpid()}]: hello order=17")


def test_exception_is_three_fields_of_a_json_line() -> None:
    line = as_json(failed(ValueError("bad\nluck")))
    assert line["exception.type"] == "ValueError"
    assert line["exception.message"] == "bad\nluck"
    assert line["exception.stacktrace"].startswith("Traceback (most recent call last):\n")
    assert line["exception.stacktrace"].endswith("ValueError: bad\nluck\n")


def test_no_exception_fields_without_exception() -> None:
    assert not [name for name in as_json(record()) if name.startswith("exception")]
    assert not [
        name
        for name in as_json(record(exc_info=(None, None, None)))
        if name.startswith("exception")
    ]


def test_exception_follows_a_text_line() -> None:
    first, *rest = as_text(failed(ValueError("bad luck"))).splitlines()
    assert first.endswith(": hello")
    assert "ValueError: bad luck" in rest[-1]


def test_stack_passed_as_a_field_follows_a_text_line() -> None:
    stack = 'File "orders.py", line 7'
    line = as_text(record(**{"code.stacktrace": stack}))
    assert line.endswith(f": hello\n    {stack}")


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param("\ud800", id="lone surrogate"),
        pytest.param(-(2**70), id="more than 64 bits"),
        pytest.param(10**5000, id="too many digits"),
        pytest.param(float("nan"), id="not a number"),
        pytest.param(object(), id="any object"),
        pytest.param(b"\xff", id="bytes"),
        pytest.param({1: 2}, id="integer key"),
        pytest.param({(1, 2): 3}, id="tuple key"),
    ],
)
def test_any_value_can_be_written_as_json(odd: object) -> None:
    line = as_json(record("hello", odd=odd))
    assert line["message"] == "hello"
    assert "odd" in line


def test_nan_is_null_even_in_the_slow_path() -> None:
    line = JsonFormatter().format(record("\ud800", number=float("nan")))
    assert "NaN" not in line


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_message_cannot_forge_a_line(end: str) -> None:
    forged = f"hello{end}2026-01-01T00:00:00.000Z INFO    access: GET / 200"
    assert len(as_text(record(forged)).splitlines()) == 1
    assert len(as_text(record("%s", forged)).splitlines()) == 1
    assert len(as_text(record("hello", who=forged)).splitlines()) == 1
    assert as_json(record(forged))["message"] == forged


def test_exception_cannot_forge_a_line() -> None:
    forged = "2026-01-01T00:00:00.000Z INFO    access: GET / 200"
    lines = as_text(failed(ValueError(f"bad\n{forged}"))).splitlines()
    assert not [line for line in lines[1:] if line.startswith("2026")]


def test_configure_sends_every_record_to_one_handler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, root = tmp_path / "service.log", logging.getLogger()
    level = root.level
    with monkeypatch.context() as patch, warnings.catch_warnings():
        patch.setattr(root, "handlers", [])
        warnings.simplefilter("always")
        formatters.configure(
            Settings(log_format="json", log_level="warning"), ThreadedHandler(path)
        )
        logging.getLogger("orders").warning("loud enough")
        logging.getLogger("orders").info("too quiet")
        logging.getLogger("tornado.general").warning("GET /?token=hunter2")
        warnings.warn("out of date", stacklevel=1)
        logging.captureWarnings(False)
        root.handlers[0].close()
        root.setLevel(level)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["logger"] for line in lines] == ["orders", "tornado.general", "py.warnings"]
    assert [line["message"] for line in lines[:2]] == ["loud enough", "GET /?…"]
    assert "out of date" in lines[2]["message"]


@pytest.mark.parametrize(
    ("message", "redacted"),
    [
        ("404 GET /orders?token=hunter2 (127.0.0.1)", "404 GET /orders?… (127.0.0.1)"),
        ("Invalid header 'Cookie: hunter2' seen", "Invalid header '…' seen"),
        ('Invalid header "it\'s hunter2" seen', "Invalid header '…' seen"),
        (r"Invalid header 'it\'s hunter2' seen", "Invalid header '…' seen"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_client_data_is_removed_from_messages_of_tornado(message: str, redacted: str) -> None:
    from_tornado = record("%s", message, name="tornado.general")
    assert RedactionFilter().filter(from_tornado)
    assert from_tornado.getMessage() == redacted


def test_other_messages_are_not_changed() -> None:
    own = record("%s", "GET /orders?page='2'")
    assert RedactionFilter().filter(own)
    assert own.getMessage() == "GET /orders?page='2'"


def test_record_with_wrong_arguments_is_not_lost() -> None:
    assert as_json(record("%d of %d", "x"))["message"] == "%d of %d ('x',)"


def test_extra_fields_do_not_replace_standard_fields() -> None:
    forged = {"timestamp": "never", "level": "none", "logger": "x", "pid": 0, "worker": 9}
    line = as_json(record("hello", **forged))
    assert not [name for name, value in forged.items() if line[name] == value]


def test_standard_fields_come_first() -> None:
    line = as_json(record("hello", order=17, request_id="check-17"))
    assert list(line)[:2] == ["timestamp", "level"]
    assert list(line)[-1] == "order"
    assert line["request_id"] == "check-17"


@pytest.mark.parametrize("control", ["\x00", "\x1b[2J", "\x7f", "\x85", "\x9b2J", "\u2028", "\r"])
def test_control_characters_are_escaped_in_text(control: str) -> None:
    text = f"hello {control} there"
    for line in as_text(record(text)), as_text(failed(ValueError(text))):
        assert control not in line
        assert ascii(control[0])[1:-1] in line
