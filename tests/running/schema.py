"""The schema of the log, and the check that a record keeps it."""

import re
from typing import Any

RECORD = {"timestamp", "level", "logger", "message", "request_id", "pid", "worker"}
ACCESS = RECORD | {
    "http.request.method",
    "url.path",
    "http.route",
    "http.response.status_code",
    "http.response.body.size",
    "client.address",
    "user_agent.original",
    "duration_ms",
}
EXCEPTION = {"exception.type", "exception.message", "exception.stacktrace"}


def check_record(record: dict[str, Any], pid: int, worker: int | None = 0) -> None:
    """Check a record of a process, which is a worker unless its number is None."""
    assert set(record) >= RECORD
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["timestamp"])
    assert record["level"] in {"debug", "info", "warning", "error", "critical"}
    assert isinstance(record["message"], str)
    assert record["request_id"] is None or isinstance(record["request_id"], str)
    assert record["pid"] == pid
    assert record["worker"] == worker
    if record["logger"] == "access":
        assert set(record) >= ACCESS
        assert set(record) <= ACCESS | {"reason", "websocket.close_code"}
        assert 100 <= record["http.response.status_code"] < 600
        assert record["duration_ms"] >= 0
        assert "?" not in record["url.path"]
    exceptional = EXCEPTION & set(record)
    assert not exceptional or exceptional == EXCEPTION
