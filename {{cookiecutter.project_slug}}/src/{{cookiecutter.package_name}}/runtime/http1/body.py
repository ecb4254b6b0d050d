"""The body of a request, decoded from the bytes that follow its head.

No I/O: `decode` is called with what has arrived, and returns what it could not use yet.
"""

import re
from typing import Protocol

from .errors import RequestError
from .grammar import TOKEN, VALUE

MAX_PIECE_SIZE = 64 * 1024
"""Bytes of a body that are passed on at once; as in Tornado."""
MAX_SIZE_LINE = 256
"""Bytes of the line before a chunk: its size, and extensions, which are ignored."""
MAX_OVERHEAD = 16 * 1024
"""Bytes of all extensions of a body, and of all its trailer fields."""

# Source: RFC 9112, 7.1.
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})((?:[ \t]*;%b)?)\r\n" % VALUE.encode())
_TRAILER_LINE = re.compile(rf"({TOKEN}):{VALUE}\r\n".encode())
# Source: RFC 9110, 6.5.1. Some programs would use them, others not, and so understand a request
# differently.
_FORBIDDEN_TRAILERS = {
    b"authorization",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"cookie",
    b"host",
    b"te",
    b"trailer",
    b"transfer-encoding",
}


class Body(Protocol):
    """Decodes a body."""

    size: int
    """Bytes of the body, as far as the client has said how many will come."""
    is_complete: bool

    def decode(self, data: bytes, max_size: int = MAX_PIECE_SIZE) -> tuple[bytes, bytes]:
        """Return a piece of the body, and the rest of `data`. Raises `RequestError`.

        The rest belongs to the next request if the body is complete. Otherwise call again with it:
        at once if the piece has `max_size` bytes, and together with what comes next if it has less.
        """
        ...


class FixedBody:
    """A body whose length is known."""

    __slots__ = ("_remaining", "is_complete", "size")

    def __init__(self, length: int) -> None:
        self.size = self._remaining = length
        self.is_complete = length == 0

    def decode(self, data: bytes, max_size: int = MAX_PIECE_SIZE) -> tuple[bytes, bytes]:
        piece = data[: min(self._remaining, max_size)]
        self._remaining -= len(piece)
        self.is_complete = self._remaining == 0
        return piece, data[len(piece) :]


class ChunkedBody:
    """A body of the transfer encoding chunked. Extensions and trailer fields are ignored."""

    __slots__ = ("_in_trailers", "_overhead", "_remaining", "is_complete", "size")

    def __init__(self) -> None:
        self.size = 0
        self.is_complete = False
        self._remaining = 0
        """Bytes of the chunk that are not here yet, with the CR LF at its end; 0 between chunks."""
        self._in_trailers = False
        self._overhead = 0

    def decode(self, data: bytes, max_size: int = MAX_PIECE_SIZE) -> tuple[bytes, bytes]:
        pieces: list[bytes] = []
        position = 0
        while max_size and not self.is_complete:
            if self._remaining > 2:
                piece = data[position : position + min(self._remaining - 2, max_size)]
                pieces.append(piece)
                self._remaining -= len(piece)
                max_size -= len(piece)
                end = position + len(piece)
            elif self._remaining:
                end = self._read_chunk_end(data, position)
            elif self._in_trailers:
                end = self._read_trailer(data, position)
            else:
                end = self._read_size(data, position)
            if end == position:
                break  # more has to come
            position = end
        return b"".join(pieces), data[position:]

    def _read_size(self, data: bytes, start: int) -> int:
        line, end = _line(data, start, "The size of a chunk is malformed.")
        if not line:
            return start
        match = _SIZE_LINE.fullmatch(line)
        if not match:
            raise RequestError(400, "The size of a chunk is malformed.")
        self._count_overhead(len(match[2]))
        size = int(match[1], 16)
        self.size += size
        if size:
            self._remaining = size + 2
        else:
            self._in_trailers = True
        return end

    def _read_chunk_end(self, data: bytes, start: int) -> int:
        ending = data[start : start + 2]
        if not b"\r\n".startswith(ending):
            raise RequestError(400, "A chunk is longer than its size says.")
        if len(ending) < 2:
            return start
        self._remaining = 0
        return start + 2

    def _read_trailer(self, data: bytes, start: int) -> int:
        line, end = _line(data, start, "A trailer field is malformed.", MAX_OVERHEAD)
        if not line:
            return start
        if line == b"\r\n":
            self.is_complete = True
            return end
        self._count_overhead(len(line))
        match = _TRAILER_LINE.fullmatch(line)
        if not match or match[1].lower() in _FORBIDDEN_TRAILERS:
            raise RequestError(400, "A trailer field is malformed or not allowed.")
        return end

    def _count_overhead(self, size: int) -> None:
        self._overhead += size
        if self._overhead > MAX_OVERHEAD:
            raise RequestError(400, "The chunks have too many extensions or trailer fields.")


def _line(data: bytes, start: int, detail: str, limit: int = MAX_SIZE_LINE) -> tuple[bytes, int]:
    """Return a line and where it ends; an empty one if it is not complete.

    Raises `RequestError` if it is too long, or contains a CR or LF that does not end it.
    """
    end = data.find(b"\n", start) + 1
    line = data[start : end or None]
    if len(line) > limit or b"\r" in line[:-2] or (end and not line.endswith(b"\r\n")):
        raise RequestError(400, detail)
    return (line, end) if end else (b"", start)
