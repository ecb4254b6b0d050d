import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from signal import SIGCHLD, SIGHUP, SIGINT, SIGTERM, Signals
from types import SimpleNamespace

import pytest

from runtime.workers import signals
from runtime.workers.signals import (
    HANDLED,
    SignalQueue,
)

from .support import WAIT_TIMEOUT, SERVICE, SOURCE


@pytest.fixture
def queue() -> Iterator[SignalQueue]:
    """A queue of this process, which gets its own handlers back afterwards."""
    handlers = {signum: signal.getsignal(signum) for signum in HANDLED}
    queue = SignalQueue()
    yield queue
    queue.reset_in_child()
    for signum, handler in handlers.items():
        signal.signal(signum, handler)


def send(*signums: Signals) -> None:
    for signum in signums:
        os.kill(os.getpid(), signum)


def test_signals_come_in_the_order_of_their_arrival(queue: SignalQueue) -> None:
    send(SIGHUP, SIGTERM, SIGCHLD, SIGINT, SIGHUP)
    assert queue.wait(WAIT_TIMEOUT) == [SIGHUP, SIGTERM, SIGCHLD, SIGINT, SIGHUP]
    assert queue.wait(0) == []


def test_no_signal_is_lost(queue: SignalQueue) -> None:
    send(*[SIGCHLD, SIGHUP] * 50, SIGTERM)
    assert queue.wait(WAIT_TIMEOUT) == [*[SIGCHLD, SIGHUP] * 50, SIGTERM]


def test_a_signal_ends_the_wait(queue: SignalQueue) -> None:
    begin = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", ""]):
        assert queue.wait(WAIT_TIMEOUT) == [SIGCHLD]
    assert time.monotonic() - begin < WAIT_TIMEOUT


def test_without_a_signal_it_waits_as_long_as_it_is_told(queue: SignalQueue) -> None:
    begin = time.monotonic()
    assert queue.wait(0.05) == []
    assert 0.04 < time.monotonic() - begin < WAIT_TIMEOUT


def test_who_leaves_obeys_signals_but_none_of_a_terminal(queue: SignalQueue) -> None:
    assert signal.getsignal(SIGTERM) not in (signal.SIG_DFL, signal.SIG_IGN)
    queue.reset_in_child()
    assert [signal.getsignal(signum) for signum in (SIGTERM, SIGCHLD, SIGINT, SIGHUP)] == [
        signal.SIG_DFL,
        signal.SIG_DFL,
        signal.SIG_IGN,
        signal.SIG_IGN,
    ]
    assert signal.set_wakeup_fd(-1) == -1


def test_signals_to_one_who_has_left_are_not_the_others(queue: SignalQueue) -> None:
    pid = os.fork()
    if pid == 0:
        queue.reset_in_child()
        send(SIGHUP, SIGINT)
        os._exit(0)
    os.waitpid(pid, 0)
    assert queue.wait(WAIT_TIMEOUT) == [SIGCHLD]


@pytest.fixture
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have something else where the terminal should be."""
    everything = vars(os) | {"open": lambda path, flags: os.open(os.devnull, flags)}
    monkeypatch.setattr(signals, "os", SimpleNamespace(**everything))


@pytest.mark.usefixtures("_no_terminal")
def test_what_is_no_terminal_counts_as_none(queue: SignalQueue) -> None:
    send(SIGHUP)
    assert queue.wait(WAIT_TIMEOUT) == [SIGHUP]


PROGRAM = f"""
import fcntl, os, signal, sys, termios
from {SERVICE}.signals import SignalQueue

how = sys.argv[1]
if how != "without a terminal":
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
if how == "with nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
if how == "in the background" and (child := os.fork()):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.exit(os.waitpid(child, 0)[1])
if how == "in the background":
    os.setpgid(0, 0)
queue = SignalQueue()
print(os.getpid(), flush=True)
print(*(signum.name for signum in queue.wait({PATIENCE})))
"""


@pytest.mark.parametrize(
    ("how", "end", "expected"),
    [
        ("in a terminal", "closed", "SIGTERM"),
        ("in a terminal", "signalled", "SIGHUP"),
        ("with nohup", "closed", "SIGHUP"),
        ("in the background", "closed and signalled", "SIGHUP"),
        ("without a terminal", "signalled", "SIGHUP"),
    ],
)
def test_the_end_of_its_terminal_is_a_reason_to_stop(how: str, end: str, expected: str) -> None:
    terminal, inside = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, how],
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        start_new_session=True,
        stdin=inside,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(inside)
        assert process.stdout
        pid = int(process.stdout.readline())
        if "closed" in end:
            os.close(terminal)
        if "signalled" in end:
            os.kill(pid, SIGHUP)
        assert process.stdout.readline() == f"{expected}\n"
        assert process.wait(WAIT_TIMEOUT) == 0
    if "closed" not in end:
        os.close(terminal)
