"""Events: from a log record to the last ones in shared memory."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from runtime.monitor.events import (
    EVENT,
    MAX_EVENT_SIZE,
    MAX_EVENTS,
    RELOAD_FAILED,
    RELOADED,
    EventChannel,
    EventHandler,
    EventLog,
    forward_events,
)

logger = logging.getLogger("runtime.workers.example")


@pytest.fixture
def events() -> Iterator[list[dict[str, Any]]]:
    """The events of this process."""
    events: list[dict[str, Any]] = []
    forward_events(lambda event: events.append(json.loads(event)), worker=3)
    yield events
    runtime = logging.getLogger("runtime")
    for handler in [*runtime.handlers]:
        runtime.removeHandler(handler)


def test_record_with_the_field_is_an_event(events: list[dict[str, Any]]) -> None:
    logger.error("it %s", "failed", extra={EVENT: RELOAD_FAILED})
    [event] = events
    assert event.pop("time") > 1e9
    assert event == {
        "name": RELOAD_FAILED,
        "level": "error",
        "message": "it failed",
        "worker": 3,
        "stack": None,
    }


def test_other_records_are_no_events(events: list[dict[str, Any]]) -> None:
    logger.error("failed")
    logging.getLogger("orders").error("failed", extra={EVENT: RELOAD_FAILED})
    assert events == []


@pytest.mark.parametrize("field", ["code.stacktrace", "exception.stacktrace"])
def test_stack_of_a_record_is_that_of_the_event(events: list[dict[str, Any]], field: str) -> None:
    logger.error("blocked", extra={EVENT: RELOAD_FAILED, field: "in app.py"})
    assert events[0]["stack"] == "in app.py"


@pytest.mark.parametrize("character", ["a", "가", "\0", "\U0001f680"])
def test_event_has_a_limited_size(character: str) -> None:
    sent: list[bytes] = []
    handler = EventHandler(sent.append)
    text = character * 100_000
    fields = {"levelname": "ERROR", "msg": text, "code.stacktrace": text, EVENT: RELOADED}
    handler.handle(logging.makeLogRecord(fields))
    log = EventLog()
    log.append(sent[0])
    [(_, event)] = log.after(0)
    message = json.loads(event)["message"]
    assert message
    assert text.startswith(message)


def test_lone_surrogate_is_replaced() -> None:
    sent: list[bytes] = []
    record = logging.makeLogRecord({"msg": "bad \ud800", EVENT: RELOADED})
    EventHandler(sent.append).handle(record)
    assert json.loads(sent[0])["message"] == "bad ?"


def test_other_sink_takes_the_place_of_the_first(events: list[dict[str, Any]]) -> None:
    others: list[bytes] = []
    forward_events(others.append)
    logger.error("failed", extra={EVENT: RELOAD_FAILED})
    assert events == []
    assert json.loads(others[0])["worker"] is None


def test_sink_that_fails_does_not_break_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(event: bytes) -> None:
        raise OSError

    monkeypatch.setattr(logging, "raiseExceptions", False)
    handler = EventHandler(fail)
    handler.handle(logging.makeLogRecord({"msg": "reloaded", EVENT: RELOADED}))


def test_log_keeps_the_last_events_in_order() -> None:
    log = EventLog()
    assert log.after(0) == []
    for number in range(1, MAX_EVENTS + 4):
        log.append(b"%d" % number)
    found = log.after(0)
    assert found == [(number, b"%d" % number) for number in range(4, MAX_EVENTS + 4)]
    assert log.after(MAX_EVENTS + 2) == found[-1:]
    assert log.after(MAX_EVENTS + 3) == []


def test_channel_drops_what_is_not_taken_in_time() -> None:
    channel = EventChannel()
    assert channel.receive() == []
    channel.send(b'{"name": "first"}')
    channel.send(b'{"name": "second"}')
    assert channel.receive() == [b'{"name": "first"}', b'{"name": "second"}']
    for _ in range(10_000):
        channel.send(b"{%s}" % (b" " * 4000))
    received = channel.receive()
    assert 0 < len(received) < 10_000
    channel.send(b"{}")
    assert channel.receive() == [b"{}"]


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"7", b"\xff", b"[" * 5000, b"{%s}" % (b" " * (MAX_EVENT_SIZE - 1))]
)
def test_channel_drops_what_is_no_event(data: bytes) -> None:
    channel = EventChannel()
    channel.send(data)
    channel.send(b"{%s}" % (b" " * (MAX_EVENT_SIZE - 2)))
    [longest] = channel.receive()
    EventLog().append(longest)
