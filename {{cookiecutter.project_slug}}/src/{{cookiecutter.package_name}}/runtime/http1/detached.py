"""The socket of a connection that goes on with another protocol, as a stream of Tornado."""

import socket

from tornado.iostream import IOStream


class DetachedStream(IOStream):
    """A stream that begins with what the HTTP server has already read.

    `fd` is a descriptor of the socket; the stream owns a duplicate of it.
    """

    def __init__(self, fd: int, received: bytes) -> None:
        # Not `os.dup`: on Windows sockets have no descriptors.
        super().__init__(socket.fromfd(fd, -1, -1, -1))
        self._received = received

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        if not self._received:
            return super().read_from_fd(buf)
        piece = self._received[: len(buf)]
        self._received = self._received[len(piece) :]
        buf[: len(piece)] = piece
        return len(piece)


def closed_stream() -> IOStream:
    """Return a stream whose connection has closed."""
    stream = IOStream(socket.socket())
    stream.close()
    return stream
