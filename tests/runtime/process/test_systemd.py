import errno
import os
import socket
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import NoReturn

import pytest
from runtime.process import systemd as systemd_module
from runtime.process.systemd import SystemdNotifier

from ..support.clock import FakeClock
from ..support.systemd import FakeSystemd


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSystemd]:
    for name in "WATCHDOG_USEC", "WATCHDOG_PID":
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NOTIFY_SOCKET", "notify")
    with FakeSystemd() as systemd:
        yield systemd


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    return FakeClock(monkeypatch, systemd_module)


def test_ready_is_sent_with_status(systemd: FakeSystemd) -> None:
    SystemdNotifier().ready("listening")
    assert systemd.messages() == ["READY=1\nSTATUS=listening"]


def test_reloading_is_sent_with_monotonic_time(systemd: FakeSystemd) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    SystemdNotifier().reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    [message] = systemd.messages()
    state, moment, status = message.split("\n")
    assert (state, status) == ("RELOADING=1", "STATUS=reloading")
    name, _, microseconds = moment.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(microseconds) <= after


def test_stopping_is_sent(systemd: FakeSystemd) -> None:
    SystemdNotifier().stopping()
    assert systemd.messages() == ["STOPPING=1\nSTATUS=stopping"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract socket addresses")
def test_abstract_address_is_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"notify-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    with FakeSystemd(f"\0{name}") as systemd:
        SystemdNotifier().stopping()
        assert systemd.states() == ["STOPPING=1"]


@pytest.mark.parametrize("address", [None, ""])
def test_nothing_is_sent_without_notify_socket(
    systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    if address is None:
        monkeypatch.delenv("NOTIFY_SOCKET")
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    notifier = SystemdNotifier()
    notifier.ready("listening")
    notifier.reloading()
    notifier.stopping()
    notifier.ping_watchdog()
    assert systemd.messages() == []


@pytest.mark.parametrize("has_pid", [False, True])
def test_watchdog_is_pinged_three_times_per_interval(
    systemd: FakeSystemd, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, has_pid: bool
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    if has_pid:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    notifier = SystemdNotifier()
    notifier.ping_watchdog()
    assert systemd.messages() == ["WATCHDOG=1"]
    clock.now += 0.99
    notifier.ping_watchdog()
    assert len(systemd.messages()) == 1
    clock.now += 0.02
    notifier.ping_watchdog()
    notifier.ping_watchdog()
    assert systemd.messages() == ["WATCHDOG=1"] * 2


def test_watchdog_of_another_process_is_not_pinged(
    systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    notifier = SystemdNotifier()
    notifier.ping_watchdog()
    assert systemd.messages() == []
    notifier.stopping()
    assert systemd.states() == ["STOPPING=1"]


@pytest.mark.parametrize("microseconds", [None, "", "0", "often"])
def test_no_ping_without_watchdog(
    systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch, microseconds: str | None
) -> None:
    if microseconds is not None:
        monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    SystemdNotifier().ping_watchdog()
    assert systemd.messages() == []


def test_variables_are_not_inherited_by_children(
    systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    notifier = SystemdNotifier()
    for name in "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID":
        assert name not in os.environ
    notifier.ping_watchdog()
    assert systemd.messages() == ["WATCHDOG=1"]


def test_full_socket_does_not_block(systemd: FakeSystemd) -> None:
    notifier = SystemdNotifier()
    for _ in range(2000):
        notifier.stopping()
    assert 0 < len(systemd.messages()) < 2000
    notifier.ready("listening")
    assert systemd.states()[-1] == "READY=1"


@pytest.mark.parametrize("address", ["missing", "long" * 100, "."])
def test_unusable_address_is_ignored(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    SystemdNotifier().ready("listening")


def test_lack_of_descriptors_is_ignored(
    systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_socket(*arguments: object) -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    notifier = SystemdNotifier()
    with monkeypatch.context() as patch:
        everything = vars(socket) | {"socket": no_socket}
        patch.setattr(systemd_module, "socket", SimpleNamespace(**everything))
        notifier.ready("listening")
    assert systemd.messages() == []
    notifier.stopping()
    assert systemd.states() == ["STOPPING=1"]
