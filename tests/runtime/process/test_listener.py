import gc
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from runtime.process import listener
from runtime.process.listener import Listener

from .support import WAIT_TIMEOUT, Record


@pytest.fixture
def listening() -> Iterator[Listener]:
    with Listener() as one:
        one.setblocking(False)
        one.bind(("127.0.0.1", 0))
        one.listen()
        yield one


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Use up what this process may have."""
    gc.collect()  # which would give some back in the middle
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
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
    """Wait for the end of a connection on which nothing comes."""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def errors(log_records: list[Record]) -> list[str]:
    return [record["message"] for record in log_records if record["level"] == "error"]


def test_accepts_as_any_socket_does(listening: Listener, log_records: list[Record]) -> None:
    with connect(listening) as client:
        accepted, address = listening.accept()
        with accepted:
            assert address == client.getsockname()
        with pytest.raises(BlockingIOError):
            listening.accept()
    assert errors(log_records) == []


def test_refuses_what_there_is_no_descriptor_for(listening: Listener, log_records: list[Record]) -> None:
    with connect(listening) as first, connect(listening) as second, no_descriptors_left():
        for client in first, second:
            # One at a time, so that there is time for requests to end.
            with pytest.raises(BlockingIOError):
                listening.accept()
            assert is_closed(client)
    [message] = errors(log_records)
    assert message.startswith("no descriptors left, connections refused so far: 1 ")


def test_says_so_even_if_the_reserve_is_gone(listening: Listener, log_records: list[Record]) -> None:
    with connect(listening), no_descriptors_left():
        listening._release()
        taken = os.dup(0)
        with pytest.raises(BlockingIOError):
            listening.accept()
        os.close(taken)
    [message] = errors(log_records)
    assert message.startswith("no descriptors left, connections refused so far: 0 ")


def test_accepts_again_afterwards(listening: Listener) -> None:
    for _ in range(3):
        with connect(listening), no_descriptors_left(), pytest.raises(BlockingIOError):
            listening.accept()
        with connect(listening):
            listening.accept()[0].close()


def test_does_not_say_it_all_the_time(
    listening: Listener, log_records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in (1, 3600, 3600, 0):
        monkeypatch.setattr(listener, "PAUSE", pause)
        with connect(listening), no_descriptors_left(), pytest.raises(BlockingIOError):
            listening.accept()
    assert [message.split(" (")[0][-1] for message in errors(log_records)] == ["1", "4"]


def test_keeps_nothing_when_closed() -> None:
    before = len(os.listdir("/dev/fd"))
    Listener().close()
    assert len(os.listdir("/dev/fd")) == before
