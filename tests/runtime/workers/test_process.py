import faulthandler
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import NoReturn

import pytest

from runtime import process as module
from runtime.workers.process import (
    MAX_REPORT_SIZE,
    Process,
    fork,
    reap,
)
from runtime.workers.scoreboard import (
    ADMIN_SLOT,
    Row,
    Scoreboard,
)
from runtime.settings import SettingsError
from runtime.workers.signals import SignalQueue
from runtime.process.sockets import StartupError
from runtime.status import State

from .support import WAIT_TIMEOUT, SERVICE
from .test_logwriter import wait_for
from .test_signals import queue

__all__ = ["queue"]  # the fixture

Work = Callable[[int, Row, socket.socket], None]


class Nursery:
    """Forks processes, and ends those that a test leaves."""

    def __init__(self, signals: SignalQueue) -> None:
        self._signals = signals
        self._scoreboard = Scoreboard(4)
        self._processes: list[Process] = []
        self._codes: dict[int, int] = {}

    def __call__(self, work: Work, slot: int = 0) -> Process:
        row = self._scoreboard.take(slot)
        process = fork(slot, row, work, self._signals, self._processes)
        self._processes.append(process)
        return process

    def exit_code(self, process: Process) -> int:
        """Wait until a process ends."""
        wait_for(lambda: self._codes.update(reap()) or process.pid in self._codes)
        return self._codes[process.pid]

    def bury(self, process: Process) -> tuple[str, dict[str, str]]:
        """Wait until a process ends, and return what is to be said of it."""
        return process.bury(self.exit_code(process))

    def end(self) -> None:
        for process in self._processes:
            if process.pid not in self._codes:
                os.kill(process.pid, signal.SIGKILL)
                self.exit_code(process)
            process.channel.close()


@pytest.fixture
def start_service(queue: SignalQueue) -> Iterator[Nursery]:
    nursery = Nursery(queue)
    yield nursery
    nursery.end()


def rest(slot: int, row: Row, channel: socket.socket) -> None:
    """Be ready, and do nothing until a signal comes."""
    row.set_state(State.READY)
    while True:
        signal.pause()


def leave_with(code: int) -> Work:
    def work(slot: int, row: Row, channel: socket.socket) -> None:
        os._exit(code)

    return work


def fail_with(error: BaseException) -> Work:
    def work(slot: int, row: Row, channel: socket.socket) -> None:
        raise error

    return work


def tell(*facts: Callable[[], object]) -> Work:
    """Tell what is true in the process, as the reason why it cannot start."""

    def work(slot: int, row: Row, channel: socket.socket) -> None:
        raise StartupError(json.dumps([fact() for fact in facts]))

    return work


def told(start_service: Nursery, work: Work) -> list[object]:
    what, _ = start_service.bury(start_service(work))
    facts: list[object] = json.loads(what.partition(": ")[2])
    return facts


def test_a_process_does_its_work_with_what_it_is_given(start_service: Nursery) -> None:
    def work(slot: int, row: Row, channel: socket.socket) -> None:
        row.heartbeat(slot + 100, 0)
        channel.sendall(b"done")

    process = start_service(work, slot=2)
    assert process.slot == 2
    assert not process.leaving
    assert process.deadline == math.inf
    assert start_service.exit_code(process) == 0
    assert process.row.in_flight == 102
    assert process.channel.recv(100) == b"done"
    process.bury(0)


def test_names_say_who_is_meant(start_service: Nursery) -> None:
    worker, admin = start_service(rest, slot=3), start_service(rest, slot=ADMIN_SLOT)
    assert str(worker) == f"worker 3, pid {worker.pid}"
    assert str(admin) == f"admin process, pid {admin.pid}"


def test_a_process_starts_without_the_packages_modules(start_service: Nursery) -> None:
    own = [name for name in sys.modules if name.partition(".")[0] == SERVICE]
    assert len(own) > 5
    loaded = told(
        start_service,
        tell(
            lambda: [name for name in sys.modules if name.partition(".")[0] == SERVICE],
            lambda: "tornado.web" in sys.modules,
            lambda: __name__ in sys.modules,
        ),
    )
    assert loaded == [[], True, True]
    assert [name for name in sys.modules if name.partition(".")[0] == SERVICE] == own


def test_a_process_has_signals_of_its_own(start_service: Nursery, queue: SignalQueue) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        facts = told(
            start_service,
            tell(
                lambda: sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
                lambda: signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
                lambda: signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
            ),
        )
        assert facts == [sorted(before), True, True]
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    assert queue.wait(WAIT_TIMEOUT) == [signal.SIGCHLD]


def test_a_process_sees_the_end_of_the_supervisor_while_others_live(start_service: Nursery) -> None:
    def wait_for_end(slot: int, row: Row, channel: socket.socket) -> None:
        row.set_state(State.READY)
        os._exit(7 if channel.recv(1) == b"" else 8)

    first = start_service(wait_for_end, slot=0)
    second = start_service(wait_for_end, slot=1)
    third = start_service(wait_for_end, slot=2)
    wait_for(lambda: all(one.row.ready for one in (first, second, third)))
    first.channel.close()
    assert start_service.exit_code(first) == 7
    third.channel.close()
    assert start_service.exit_code(third) == 7
    second.channel.close()
    assert start_service.exit_code(second) == 7


def test_without_processes_to_be_had_nothing_is_left(
    queue: SignalQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_fork() -> NoReturn:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(module, "os", SimpleNamespace(**vars(os) | {"fork": no_fork}))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    free = os.dup(0)
    os.close(free)
    with pytest.raises(BlockingIOError):
        fork(0, Scoreboard(1).take(0), rest, queue, [])
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    assert os.dup(0) == free
    os.close(free)


def test_the_dead_are_told_with_their_exit_codes(start_service: Nursery) -> None:
    assert list(reap()) == []
    living = start_service(rest)
    assert list(reap()) == []
    assert start_service.exit_code(start_service(leave_with(3), slot=1)) == 3
    living.send(signal.SIGTERM)
    assert start_service.exit_code(living) == -signal.SIGTERM


def test_strangers_are_waited_for_as_well() -> None:
    strangers = [subprocess.Popen([sys.executable, "-c", "exit(3)"]) for _ in range(3)]
    dead = dict[int, int]()
    wait_for(lambda: dead.update(reap()) or len(dead) == 3)
    assert dead == {stranger.pid: 3 for stranger in strangers}
    for stranger in strangers:
        stranger.wait()  # in vain, but now it knows


@pytest.mark.parametrize(("code", "end"), [(0, "exit code 0"), (7, "exit code 7")])
def test_a_process_that_ends_by_itself_is_buried_with_its_exit_code(
    start_service: Nursery, code: int, end: str
) -> None:
    process = start_service(leave_with(code), slot=1)
    assert start_service.bury(process) == (f"worker 1, pid {process.pid}: {end}", {})


def test_a_process_that_is_killed_is_buried_with_the_signal(start_service: Nursery) -> None:
    process = start_service(rest)
    process.send(signal.SIGKILL)
    assert start_service.bury(process) == (f"worker 0, pid {process.pid}: killed by SIGKILL", {})


def test_a_process_that_was_ready_is_buried_with_its_requests(start_service: Nursery) -> None:
    process = start_service(rest)
    process.ready_since = time.monotonic()
    process.row.heartbeat(3, 0)
    process.send(signal.SIGTERM)
    expected = f"worker 0, pid {process.pid}: killed by SIGTERM, requests in flight: 3"
    assert start_service.bury(process) == (expected, {})


def test_a_signal_without_a_name_is_told_by_its_number(start_service: Nursery) -> None:
    process = start_service(leave_with(0))
    assert start_service.exit_code(process) == 0
    what, _ = process.bury(-signal.SIGRTMIN - 1)
    assert what.endswith(f": killed by signal {signal.SIGRTMIN + 1}")


def test_burying_closes_the_channel(start_service: Nursery) -> None:
    process = start_service(leave_with(0))
    start_service.bury(process)
    assert process.channel.fileno() == -1


def test_the_last_words_of_a_process_are_the_exception_that_it_raised(start_service: Nursery) -> None:
    process = start_service(fail_with(ValueError("no such thing")))
    what, exception = start_service.bury(process)
    assert what == f"worker 0, pid {process.pid}: ValueError('no such thing')"
    assert exception["exception.type"] == "ValueError"
    assert exception["exception.message"] == "no such thing"
    assert exception["exception.stacktrace"].startswith("Traceback (most recent call last):\n")
    assert "in fail_with" not in exception["exception.stacktrace"]
    assert "in work\n" in exception["exception.stacktrace"]
    assert exception["exception.stacktrace"].endswith("ValueError: no such thing\n")
    assert set(exception) == {"exception.type", "exception.message", "exception.stacktrace"}


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_every_exception_is_an_end(start_service: Nursery, error: BaseException) -> None:
    process = start_service(fail_with(error))
    assert start_service.exit_code(process) == 1
    what, exception = process.bury(1)
    assert what.endswith(f": {error!r}")
    assert exception["exception.type"] == type(error).__name__


def test_why_it_cannot_start_comes_with_what_caused_it(start_service: Nursery) -> None:
    def work(slot: int, row: Row, channel: socket.socket) -> None:
        try:
            raise OSError("no database")
        except OSError as error:
            raise StartupError("cannot start orders") from error

    process = start_service(work)
    what, exception = start_service.bury(process)
    assert what == f"worker 0, pid {process.pid}: cannot start orders"
    assert (exception["exception.type"], exception["exception.message"]) == (
        "OSError",
        "no database",
    )
    assert "cannot start orders" not in exception["exception.stacktrace"]


def test_bad_settings_are_one_line_without_an_exception(start_service: Nursery) -> None:
    process = start_service(fail_with(SettingsError("Bad settings:\n  APP_PORT: bad\n  APP_THREADS: bad")))
    what, exception = start_service.bury(process)
    assert what.endswith(": Bad settings: APP_PORT: bad APP_THREADS: bad")
    assert exception == {}


def test_a_reason_is_one_line(start_service: Nursery) -> None:
    what, _ = start_service.bury(start_service(fail_with(StartupError("no\n  such\tthing\n"))))
    assert what.endswith(": no such thing")


@pytest.mark.parametrize("text", ["long", "\U0001f680\U0001f680\U0001f680\U0001f680", "\ud800" * 4])
def test_long_last_words_are_cut_and_hold_nobody_up(start_service: Nursery, text: str) -> None:
    process = start_service(fail_with(ValueError(text * 100_000 + " end")))
    what, exception = start_service.bury(process)
    assert what.partition(": ")[2].startswith("ValueError('")
    assert len(what) < 10_000
    assert exception["exception.type"] == "ValueError"
    assert exception["exception.message"].startswith(text)
    assert exception["exception.stacktrace"].endswith(f"{text} end\n")
    assert sum(map(len, exception.values())) < 20_000


@pytest.mark.parametrize(
    "words", [b"{", b'{"why', b"[]", b"7", b"\xff", b"[" * 100_000, b'{"x": 1}']
)
def test_last_words_that_make_no_sense_stop_nothing(start_service: Nursery, words: bytes) -> None:
    def work(slot: int, row: Row, channel: socket.socket) -> None:
        channel.sendall(words)
        os._exit(3)

    process = start_service(work)
    assert start_service.bury(process) == (f"worker 0, pid {process.pid}: exit code 3", {})


@pytest.mark.parametrize(("words", "pause"), [(b"x" * 4096, 0.0), (b"x", 0.005)])
def test_nobody_listens_for_ever(start_service: Nursery, words: bytes, pause: float) -> None:
    def babble(slot: int, row: Row, channel: socket.socket) -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        row.set_state(State.READY)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            channel.sendall(words)
            time.sleep(pause)

    process = start_service(babble)
    wait_for(lambda: process.row.ready)
    begin = time.monotonic()
    process.kill("babbles")
    assert time.monotonic() - begin < 3
    what, more = start_service.bury(process)
    assert what.endswith(": babbles")
    assert 0 < len(more["code.stacktrace"]) <= 2 * MAX_REPORT_SIZE


def test_a_process_is_told_once_to_drain(start_service: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start_service(rest)
    sent: list[int] = []
    monkeypatch.setattr(process, "send", sent.append)
    process.drain(600)
    assert process.leaving
    assert 600 < process.deadline - time.monotonic() < 610
    process.drain(5)
    assert process.deadline - time.monotonic() > 590
    assert sent == [signal.SIGTERM]


def test_a_process_that_drains_may_be_told_to_go_at_once(
    start_service: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start_service(rest)
    sent: list[int] = []
    monkeypatch.setattr(process, "send", sent.append)
    process.drain(600)
    process.cut()
    assert process.leaving
    assert process.deadline - time.monotonic() < 1
    assert sent == [signal.SIGTERM, signal.SIGUSR2]


def test_a_signal_to_leave_ends_a_process_that_is_not_ready_for_it(start_service: Nursery) -> None:
    first, second = start_service(rest), start_service(rest, slot=1)
    first.drain(600)
    second.cut()
    assert start_service.exit_code(first) == -signal.SIGTERM
    assert start_service.exit_code(second) == -signal.SIGUSR2


def test_a_process_may_go_without_being_told(start_service: Nursery) -> None:
    process = start_service(rest)
    process.expect_end(600)
    assert process.leaving
    assert 600 < process.deadline - time.monotonic() < 610
    process.drain(5)
    assert process.deadline - time.monotonic() > 590


def busy(slot: int, row: Row, channel: socket.socket) -> None:
    """Do something for ever, and show where if asked to."""
    faulthandler.register(signal.SIGUSR1, channel, all_threads=False)
    row.set_state(State.READY)
    count = 0
    while True:
        count += 1


def test_whoever_is_killed_is_buried_with_the_reason_and_a_stack(start_service: Nursery) -> None:
    process = start_service(busy)
    wait_for(lambda: process.row.ready)
    process.kill("hung")
    assert process.deadline == math.inf
    assert start_service.exit_code(process) == -signal.SIGKILL
    what, more = process.bury(-signal.SIGKILL)
    assert what == f"worker 0, pid {process.pid}: hung"
    assert list(more) == ["code.stacktrace"]
    assert re.search(r"line \d+ in busy\n", more["code.stacktrace"])


def test_who_does_not_even_run_is_buried_without_a_stack(start_service: Nursery) -> None:
    process = start_service(busy)
    wait_for(lambda: process.row.ready)
    process.send(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    process.kill("hung")
    expected = f"worker 0, pid {process.pid}: hung; it did not even run"
    assert start_service.bury(process) == (expected, {})
