"""Log format: one line per record, JSON or text, with the request id.

The names of the fields are OpenTelemetry's. Whatever is passed as ``extra=`` becomes a field too:
``logger.info("order placed", extra={"order": 17})``.
"""

import logging
import re
import textwrap
import traceback
from datetime import UTC, datetime
from typing import Any

import orjson

from ..settings import Settings
from .context import current_fields, request_id

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
        self._last_time = self._last_second = -1
        self._prefix = self._last_timestamp = ""
        """The last timestamp down to the second, and as a whole: busy processes repeat them."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _extra(record)
        if record.exc_info and record.exc_info[1]:
            error = record.exc_info[1]
            fields["exception.type"] = type(error).__qualname__
            fields["exception.message"] = str(error)
            fields["exception.stacktrace"] = "".join(traceback.format_exception(error))
        message = _message(record)
        line = self.line(
            created=record.created,
            level=record.levelname,
            logger=record.name,
            pid=record.process,
            message=message,
            fields=fields,
        )
        return line.decode()

    def line(
        self,
        *,
        created: float,
        level: str,
        logger: str,
        pid: int | None,
        message: str,
        fields: dict[str, Any],
    ) -> bytes:
        """Return a record as a line, without the line end.

        `created` is in seconds since 1970. `fields` come after the standard fields and cannot
        replace them, but for ``request_id``.
        """
        standard = {
            "timestamp": self._timestamp(created),
            "level": level.lower(),
            "logger": logger,
            "message": message,
            "request_id": fields["request_id"] if "request_id" in fields else request_id.get(),
            "pid": pid,
            "worker": self._worker,
        }
        entry: dict[str, Any] = {**standard, **current_fields(), **fields, **standard}
        try:
            return orjson.dumps(entry, default=str)
        except orjson.JSONEncodeError:
            # Lone surrogates, integers over 64 bits: the slow path, so that no record is lost.
            return orjson.dumps({name: _json_safe(value) for name, value in entry.items()})

    def _timestamp(self, created: float) -> str:
        milliseconds = int(created * 1000)
        if milliseconds != self._last_time:
            self._last_time = milliseconds
            second, rest = divmod(milliseconds, 1000)
            if second != self._last_second:
                self._last_second, self._prefix = second, _format_second(second)
            self._last_timestamp = f"{self._prefix}.{rest:03}Z"
        return self._last_timestamp


class TextFormatter(logging.Formatter):
    """A line for people. Line ends are escaped: no message can be mistaken for a second record."""

    def format(self, record: logging.LogRecord) -> str:
        message = _message(record).translate(ESCAPES)
        source = f"{record.name}[{record.process}]"
        line = f"{_timestamp(record)} {record.levelname:<7} {source}: {message}"
        # Dotted (OpenTelemetry) fields only repeat the message.
        fields = current_fields()
        fields |= {name: value for name, value in _extra(record).items() if "." not in name}
        if current := request_id.get():
            fields.setdefault("request_id", current)
        line += "".join(f" {name}={value!r}" for name, value in fields.items())
        if record.exc_info:
            line += _indented(self.formatException(record.exc_info))
        for name, value in _extra(record).items():
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


def _timestamp(record: logging.LogRecord) -> str:
    second, rest = divmod(int(record.created * 1000), 1000)
    return f"{_format_second(second)}.{rest:03}Z"


def _format_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:-6]


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
