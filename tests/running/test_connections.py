"""What a connection costs while nothing happens on it."""

import contextlib
import socket

import pytest

from .harness import PATIENCE, Service, Starter, request

HANDSHAKE = request(
    "/echo",
    Upgrade="websocket",
    Connection="Upgrade",
    Sec_WebSocket_Version="13",
    Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
)
WARM_UP = 300
"""Connections after which the service has the memory that it needs anyway."""

pytestmark = pytest.mark.usefixtures("many_files")


def connect(service: Service, message: bytes, status: int) -> socket.socket:
    """Open a connection, send a request on it, and leave it open after the answer."""
    connection = socket.create_connection(("127.0.0.1", service.port), PATIENCE)
    connection.sendall(message)
    assert connection.recv(65536).startswith(b"HTTP/1.1 %d " % status)
    return connection


@pytest.mark.parametrize(
    ("message", "status", "count", "limit"),
    [
        pytest.param(request("/"), 200, 3000, 4096, id="keep-alive"),
        pytest.param(HANDSHAKE, 101, 1000, 20 * 1024, id="websocket"),
    ],
)
def test_idle_connection_takes_little_memory(
    run: Starter, message: bytes, status: int, count: int, limit: int
) -> None:
    service = run.start(APP_WORKERS=1, APP_IDLE_TIMEOUT=600)
    with contextlib.ExitStack() as stack:
        for number in range(WARM_UP + count):
            if number == WARM_UP:
                before = service.rss()
            stack.enter_context(connect(service, message, status))
        growth = (service.rss() - before) / count
    print(f"{growth:.0f} bytes for each connection")
    assert growth < limit
    assert service.ask("/").status == 200
