import gc
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from runtime.process import listener as listener_module
from runtime.process.listener import Listener
from runtime.testing import WAIT_TIMEOUT, Record

MAX_DESCRIPTORS = 200
REFUSED = "out of file descriptors, connections refused so far: {} "


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as listener:
        listener.setblocking(False)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Use up the file descriptors of this process."""
    gc.collect()  # which would free some in the middle
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_DESCRIPTORS, hard))
        with suppress(OSError):
            while True:
                used.append(os.dup(0))
        yield
    finally:
        for fd in used:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(to: Listener) -> socket.socket:
    return socket.create_connection(to.getsockname(), timeout=WAIT_TIMEOUT)


def is_closed(client: socket.socket) -> bool:
    """Wait for the end of a connection on which nothing arrives."""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def errors(log_records: list[Record]) -> list[str]:
    return [record["message"] for record in log_records if record["level"] == "error"]


def test_accepts_like_any_socket(listener: Listener, log_records: list[Record]) -> None:
    with connect(listener) as client:
        accepted, address = listener.accept()
        with accepted:
            assert address == client.getsockname()
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert errors(log_records) == []


def test_refuses_connections_without_descriptors(
    listener: Listener, log_records: list[Record]
) -> None:
    with connect(listener) as first, connect(listener) as second, no_descriptors_left():
        for client in first, second:
            # One per call, so that requests can finish in between.
            with pytest.raises(BlockingIOError):
                listener.accept()
            assert is_closed(client)
    [message] = errors(log_records)
    assert message.startswith(REFUSED.format(1))


def test_logs_even_without_the_spare_descriptor(
    listener: Listener, log_records: list[Record]
) -> None:
    with connect(listener), no_descriptors_left():
        listener._close_spare()
        taken = os.dup(0)
        with pytest.raises(BlockingIOError):
            listener.accept()
        os.close(taken)
    [message] = errors(log_records)
    assert message.startswith(REFUSED.format(0))


def test_accepts_again_with_free_descriptors(listener: Listener) -> None:
    for _ in range(3):
        with connect(listener), no_descriptors_left(), pytest.raises(BlockingIOError):
            listener.accept()
        with connect(listener):
            listener.accept()[0].close()


def test_logs_at_a_limited_rate(
    listener: Listener, log_records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    for interval in (1, 3600, 3600, 0):
        monkeypatch.setattr(listener_module, "LOG_INTERVAL", interval)
        with connect(listener), no_descriptors_left(), pytest.raises(BlockingIOError):
            listener.accept()
    first, second = errors(log_records)
    assert first.startswith(REFUSED.format(1))
    assert second.startswith(REFUSED.format(4))


def test_close_frees_the_spare_descriptor() -> None:
    before = len(os.listdir("/dev/fd"))
    Listener().close()
    assert len(os.listdir("/dev/fd")) == before
