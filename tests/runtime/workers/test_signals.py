"""The supervisor's queue of signals, and the end of its terminal."""

import os
import pty
import signal
import subprocess
import sys
import time
from signal import SIGCHLD, SIGHUP, SIGINT, SIGTERM, Signals
from types import SimpleNamespace

import pytest
from runtime.testing import SOURCE, WAIT_TIMEOUT
from runtime.workers import signals
from runtime.workers.signals import SignalQueue

from tests.runtime.apps.terminal import (
    IN_BACKGROUND,
    IN_TERMINAL,
    WITH_NOHUP,
    WITHOUT_TERMINAL,
)

PROGRAM = "tests.runtime.apps.terminal"


def send(*signums: Signals) -> None:
    for signum in signums:
        os.kill(os.getpid(), signum)


def test_signals_keep_their_order(queue: SignalQueue) -> None:
    send(SIGHUP, SIGTERM, SIGCHLD, SIGINT, SIGHUP)
    assert queue.wait(WAIT_TIMEOUT) == [SIGHUP, SIGTERM, SIGCHLD, SIGINT, SIGHUP]
    assert queue.wait(0) == []


def test_no_signal_is_lost(queue: SignalQueue) -> None:
    send(*[SIGCHLD, SIGHUP] * 50, SIGTERM)
    assert queue.wait(WAIT_TIMEOUT) == [*[SIGCHLD, SIGHUP] * 50, SIGTERM]


def test_wait_returns_at_a_signal(queue: SignalQueue) -> None:
    begin = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", ""]):
        assert queue.wait(WAIT_TIMEOUT) == [SIGCHLD]
    assert time.monotonic() - begin < WAIT_TIMEOUT


def test_wait_times_out(queue: SignalQueue) -> None:
    begin = time.monotonic()
    assert queue.wait(0.05) == []
    assert 0.04 < time.monotonic() - begin < WAIT_TIMEOUT


def test_child_ignores_the_signals_of_a_terminal(queue: SignalQueue) -> None:
    assert signal.getsignal(SIGTERM) not in (signal.SIG_DFL, signal.SIG_IGN)
    queue.reset_in_child()
    assert [signal.getsignal(signum) for signum in (SIGTERM, SIGCHLD, SIGINT, SIGHUP)] == [
        signal.SIG_DFL,
        signal.SIG_DFL,
        signal.SIG_IGN,
        signal.SIG_IGN,
    ]
    assert signal.set_wakeup_fd(-1) == -1


def test_signals_to_a_child_are_not_queued_to_the_supervisor(queue: SignalQueue) -> None:
    pid = os.fork()
    if pid == 0:
        queue.reset_in_child()
        send(SIGHUP, SIGINT)
        os._exit(0)
    os.waitpid(pid, 0)
    assert queue.wait(WAIT_TIMEOUT) == [SIGCHLD]


@pytest.fixture
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace ``/dev/tty`` by something that is no terminal."""
    everything = vars(os) | {"open": lambda path, flags: os.open(os.devnull, flags)}
    monkeypatch.setattr(signals, "os", SimpleNamespace(**everything))


@pytest.mark.usefixtures("_no_terminal")
def test_sighup_means_reload_if_the_terminal_is_no_terminal(queue: SignalQueue) -> None:
    send(SIGHUP)
    assert queue.wait(WAIT_TIMEOUT) == [SIGHUP]


@pytest.mark.parametrize(
    ("how", "end", "expected"),
    [
        (IN_TERMINAL, "closed", "SIGTERM"),
        (IN_TERMINAL, "signalled", "SIGHUP"),
        (WITH_NOHUP, "closed", "SIGHUP"),
        (IN_BACKGROUND, "closed and signalled", "SIGHUP"),
        (WITHOUT_TERMINAL, "signalled", "SIGHUP"),
    ],
)
def test_sighup_means_stop_if_the_terminal_was_closed(how: str, end: str, expected: str) -> None:
    terminal, inside = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", PROGRAM, how],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(SOURCE), os.environ["PYTHONPATH"]])},
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
