"""The log: one line a record, as JSON or as text, each with the id of the request it belongs to.

The names of the fields are OpenTelemetry's. Whatever is passed as ``extra=`` becomes a field too:
``logger.info("order placed", extra={"order": 17})``.
"""

import logging
import re
import textwrap
import time
import traceback
from datetime import UTC, datetime
from typing import Any, cast

import orjson
from tornado.web import RequestHandler

from ..http.request import Request, request_id
from ..settings import Settings

access = logging.getLogger("access")

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_QUERY = re.compile(r"\?[^\s'\"]*")
_QUOTED = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"")


class JsonFormatter(logging.Formatter):
    """One JSON object: the fields that every record has, then its own.

    `worker` is the number of the worker; the processes that watch over the workers have none.
    """

    def __init__(self, worker: int | None = 0) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        extra = _extra(record)
        standard = {
            "timestamp": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            "request_id": extra.get("request_id", request_id.get()),
            "pid": record.process,
            "worker": self._worker,
        }
        # What is passed as extra comes behind these fields and replaces none.
        entry: dict[str, Any] = standard | extra | standard
        if record.exc_info and record.exc_info[1]:
            error = record.exc_info[1]
            entry["exception.type"] = type(error).__qualname__
            entry["exception.message"] = str(error)
            entry["exception.stacktrace"] = "".join(traceback.format_exception(error))
        try:
            return orjson.dumps(entry, default=str).decode()
        except orjson.JSONEncodeError:
            # Half a surrogate pair or a number of more than 64 bits: rare, slower, never lost.
            return orjson.dumps({name: _plain(value) for name, value in entry.items()}).decode()


class TextFormatter(logging.Formatter):
    """A line for people. Line ends are escaped: no message can pose as a second record."""

    def format(self, record: logging.LogRecord) -> str:
        message = _message(record).replace("\n", "\\n").replace("\r", "\\r")
        source = f"{record.name}[{record.process}]"
        line = f"{_timestamp(record)} {record.levelname:<7} {source}: {message}"
        # Dotted names repeat, for machines, what the message says.
        fields = {name: value for name, value in _extra(record).items() if "." not in name}
        if request_id.get():
            fields["request_id"] = request_id.get()
        line += "".join(f" {name}={value!r}" for name, value in fields.items())
        if record.exc_info:
            line += _indented(self.formatException(record.exc_info))
        for name, value in _extra(record).items():
            if name.endswith(".stacktrace"):
                line += _indented(str(value))
        return line


class Scrub(logging.Filter):
    """Removes from Tornado's own messages what a client sent: queries, header and cookie values."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith("tornado."):
            record.msg = _QUERY.sub("?…", _QUOTED.sub("'…'", _message(record)))
            record.args = None
        return True


def configure(settings: Settings, writer: logging.Handler, worker: int | None = 0) -> None:
    """Send every record of the process to one writer."""
    as_json = settings.log_format == "json"
    writer.setFormatter(JsonFormatter(worker) if as_json else TextFormatter())
    writer.addFilter(Scrub())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[writer], force=True)
    logging.captureWarnings(True)


def log_access(
    handler: RequestHandler, level: int = logging.INFO, more: dict[str, object] | None = None
) -> None:
    """Write the access line of a request that has been answered, with `more` fields."""
    status = handler.get_status()
    if status >= 500 and level == logging.INFO:
        level = logging.ERROR
    if not access.isEnabledFor(level):
        return
    request = cast(Request, handler.request)
    headers = request.headers
    access.log(
        level,
        "%s %s %d",
        request.method,
        request.path,
        status,
        extra={
            "request_id": headers["X-Request-ID"],
            "http.request.method": request.method,
            "url.path": request.path,
            "http.route": request.route,
            "http.response.status_code": status,
            "http.response.body.size": request.body_size,
            "client.address": request.remote_ip,
            "user_agent.original": headers.get("User-Agent"),
            "duration_ms": round(1000 * (time.perf_counter() - request.started), 3),
            **(more or {}),
        },
    )


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    try:
        return orjson.Fragment(orjson.dumps(value, default=str))
    except orjson.JSONEncodeError:
        try:
            return ascii(value)
        except Exception:
            return f"<{type(value).__name__}>"


def _indented(text: str) -> str:
    # So that an exception cannot pose as a record either.
    return "\n" + textwrap.indent(text.rstrip(), "    ")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:
        # Arguments that do not fit the message: a mistake, but no reason to lose the record.
        return f"{record.msg} {record.args!r}"


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
