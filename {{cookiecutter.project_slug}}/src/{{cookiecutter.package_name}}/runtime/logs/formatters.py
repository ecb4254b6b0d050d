"""Log format: one line per record, JSON or text, with the request id.

The names of the fields are OpenTelemetry's. Whatever is passed as ``extra=`` becomes a field too:
``logger.info("order placed", extra={"order": 17})``.
"""

import logging
import re
import textwrap
import traceback
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from ..settings import Settings
from .context import add_context

ESCAPES = {code: ascii(chr(code))[1:-1] for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}
"""Control characters and line ends, escaped: for terminals, and so that a record is one line."""

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_QUERY = re.compile(r"\?[^\s'\"]*")
_QUOTED = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"")


class JsonFormatter(logging.Formatter):
    """One JSON object: the standard fields, then those of the record.

    `worker` is the number of the worker; None in the supervisor and the admin process.
    """

    def __init__(self, worker: int | None = 0) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record)
        if record.exc_info and record.exc_info[1]:
            error = record.exc_info[1]
            fields["exception.type"] = type(error).__qualname__
            fields["exception.message"] = str(error)
            fields["exception.stacktrace"] = "".join(traceback.format_exception(error))
        line = self.line(
            record.created, record.levelname, record.name, record.process, _message(record), fields
        )
        return line.decode()

    def line(
        self,
        created: float,
        level: str,
        logger: str,
        pid: int | None,
        message: str,
        fields: dict[str, Any],
    ) -> bytes:
        """Return the line of a record, without a line end. `fields` include those of its context.

        The one place that knows the schema: `direct.log` has no record to format.
        """
        standard = {
            "timestamp": timestamp(created),
            "level": level.lower(),
            "logger": logger,
            "message": message,
            "request_id": fields.get("request_id"),
            "pid": pid,
            "worker": self._worker,
        }
        # The fields come after the standard ones and cannot replace them.
        entry = standard | fields
        entry |= standard
        try:
            return orjson.dumps(entry, default=str)
        except orjson.JSONEncodeError:
            # Lone surrogates, integers over 64 bits: the slow path, so that no record is lost.
            return orjson.dumps({name: _json_safe(value) for name, value in entry.items()})


class TextFormatter(logging.Formatter):
    """A line for people. Line ends are escaped: no message can be mistaken for a second record."""

    def format(self, record: logging.LogRecord) -> str:
        message = _message(record).translate(ESCAPES)
        source = f"{record.name}[{record.process}]"
        line = f"{timestamp(record.created)} {record.levelname:<7} {source}: {message}"
        fields = _fields(record)
        # Dotted (OpenTelemetry) fields only repeat the message.
        line += "".join(f" {name}={value!r}" for name, value in fields.items() if "." not in name)
        if record.exc_info:
            line += _indented(self.formatException(record.exc_info))
        for name, value in fields.items():
            if name.endswith(".stacktrace"):
                line += _indented(str(value))
        return line


class RedactionFilter(logging.Filter):
    """Removes client data from Tornado's own messages: queries, header and cookie values."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith("tornado."):
            record.msg = _QUERY.sub("?…", _QUOTED.sub("'…'", _message(record)))
            record.args = None
        return True


def configure(settings: Settings, handler: logging.Handler, worker: int | None = 0) -> None:
    """Configure the root logger with one handler. `worker` is the number of the worker."""
    as_json = settings.log_format == "json"
    handler.setFormatter(JsonFormatter(worker) if as_json else TextFormatter())
    handler.addFilter(RedactionFilter())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)


def timestamp(seconds: float) -> str:
    """Format the time of a record: RFC 3339, UTC, milliseconds."""
    # Half a microsecond more, because 0.123 s may be 122.9999 ms as a float.
    milliseconds = int(seconds * 1000 + 0.0005)
    return f"{_date_and_time(milliseconds // 1000)}.{milliseconds % 1000:03}Z"


@lru_cache(maxsize=1)
def _date_and_time(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _json_safe(value: Any) -> Any:
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
    # Indented, so that a traceback cannot be mistaken for a record.
    lines = [line.translate(ESCAPES) for line in text.rstrip().split("\n")]
    return "\n" + textwrap.indent("\n".join(lines), "    ")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:
        # Arguments that do not fit the message: a bug, but no reason to lose the record.
        return f"{record.msg} {record.args!r}"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return what was passed as ``extra=``, then what the context adds."""
    fields = {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
    add_context(fields)
    return fields
