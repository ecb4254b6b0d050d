"""A service at a control socket, in the test's own process."""

from collections.abc import Iterator

import pytest
from runtime.control.server import ControlServer
from runtime.control.steering import Steering

from tests.runtime.support.control import PATH, Host
from tests.runtime.support.fakes import FakeStatus


@pytest.fixture
def server() -> Iterator[ControlServer]:
    """A server whose `receive` the test calls."""
    server = ControlServer(PATH)
    yield server
    for client in tuple(server._clients):
        server._drop(client)  # `close` leaves them to the end of the process
    server.close()


@pytest.fixture
def host(status: FakeStatus) -> Iterator[Host]:
    """A single process with this status."""
    steering = Steering(ControlServer(PATH), {"name": "orders", "version": "1.0", "revision": ""})
    host = Host(steering)
    steering.attach(status, host.stops.append, is_under_systemd=False)
    with host:
        yield host
