"""Back-pressure: whoever is slow makes the other side wait, and no buffer grows meanwhile."""

import fcntl
import re
import select
import socket
import sys
import termios
import time
from asyncio import to_thread
from pathlib import Path

import pytest
from runtime.testing import WAIT_TIMEOUT, ServiceProcess, ServiceStarter

from ..apps.streaming import PIECE, SIZE
from ..support.processes import release

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc"),
    pytest.mark.asyncio(loop_factories=["uvloop"]),  # the service chooses its own
]

STILL = 0.5
"""Seconds without progress after which a transfer is stuck."""
MAX_BUFFERED = SIZE // 2
"""Bytes; the operating system buffers less at both ends of a connection together."""
MAX_GROWTH = 2 * 1024 * 1024
"""Bytes by which the memory of the service may grow."""


class Memory:
    """The memory of a process: by how much its peak grows from now on."""

    def __init__(self, process: ServiceProcess) -> None:
        self._folder = Path("/proc") / str(process.pid)
        (self._folder / "clear_refs").write_text("5")  # the peak begins anew
        self._before = self._peak()

    def growth(self) -> int:
        return self._peak() - self._before

    def _peak(self) -> int:
        status = (self._folder / "status").read_text()
        return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])


def connect(port: int, request: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=WAIT_TIMEOUT)
    connection.sendall(f"{request}\r\nHost: a\r\n\r\n".encode())
    return connection


def send_until_stuck(connection: socket.socket, data: bytes) -> int:
    """Send until the other end takes no more; return how many bytes it has taken."""
    sent = 0
    connection.setblocking(False)
    while sent < len(data) and select.select([], [connection], [], STILL)[1]:
        sent += connection.send(data[sent : sent + len(PIECE)])
    connection.settimeout(WAIT_TIMEOUT)
    return sent


def wait_until_full(connection: socket.socket) -> None:
    """Wait until no more arrives in the buffer of the operating system."""
    before, size = -1, 0
    while size > before:
        time.sleep(STILL)
        before, size = (
            size,
            int.from_bytes(fcntl.ioctl(connection, termios.FIONREAD, bytes(4)), sys.byteorder),
        )


def receive(connection: socket.socket) -> int:
    """Receive until the other end closes; return how many bytes have arrived."""
    size = 0
    while piece := connection.recv(1024 * 1024):
        size += len(piece)
    return size


@pytest.mark.parametrize("framing", [f"Content-Length: {SIZE}", "Transfer-Encoding: chunked"])
async def test_slow_handler_makes_the_client_wait(
    framing: str, start_service: ServiceStarter
) -> None:
    data = bytes(SIZE)
    if "chunked" in framing:
        data = SIZE // len(PIECE) * (b"%x\r\n%b\r\n" % (len(PIECE), PIECE)) + b"0\r\n\r\n"
    process = start_service("tests.runtime.apps.streaming")
    port, _ = await process.ports()
    with connect(port, f"PUT /receive HTTP/1.1\r\nConnection: close\r\n{framing}") as connection:
        connection.sendall(data[: len(PIECE)])
        await process.logged("receiving")
        memory = Memory(process)
        sent = len(PIECE) + await to_thread(send_until_stuck, connection, data[len(PIECE) :])
        assert sent < MAX_BUFFERED
        release(process)
        await to_thread(connection.sendall, data[sent:])
        response = await to_thread(connection.recv, 10_000)
        assert memory.growth() < MAX_GROWTH
    assert response.endswith(b'{"size":%d}' % SIZE)


@pytest.mark.parametrize("framing", ["Content-Length", "chunked"])
async def test_slow_client_makes_the_handler_wait(
    framing: str, start_service: ServiceStarter
) -> None:
    process = start_service("tests.runtime.apps.streaming")
    port, _ = await process.ports()
    request = f"GET /send?framing={framing} HTTP/1.1\r\nConnection: close"
    with connect(port, request) as connection:
        start = await to_thread(connection.recv, 100)
        memory = Memory(process)
        await to_thread(wait_until_full, connection)
        assert "everything is sent" not in process.messages()
        received = len(start) + await to_thread(receive, connection)
        assert memory.growth() < MAX_GROWTH
    await process.logged("everything is sent")
    assert received >= SIZE
