"""Forking, exit reports and signals of child processes."""

import asyncio
import faulthandler
import hashlib
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import repeat
from threading import Thread
from types import SimpleNamespace
from typing import NoReturn

import pytest
from runtime.errors import SettingsError, StartupError
from runtime.http1.connections import Connections
from runtime.starting import ignore
from runtime.status import ADMIN_SLOT, State, Vitals
from runtime.testing import WAIT_TIMEOUT
from runtime.workers import child as module
from runtime.workers.blocking import WorkTeller
from runtime.workers.child import MAX_REPORT_SIZE, ChildProcess, Target, fork, reap
from runtime.workers.scoreboard import Row, Scoreboard
from runtime.workers.signals import SignalQueue

from tests.runtime.support.waiting import wait_for


class ForkHelper:
    """Forks processes, and kills those that a test leaves."""

    def __init__(self, signals: SignalQueue) -> None:
        self._signals = signals
        self._scoreboard = Scoreboard(4)
        self._processes: list[ChildProcess] = []
        self._codes: dict[int, int] = {}

    def __call__(self, target: Target, slot: int = 0) -> ChildProcess:
        row = self._scoreboard.claim(slot)
        process = fork(slot, row, target, self._signals, self._processes)
        self._processes.append(process)
        return process

    def exit_code(self, process: ChildProcess) -> int:
        """Wait until a process has exited; return its exit code."""
        wait_for(lambda: self._codes.update(reap()) or process.pid in self._codes)
        return self._codes[process.pid]

    def exit_report(self, process: ChildProcess) -> tuple[str, dict[str, str]]:
        """Wait until a process has exited; return why, and the extra fields."""
        return process.exit_report(self.exit_code(process))

    def kill_all(self) -> None:
        for process in self._processes:
            if process.pid not in self._codes:
                os.kill(process.pid, signal.SIGKILL)
                self.exit_code(process)
            process.channel.close()


@pytest.fixture
def forks(queue: SignalQueue, monkeypatch: pytest.MonkeyPatch) -> Iterator[ForkHelper]:
    monkeypatch.setattr(module, "run_exit_hooks", lambda: None)  # those of pytest
    helper = ForkHelper(queue)
    yield helper
    helper.kill_all()


def pause(slot: int, row: Row, channel: socket.socket) -> None:
    """Be ready, and do nothing until a signal."""
    row.set_state(State.READY)
    while True:
        signal.pause()


def exit_with(code: int) -> Target:
    def target(slot: int, row: Row, channel: socket.socket) -> None:
        os._exit(code)

    return target


def fail_with(error: BaseException) -> Target:
    def target(slot: int, row: Row, channel: socket.socket) -> None:
        raise error

    return target


def facts_from_child(forks: ForkHelper, *facts: Callable[[], object]) -> list[object]:
    """Return what functions return in a child."""

    def target(slot: int, row: Row, channel: socket.socket) -> None:
        raise StartupError(json.dumps([fact() for fact in facts]))

    reason, _ = forks.exit_report(forks(target))
    values: list[object] = json.loads(reason)
    return values


def test_child_runs_its_target_with_its_arguments(forks: ForkHelper) -> None:
    def target(slot: int, row: Row, channel: socket.socket) -> None:
        row.heartbeat(Vitals(slot + 100))
        channel.sendall(b"done")

    process = forks(target, slot=2)
    assert process.slot == 2
    assert not process.exiting
    assert process.deadline == math.inf
    assert forks.exit_code(process) == 0
    assert process.row.in_flight == 102
    assert process.channel.recv(100) == b"done"
    process.exit_report(0)


def test_name_has_slot_and_pid(forks: ForkHelper) -> None:
    worker, admin = forks(pause, slot=3), forks(pause, slot=ADMIN_SLOT)
    assert str(worker) == f"worker 3, pid {worker.pid}"
    assert str(admin) == f"admin process, pid {admin.pid}"


def test_child_has_default_signal_handlers_and_the_parents_mask(
    forks: ForkHelper, queue: SignalQueue
) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        facts = facts_from_child(
            forks,
            lambda: sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
            lambda: signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
            lambda: signal.getsignal(signal.SIGINT) == ignore,
        )
        assert facts == [sorted(before), True, True]
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    assert queue.wait(WAIT_TIMEOUT) == [signal.SIGCHLD]


def test_child_reads_eof_when_supervisor_exits(forks: ForkHelper) -> None:
    def wait_for_end(slot: int, row: Row, channel: socket.socket) -> None:
        row.set_state(State.READY)
        os._exit(7 if channel.recv(1) == b"" else 8)

    first = forks(wait_for_end, slot=0)
    second = forks(wait_for_end, slot=1)
    third = forks(wait_for_end, slot=2)
    wait_for(lambda: all(process.row.ready for process in (first, second, third)))
    first.channel.close()
    assert forks.exit_code(first) == 7
    third.channel.close()
    assert forks.exit_code(third) == 7
    second.channel.close()
    assert forks.exit_code(second) == 7


def test_failed_fork_leaves_nothing_behind(
    queue: SignalQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_fork() -> NoReturn:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(module, "os", SimpleNamespace(**vars(os) | {"fork": no_fork}))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    free = os.dup(0)
    os.close(free)
    with pytest.raises(BlockingIOError):
        fork(0, Scoreboard(1).claim(0), pause, queue, [])
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    assert os.dup(0) == free
    os.close(free)


def test_reap_yields_exit_codes(forks: ForkHelper) -> None:
    assert list(reap()) == []
    running = forks(pause)
    assert list(reap()) == []
    assert forks.exit_code(forks(exit_with(3), slot=1)) == 3
    running.send(signal.SIGTERM)
    assert forks.exit_code(running) == -signal.SIGTERM


def test_reap_includes_orphans() -> None:
    orphans = [subprocess.Popen([sys.executable, "-c", "exit(3)"]) for _ in range(3)]
    codes = dict[int, int]()
    wait_for(lambda: codes.update(reap()) or len(codes) == 3)
    assert codes == {orphan.pid: 3 for orphan in orphans}
    for orphan in orphans:
        orphan.wait()  # tells the object that it has exited


@pytest.mark.parametrize(("code", "reason"), [(0, "exit code 0"), (7, "exit code 7")])
def test_report_has_the_exit_code(forks: ForkHelper, code: int, reason: str) -> None:
    process = forks(exit_with(code), slot=1)
    assert forks.exit_report(process) == (reason, {})


def test_report_has_the_signal(forks: ForkHelper) -> None:
    process = forks(pause)
    process.send(signal.SIGKILL)
    assert forks.exit_report(process) == ("killed by SIGKILL", {})


def test_report_of_a_ready_process_has_the_requests_in_flight(forks: ForkHelper) -> None:
    process = forks(pause)
    process.ready_since = time.monotonic()
    process.row.heartbeat(Vitals(3))
    process.send(signal.SIGTERM)
    expected = "killed by SIGTERM, requests in flight at its last heartbeat: 3"
    assert forks.exit_report(process) == (expected, {})


def test_signal_without_a_name_is_reported_by_its_number(forks: ForkHelper) -> None:
    process = forks(exit_with(0))
    assert forks.exit_code(process) == 0
    reason, _ = process.exit_report(-signal.SIGRTMIN - 1)
    assert reason == f"killed by signal {signal.SIGRTMIN + 1}"


def test_report_closes_the_channel(forks: ForkHelper) -> None:
    process = forks(exit_with(0))
    forks.exit_report(process)
    assert process.channel.fileno() == -1


def test_report_has_the_exception(forks: ForkHelper) -> None:
    process = forks(fail_with(ValueError("no such thing")))
    reason, exception = forks.exit_report(process)
    assert reason == "ValueError('no such thing')"
    assert exception["exception.type"] == "ValueError"
    assert exception["exception.message"] == "no such thing"
    assert exception["exception.stacktrace"].startswith("Traceback (most recent call last):\n")
    assert "in fail_with" not in exception["exception.stacktrace"]
    assert "in target\n" in exception["exception.stacktrace"]
    assert exception["exception.stacktrace"].endswith("ValueError: no such thing\n")
    assert set(exception) == {"exception.type", "exception.message", "exception.stacktrace"}


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_every_exception_ends_a_child(forks: ForkHelper, error: BaseException) -> None:
    process = forks(fail_with(error))
    assert forks.exit_code(process) == 1
    reason, exception = process.exit_report(1)
    assert reason == repr(error)
    assert exception["exception.type"] == type(error).__name__


def test_report_of_a_startup_error_has_its_cause(forks: ForkHelper) -> None:
    def target(slot: int, row: Row, channel: socket.socket) -> None:
        try:
            raise OSError("no database")
        except OSError as error:
            raise StartupError("cannot start orders") from error

    process = forks(target)
    reason, exception = forks.exit_report(process)
    assert reason == "cannot start orders"
    assert (exception["exception.type"], exception["exception.message"]) == (
        "OSError",
        "no database",
    )
    assert "cannot start orders" not in exception["exception.stacktrace"]


def test_report_of_bad_settings_is_one_line_without_an_exception(forks: ForkHelper) -> None:
    process = forks(fail_with(SettingsError("Bad settings:\n  APP_PORT: bad\n  APP_THREADS: bad")))
    reason, exception = forks.exit_report(process)
    assert reason == "Bad settings: APP_PORT: bad; APP_THREADS: bad"
    assert exception == {}


def test_reason_is_one_line(forks: ForkHelper) -> None:
    reason, _ = forks.exit_report(forks(fail_with(StartupError("no\n  such\tthing\n"))))
    assert reason == "no; such thing"


def test_child_notices_the_end_of_a_supervisor_that_has_not_read_everything(
    forks: ForkHelper,
) -> None:
    def serve(slot: int, row: Row, channel: socket.socket) -> None:
        teller = WorkTeller(channel)
        channel.sendall(b"not read")
        row.set_state(State.READY)
        teller.answer_until_eof()
        os._exit(7)

    process = forks(serve)
    wait_for(lambda: process.row.ready)
    process.channel.close()
    assert forks.exit_code(process) == 7


@pytest.mark.parametrize("text", ["long", "\U0001f680\U0001f680\U0001f680\U0001f680", "\ud800" * 4])
def test_long_exception_is_truncated_and_blocks_nothing(forks: ForkHelper, text: str) -> None:
    process = forks(fail_with(ValueError(text * 100_000 + " end")))
    reason, exception = forks.exit_report(process)
    assert reason.startswith("ValueError('")
    assert len(reason) < 10_000
    assert exception["exception.type"] == "ValueError"
    assert exception["exception.message"].startswith(text)
    assert exception["exception.stacktrace"].endswith(f"{text} end\n")
    assert sum(map(len, exception.values())) < 20_000


@pytest.mark.parametrize(
    "data",
    [
        b"\x1d%s\n" % text
        for text in (b"{", b'{"reason', b"[]", b"7", b"\xff", b"[" * 100_000, b'{"x": 1}')
    ]
    + [b"", b'{"reason": "no mark"}'],
)
def test_garbage_in_exit_report_is_ignored(forks: ForkHelper, data: bytes) -> None:
    def target(slot: int, row: Row, channel: socket.socket) -> None:
        channel.sendall(data)
        os._exit(3)

    process = forks(target)
    assert forks.exit_report(process) == ("exit code 3", {})


@pytest.mark.parametrize(("data", "delay"), [(b"x" * 4096, 0.0), (b"x", 0.005)])
def test_reading_a_report_is_limited_in_time_and_size(
    forks: ForkHelper, data: bytes, delay: float
) -> None:
    def flood(slot: int, row: Row, channel: socket.socket) -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        row.set_state(State.READY)
        end = time.monotonic() + WAIT_TIMEOUT
        while time.monotonic() < end:
            channel.sendall(data)
            time.sleep(delay)

    process = forks(flood)
    wait_for(lambda: process.row.ready)
    process.kill("floods")
    assert forks.exit_code(process) == -signal.SIGKILL  # before its own end
    reason, fields = process.exit_report(-signal.SIGKILL)
    assert reason == "floods"
    assert 0 < len(fields["code.stacktrace"]) <= MAX_REPORT_SIZE


STRAY = b'Stack (most recent call first):\n  in before\n\x1e{"work": "task before"}\n'
"""What a process writes after a SIGUSR1 that is not the supervisor's."""


def test_exit_report_is_found_among_stacks(
    forks: ForkHelper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def target(slot: int, row: Row, channel: socket.socket) -> None:
        monkeypatch.setattr(module, "run_exit_hooks", lambda: channel.sendall(STRAY))
        channel.sendall(STRAY)
        row.set_state(State.READY)
        channel.recv(1)
        channel.sendall(STRAY)
        raise StartupError("no database")

    process = forks(target)
    wait_for(lambda: process.row.ready)
    process.receive()
    process.channel.sendall(b"?")
    assert forks.exit_report(process)[0] == "no database"


def test_process_that_writes_unasked_does_not_wait_for_ever(forks: ForkHelper) -> None:
    def target(slot: int, row: Row, channel: socket.socket) -> None:
        for _ in range(10_000):
            channel.sendall(STRAY)
        row.set_state(State.READY)
        raise StartupError("no database")

    process = forks(target)
    wait_for(lambda: process.receive() or process.row.ready)
    assert forks.exit_report(process)[0] == "no database"


def test_kill_reports_nothing_of_before(forks: ForkHelper) -> None:
    def target(slot: int, row: Row, channel: socket.socket) -> None:
        channel.sendall(STRAY)
        run_task(run_python)(slot, row, channel)

    process = forks(target)
    wait_for(lambda: process.row.ready)
    process.kill("hung")
    reason, fields = forks.exit_report(process)
    assert reason == "hung; it was running task send_receipt"
    assert "in before" not in fields["code.stacktrace"]
    assert "in run_python" in fields["code.stacktrace"]


def test_drain_is_requested_once(forks: ForkHelper, monkeypatch: pytest.MonkeyPatch) -> None:
    process = forks(pause)
    sent: list[int] = []
    monkeypatch.setattr(process, "send", sent.append)
    process.drain(600)
    assert process.exiting
    assert 600 < process.deadline - time.monotonic() < 610
    process.drain(5)
    assert process.deadline - time.monotonic() > 590
    assert sent == [signal.SIGTERM]


def test_draining_process_may_be_aborted(
    forks: ForkHelper, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = forks(pause)
    sent: list[int] = []
    monkeypatch.setattr(process, "send", sent.append)
    process.drain(600)
    process.abort()
    assert process.exiting
    assert process.deadline - time.monotonic() <= module.EXIT_GRACE
    assert sent == [signal.SIGTERM, signal.SIGUSR2]


def test_exit_signals_end_a_process_without_handlers(forks: ForkHelper) -> None:
    first, second = forks(pause), forks(pause, slot=1)
    first.drain(600)
    second.abort()
    assert forks.exit_code(first) == -signal.SIGTERM
    assert forks.exit_code(second) == -signal.SIGUSR2


def test_exit_that_was_not_requested_has_a_deadline(forks: ForkHelper) -> None:
    process = forks(pause)
    process.mark_exiting(600)
    assert process.exiting
    assert 600 < process.deadline - time.monotonic() < 610
    process.drain(5)
    assert process.deadline - time.monotonic() > 590


def busy(slot: int, row: Row, channel: socket.socket) -> None:
    """Run for ever, and dump the stack on SIGUSR1."""
    faulthandler.register(signal.SIGUSR1, channel, all_threads=False)
    row.set_state(State.READY)
    count = 0
    while True:
        count += 1


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a process the time to dump its stack that it takes on a busy machine."""
    monkeypatch.setattr(module, "STACK_TIMEOUT", 10.0)
    monkeypatch.setattr(module, "MORE_DATA_TIMEOUT", 0.1)


@pytest.mark.usefixtures("_patient")
def test_kill_reports_reason_and_stack(forks: ForkHelper) -> None:
    process = forks(busy)
    wait_for(lambda: process.row.ready)
    process.kill("hung")
    assert process.deadline == math.inf
    assert forks.exit_code(process) == -signal.SIGKILL
    reason, fields = process.exit_report(-signal.SIGKILL)
    assert reason == "hung"
    assert list(fields) == ["code.stacktrace"]
    assert re.search(r"line \d+ in busy\n", fields["code.stacktrace"])


def test_kill_of_a_stopped_process_reports_no_stack(forks: ForkHelper) -> None:
    process = forks(busy)
    wait_for(lambda: process.row.ready)
    process.send(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    process.kill("hung")
    expected = "hung; no stack: it was not running"
    assert forks.exit_report(process) == (expected, {})


def run_task(block: Callable[[], object]) -> Target:
    """Return what runs an event loop, as a worker does, in which a task calls a function."""

    async def serve(row: Row, channel: socket.socket) -> None:
        teller, connections = WorkTeller(channel), Connections()
        teller.watch(asyncio.get_running_loop(), connections)
        Thread(target=teller.answer_until_eof, daemon=True).start()
        task = asyncio.create_task(run(row))
        connections.tasks[task] = "send_receipt"
        await task

    async def run(row: Row) -> None:
        row.set_state(State.READY)
        block()

    def target(slot: int, row: Row, channel: socket.socket) -> None:
        asyncio.run(serve(row, channel))

    return target


def run_python() -> None:
    while True:
        pass


def receive() -> None:
    """Wait in a system call that a signal does not interrupt."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.accept()


def derive_key() -> None:
    """Run native code that releases the GIL, and does not look for signals."""
    hashlib.pbkdf2_hmac("sha256", b"secret", b"salt", 10**9)


def match_for_ever() -> None:
    """Run native code that does not release the GIL, but looks for signals."""
    re.fullmatch("(a|a)*b", "a" * 100)


def consume_for_ever() -> None:
    """Run native code that does neither."""
    deque(repeat(None), maxlen=0)


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize(
    ("block", "was_blocked"),
    [
        (lambda: time.sleep(60), True),
        (run_python, True),
        (run_python, False),
        (receive, True),
        (derive_key, True),
        (match_for_ever, True),
    ],
)
def test_kill_reports_what_the_event_loop_is_running(
    forks: ForkHelper,
    monkeypatch: pytest.MonkeyPatch,
    block: Callable[[], object],
    was_blocked: bool,
) -> None:
    monkeypatch.setattr(module, "ANSWER_TIMEOUT", 10.0)
    process = forks(run_task(block))
    wait_for(lambda: process.row.ready)
    process.was_blocked = was_blocked
    process.kill("hung")
    reason, fields = forks.exit_report(process)
    how = " by" if was_blocked else "; it was running"
    assert reason == f"hung{how} task send_receipt"
    assert list(fields) == ["code.stacktrace"]
    assert "\x1e" not in fields["code.stacktrace"]
    assert re.search(r"line \d+ in run\n", fields["code.stacktrace"])


@pytest.mark.usefixtures("_patient")
def test_kill_says_so_if_no_thread_can_answer(forks: ForkHelper) -> None:
    process = forks(run_task(consume_for_ever))
    wait_for(lambda: process.row.ready)
    process.was_blocked = True
    process.kill("hung")
    reason, fields = forks.exit_report(process)
    assert reason == "hung; the request is unknown: native code lets no thread answer"
    assert "in consume_for_ever\n" in fields["code.stacktrace"]
