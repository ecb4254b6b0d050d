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
from runtime import starting
from runtime.starting import ignore
from runtime.testing import SOURCE, WAIT_TIMEOUT
from runtime.workers import signals
from runtime.workers.signals import HANDLED, HANGUP_WINDOW, SignalQueue

from tests.runtime.apps.terminal import (
    CLOSED,
    IN_BACKGROUND,
    IN_TERMINAL,
    OPEN,
    WITH_NOHUP,
    WITHOUT_TERMINAL,
)
from tests.runtime.support.clock import FakeClock

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


def test_wait_returns_when_another_descriptor_is_readable(queue: SignalQueue) -> None:
    reader, writer = os.pipe()
    assert queue.wait(0, [reader]) == []
    os.write(writer, b"x")
    begin = time.monotonic()
    assert queue.wait(WAIT_TIMEOUT, [reader]) == []
    assert time.monotonic() - begin < WAIT_TIMEOUT
    send(SIGTERM)
    assert queue.wait(WAIT_TIMEOUT, [reader]) == [SIGTERM]
    os.close(reader)
    os.close(writer)


def test_wait_times_out(queue: SignalQueue) -> None:
    begin = time.monotonic()
    assert queue.wait(0.05) == []
    assert 0.04 < time.monotonic() - begin < WAIT_TIMEOUT


def test_child_ignores_what_is_for_the_supervisor(queue: SignalQueue) -> None:
    queue.reset_in_child()
    # Not SIG_IGN, which programs would inherit that the child starts.
    for signum in HANDLED:
        expected = ignore if signum in (SIGINT, SIGHUP) else signal.SIG_DFL
        assert signal.getsignal(signum) == expected
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
    monkeypatch.setattr(starting, "os", SimpleNamespace(**everything))


@pytest.mark.usefixtures("_no_terminal")
def test_terminal_that_is_no_terminal_is_not_closed(queue: SignalQueue) -> None:
    assert not queue.terminal_was_closed


@pytest.mark.parametrize(
    ("hup_at", "closed_at", "expected"),
    [
        (5.0, 5.0 - HANGUP_WINDOW / 2, True),  # a shell whose terminal was closed
        (5.0, 5.0 + HANGUP_WINDOW / 2, True),  # a shell that exits
        (5.0, 5.0 - HANGUP_WINDOW * 2, False),  # a service that the shell has disowned
        (5.0, 5.0 + HANGUP_WINDOW * 2, False),  # a reload
    ],
)
def test_sighup_and_the_end_of_the_terminal_belong_together_if_they_come_together(
    queue: SignalQueue,
    monkeypatch: pytest.MonkeyPatch,
    hup_at: float,
    closed_at: float,
    expected: bool,
) -> None:
    clock = FakeClock(monkeypatch, signals)
    monkeypatch.setattr(signals, "has_terminal", lambda: clock.now < closed_at)
    clock.now = 0.0
    queue._has_terminal = True
    for now in sorted([hup_at, closed_at]):
        clock.now = now
        if now == hup_at:
            send(SIGHUP)
            assert queue.wait(WAIT_TIMEOUT) == [SIGHUP]
        is_over = queue.terminal_was_closed
    assert is_over is expected


@pytest.mark.parametrize(
    ("how", "end", "expected"),
    [
        (IN_TERMINAL, "closed", CLOSED),
        (IN_TERMINAL, "signalled", OPEN),
        (WITH_NOHUP, "closed", OPEN),
        (IN_BACKGROUND, "closed and signalled", CLOSED),
        (IN_BACKGROUND, "signalled", OPEN),
        (WITHOUT_TERMINAL, "signalled", OPEN),
    ],
)
def test_end_of_the_terminal_is_noticed(how: str, end: str, expected: str) -> None:
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
        assert process.stdout.readline() == f"SIGHUP {expected}\n"
        assert process.wait(WAIT_TIMEOUT) == 0
    if "closed" not in end:
        os.close(terminal)
