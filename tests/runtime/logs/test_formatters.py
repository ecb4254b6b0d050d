import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runtime.logs import formatters as logs
from runtime.logs.writer import ThreadedHandler
from runtime.http.request import request_id
from runtime.settings import Settings

from .support import Client, Record


def record(message: str = "hello", *args: object, **extra: Any) -> logging.LogRecord:
    fields = {"name": "orders", "levelno": logging.INFO, "levelname": "INFO", "msg": message}
    return logging.makeLogRecord(fields | {"args": args} | extra)


def failed(error: Exception, **extra: Any) -> logging.LogRecord:
    try:
        raise error
    except Exception:
        return record(exc_info=sys.exc_info(), **extra)


def as_json(given: logging.LogRecord) -> Any:
    line = logs.JsonFormatter().format(given)
    assert "\n" not in line
    return json.loads(line)


def as_text(given: logging.LogRecord) -> str:
    return logs.TextFormatter().format(given)


@pytest.fixture
def check_17() -> Iterator[None]:
    """Work for the request with the id check-17."""
    token = request_id.set("check-17")
    yield
    request_id.reset(token)


def test_a_json_line_has_the_fields_of_every_record() -> None:
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
def test_a_line_has_the_id_of_its_request() -> None:
    assert as_json(record())["request_id"] == "check-17"
    assert as_text(record()).endswith("hello request_id='check-17'")


def test_a_text_line_without_a_request_has_no_id() -> None:
    assert "request_id" not in as_text(record())


def test_extra_fields_are_in_the_line() -> None:
    given = record(order=17, **{"url.path": "/orders"})
    line = as_json(given)
    assert (line["order"], line["url.path"]) == (17, "/orders")
    assert as_text(given).endswith(f" orders[{os.getpid()}]: hello order=17")


def test_an_exception_is_three_fields_of_a_json_line() -> None:
    line = as_json(failed(ValueError("bad\nluck")))
    assert line["exception.type"] == "ValueError"
    assert line["exception.message"] == "bad\nluck"
    assert line["exception.stacktrace"].startswith("Traceback (most recent call last):\n")
    assert line["exception.stacktrace"].endswith("ValueError: bad\nluck\n")


def test_without_an_exception_there_are_none() -> None:
    assert not [name for name in as_json(record()) if name.startswith("exception")]
    assert not [
        name
        for name in as_json(record(exc_info=(None, None, None)))
        if name.startswith("exception")
    ]


def test_an_exception_follows_a_text_line() -> None:
    first, *rest = as_text(failed(ValueError("bad luck"))).splitlines()
    assert first.endswith(": hello")
    assert "ValueError: bad luck" in rest[-1]


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param("\ud800", id="half a surrogate pair"),
        pytest.param(-(2**70), id="more than 64 bits"),
        pytest.param(10**5000, id="too many digits"),
        pytest.param(float("nan"), id="no number"),
        pytest.param(object(), id="something else"),
        pytest.param(b"\xff", id="bytes"),
        pytest.param({1: 2}, id="a key that is a number"),
        pytest.param({(1, 2): 3}, id="a key that is a pair"),
    ],
)
def test_no_value_loses_a_json_line(odd: object) -> None:
    line = as_json(record("hello", odd=odd))
    assert line["message"] == "hello"
    assert "odd" in line


def test_a_number_that_is_none_is_null_whatever_stands_beside_it() -> None:
    line = logs.JsonFormatter().format(record("\ud800", number=float("nan")))
    assert "NaN" not in line


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_no_message_can_forge_a_line(end: str) -> None:
    forged = f"hello{end}2026-01-01T00:00:00.000Z INFO    access: GET / 200"
    assert len(as_text(record(forged)).splitlines()) == 1
    assert len(as_text(record("%s", forged)).splitlines()) == 1
    assert len(as_text(record("hello", who=forged)).splitlines()) == 1
    assert as_json(record(forged))["message"] == forged


def test_neither_can_an_exception() -> None:
    forged = "2026-01-01T00:00:00.000Z INFO    access: GET / 200"
    lines = as_text(failed(ValueError(f"bad\n{forged}"))).splitlines()
    assert not [line for line in lines[1:] if line.startswith("2026")]


def test_every_record_goes_to_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, root = tmp_path / "service.log", logging.getLogger()
    level = root.level
    with monkeypatch.context() as patch, warnings.catch_warnings():
        patch.setattr(root, "handlers", [])
        warnings.simplefilter("always")
        logs.configure(Settings(log_format="json", log_level="warning"), ThreadedHandler(path))
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
    ("message", "scrubbed"),
    [
        ("404 GET /orders?token=hunter2 (127.0.0.1)", "404 GET /orders?… (127.0.0.1)"),
        ("Invalid header 'Cookie: hunter2' seen", "Invalid header '…' seen"),
        ('Invalid header "it\'s hunter2" seen', "Invalid header '…' seen"),
        (r"Invalid header 'it\'s hunter2' seen", "Invalid header '…' seen"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_what_a_client_sent_is_removed_from_messages_of_tornado(
    message: str, scrubbed: str
) -> None:
    theirs = record("%s", message, name="tornado.general")
    assert logs.RedactionFilter().filter(theirs)
    assert theirs.getMessage() == scrubbed


def test_other_messages_stay_as_they_are() -> None:
    ours = record("%s", "GET /orders?page='2'")
    assert logs.RedactionFilter().filter(ours)
    assert ours.getMessage() == "GET /orders?page='2'"


async def test_the_access_line_has_opentelemetrys_names(
    client: Client, log_records: list[Record]
) -> None:
    response = await client.get("/items/cup?token=hunter2", User_Agent="check/1.7")
    [line] = [record for record in log_records if record["logger"] == "access"]
    assert 0 < line.pop("duration_ms") < 60_000
    del line["timestamp"], line["pid"]
    assert line == {
        "level": "info",
        "logger": "access",
        "message": "GET /items/cup 200",
        "request_id": response.headers["X-Request-ID"],
        "worker": 0,
        "http.request.method": "GET",
        "url.path": "/items/cup",
        "http.route": "/items/{name}",
        "http.response.status_code": 200,
        "http.response.body.size": len(response.body),
        "client.address": "127.0.0.1",
        "user_agent.original": "check/1.7",
    }


async def test_the_level_of_the_access_line_can_be_too_low(
    client: Client, log_records: list[Record]
) -> None:
    logging.getLogger().setLevel(logging.WARNING)
    await client.get("/")
    assert log_records == []


async def test_queries_stay_out_of_the_log(client: Client, log_records: list[Record]) -> None:
    for path in "/", "/nowhere", "/socket", "/items":
        await client.get(f"{path}?token=hunter2")
    await client.post("/items?token=hunter2", b"a=%ff", Content_Type="multipart/form-data")
    assert log_records
    assert "hunter2" not in str(log_records)


def test_arguments_that_do_not_fit_lose_no_record() -> None:
    assert as_json(record("%d of %d", "x"))["message"] == "%d of %d ('x',)"


def test_extra_fields_replace_none_of_the_others() -> None:
    forged = {"timestamp": "never", "level": "none", "logger": "x", "pid": 0, "worker": 9}
    line = as_json(record("hello", **forged))
    assert not [name for name, value in forged.items() if line[name] == value]


def test_the_fields_of_every_record_come_first() -> None:
    line = as_json(record("hello", order=17, request_id="check-17"))
    assert list(line)[:2] == ["timestamp", "level"]
    assert list(line)[-1] == "order"
    assert line["request_id"] == "check-17"
