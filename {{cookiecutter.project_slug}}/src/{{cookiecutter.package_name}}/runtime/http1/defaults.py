"""Headers that every response has, unless its handler sets them."""

import time
from collections.abc import Iterable, Mapping

from tornado.httputil import format_timestamp


class DefaultHeaders:
    """Lines for the head of a response, made once; the date is renewed each second.

    `headers` are names and values. The names are written as Tornado writes them: ``Cache-Control``.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = dict(headers)
        self._names = frozenset((*headers, "Date"))
        self._second = 0
        self._lines = ""

    def lines(self, names: Iterable[str]) -> str:
        """Return the lines that a response with headers of these names lacks."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._headers["Date"] = format_timestamp(second)
            self._lines = _lines(self._headers)
        if self._names.isdisjoint(names):
            return self._lines
        present = frozenset(names)
        return _lines({name: v for name, v in self._headers.items() if name not in present})


def _lines(headers: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
