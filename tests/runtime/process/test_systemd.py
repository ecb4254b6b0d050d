import errno
import os
import socket
import sys
import time
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import NoReturn, Self

import pytest

from runtime.process import systemd
from runtime.process.systemd import SystemdNotifier


class Manager:
    """Stands for systemd: hears what services tell it."""

    def __init__(self, address: str = "notify") -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(address)
        self._heard: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def heard(self) -> list[str]:
        """Return all that it has been told so far."""
        while True:
            try:
                self._heard.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return self._heard

    def states(self) -> list[str]:
        """Return the states that it has been told, without what else was said of them."""
        return [message.partition("\n")[0] for message in self.heard()]


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    for name in "WATCHDOG_USEC", "WATCHDOG_PID":
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NOTIFY_SOCKET", "notify")
    with Manager() as manager:
        yield manager


class Clock:
    """Stands for the clock of a module; a test sets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
        self.now = 1000.0
        everything = vars(time) | {
            "monotonic": lambda: self.now,
            "monotonic_ns": lambda: int(self.now * 1e9),
        }
        monkeypatch.setattr(module, "time", SimpleNamespace(**everything))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch, systemd)


def test_it_is_told_that_the_service_is_ready(manager: Manager) -> None:
    SystemdNotifier().ready("listening")
    assert manager.heard() == ["READY=1\nSTATUS=listening"]


def test_it_is_told_when_a_reload_begins(manager: Manager) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    SystemdNotifier().reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    [message] = manager.heard()
    state, moment, status = message.split("\n")
    assert (state, status) == ("RELOADING=1", "STATUS=reloading")
    name, _, microseconds = moment.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(microseconds) <= after


def test_it_is_told_that_the_service_stops(manager: Manager) -> None:
    SystemdNotifier().stopping()
    assert manager.heard() == ["STOPPING=1\nSTATUS=stopping"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such addresses")
def test_its_address_may_be_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"notify-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    with Manager(f"\0{name}") as manager:
        SystemdNotifier().stopping()
        assert manager.states() == ["STOPPING=1"]


@pytest.mark.parametrize("address", [None, ""])
def test_without_systemd_nothing_is_told(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    if address is None:
        monkeypatch.delenv("NOTIFY_SOCKET")
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    service = SystemdNotifier()
    service.ready("listening")
    service.reloading()
    service.stopping()
    service.heartbeat()
    assert manager.heard() == []


@pytest.mark.parametrize("pid", [None, os.getpid()])
def test_the_watchdog_hears_three_times_as_often_as_it_asks_for(
    manager: Manager, clock: Clock, monkeypatch: pytest.MonkeyPatch, pid: int | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    if pid:
        monkeypatch.setenv("WATCHDOG_PID", str(pid))
    service = SystemdNotifier()
    service.heartbeat()
    assert manager.heard() == ["WATCHDOG=1"]
    clock.now += 0.99
    service.heartbeat()
    assert len(manager.heard()) == 1
    clock.now += 0.02
    service.heartbeat()
    service.heartbeat()
    assert manager.heard() == ["WATCHDOG=1"] * 2


def test_the_watchdog_of_another_process_hears_nothing(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    service = SystemdNotifier()
    service.heartbeat()
    assert manager.heard() == []
    service.stopping()
    assert manager.states() == ["STOPPING=1"]


@pytest.mark.parametrize("microseconds", [None, "", "0", "often"])
def test_without_a_watchdog_there_is_no_beat(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, microseconds: str | None
) -> None:
    if microseconds is not None:
        monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    SystemdNotifier().heartbeat()
    assert manager.heard() == []


def test_children_are_not_told_of_systemd(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    service = SystemdNotifier()
    for name in "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID":
        assert name not in os.environ
    service.heartbeat()
    assert manager.heard() == ["WATCHDOG=1"]


def test_a_systemd_that_does_not_listen_holds_nothing_up(manager: Manager) -> None:
    service = SystemdNotifier()
    for _ in range(2000):
        service.stopping()
    assert 0 < len(manager.heard()) < 2000
    service.ready("listening")
    assert manager.states()[-1] == "READY=1"


@pytest.mark.parametrize("address", ["missing", "long" * 100, "."])
def test_an_address_where_nobody_is_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    SystemdNotifier().ready("listening")


def test_neither_does_a_lack_of_descriptors(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_socket(*arguments: object) -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    service = SystemdNotifier()
    with monkeypatch.context() as patch:
        everything = vars(socket) | {"socket": no_socket}
        patch.setattr(systemd, "socket", SimpleNamespace(**everything))
        service.ready("listening")
    assert manager.heard() == []
    service.stopping()
    assert manager.states() == ["STOPPING=1"]
