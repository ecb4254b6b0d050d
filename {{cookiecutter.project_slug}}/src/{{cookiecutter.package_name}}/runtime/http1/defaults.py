"""Headers that every response has, unless its handler sets them."""

import time
from collections.abc import Container, Mapping

from tornado.httputil import format_timestamp


class DefaultHeaders:
    """Lines for the head of a response, made once; the date is renewed each second.

    `headers` are names and values. The names are written as Tornado writes them: ``Cache-Control``.
    `by_type` has other values for some content types: ``{"text/html": {...}}``. The header Vary is
    a list: `vary` is a part of it, whatever else the handler writes there.
    """

    def __init__(
        self,
        headers: Mapping[str, str],
        by_type: Mapping[str, Mapping[str, str]] | None = None,
        vary: str = "",
    ) -> None:
        self._headers = dict(headers)
        self._by_type = by_type or {}
        self._names = frozenset((*headers, "Date")).union(*self._by_type.values())
        self._vary = f"Vary: {vary}\r\n" if vary else ""
        self._second = 0
        self._lines: dict[str | None, str] = {}
        """The lines of this second, by content type."""

    def lines(self, fields: Mapping[str, str]) -> str:
        """Return the lines that a response with these headers lacks."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._headers["Date"] = format_timestamp(second)
            self._lines = {}
        content_type = fields.get("Content-Type")
        if not self._names.isdisjoint(fields):
            return self._make_lines(content_type, fields)
        lines = self._lines.get(content_type)
        if lines is None:
            lines = self._lines[content_type] = self._make_lines(content_type, ())
        return lines

    def _make_lines(self, content_type: str | None, present: Container[str]) -> str:
        media_type = (content_type or "").partition(";")[0].strip().lower()
        headers = {**self._headers, **self._by_type.get(media_type, {})}
        lines = [f"{name}: {value}\r\n" for name, value in headers.items() if name not in present]
        return "".join(lines) + self._vary
