"""Opens WebSockets that stay idle."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from .environments import BenchmarkError

PATH = "/echo"
HANDSHAKE = (
    f"GET {PATH} HTTP/1.1\r\n"
    "Host: localhost\r\n"
    "Upgrade: websocket\r\n"
    "Connection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\n"
    # Any 16 bytes.
    "Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\n"
    "\r\n"
).encode()


@contextmanager
def open_websockets(port: int, count: int) -> Iterator[None]:
    """Keep `count` WebSockets open. Raises `BenchmarkError` if a handshake fails."""
    with ExitStack() as stack:
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", port), timeout=10)
            stack.enter_context(connection)
            connection.sendall(HANDSHAKE)
            response = connection.recv(4096)
            if not response.startswith(b"HTTP/1.1 101 "):
                raise BenchmarkError(f"no WebSocket on port {port}: {response[:100]!r}")
        yield
