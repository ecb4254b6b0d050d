import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import pytest

from runtime.logs import writer as logwriter
from runtime.logs import shared as sharedlog
from runtime.logs.writer import PIPE_BUF, ThreadedHandler
from runtime.logs.shared import (
    NonBlockingHandler,
    ProcessLock,
)

from .support import WAIT_TIMEOUT
from .test_logwriter import lines, numbered, wait_for

processes = multiprocessing.get_context("fork")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "service.log"


@contextmanager
def forked(work: Callable[[], None]) -> Iterator[BaseProcess]:
    """Do something in another process, which gets its end with the block."""
    process = processes.ServiceProcess(target=work)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


@contextmanager
def held_elsewhere(turn: ProcessLock) -> Iterator[BaseProcess]:
    """Let another process have the turn."""
    has_it = processes.Event()

    def hold() -> None:
        with turn:
            has_it.set()
            signal.pause()

    with forked(hold) as holder:
        assert has_it.wait(WAIT_TIMEOUT)
        yield holder


def say(log_records: NonBlockingHandler, *messages: str) -> None:
    for message in messages:
        log_records.handle(logging.makeLogRecord({"msg": message, "levelname": "INFO"}))


@pytest.fixture(params=["linux", "another system"])
def turn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ProcessLock:
    platform = sys.platform if request.param == "linux" else "darwin"
    monkeypatch.setattr(sharedlog, "sys", SimpleNamespace(platform=platform))
    return ProcessLock()


def test_a_turn_that_nobody_has_can_be_taken_and_kept(turn: ProcessLock) -> None:
    assert turn.take()
    assert turn.take()


def test_two_processes_never_have_the_turn_at_once(turn: ProcessLock) -> None:
    with held_elsewhere(turn):
        assert not turn.take()


def test_a_turn_is_free_when_the_process_that_has_it_is_killed(turn: ProcessLock) -> None:
    with held_elsewhere(turn) as holder:
        holder.kill()
        with turn:
            pass


def test_a_turn_that_is_over_is_another_processes(turn: ProcessLock) -> None:
    with turn:
        pass
    with held_elsewhere(turn):
        pass
    assert turn.take()
    turn.give()
    with held_elsewhere(turn):
        assert not turn.take()


def test_a_process_waits_for_its_turn(turn: ProcessLock) -> None:
    order = processes.SimpleQueue()

    def wait() -> None:
        order.put("waits")
        with turn:
            order.put("has it")

    with turn:
        waiting = processes.ServiceProcess(target=wait)
        waiting.start()
        assert order.get() == "waits"
        assert order.empty()
    assert order.get() == "has it"
    waiting.join()


@contextmanager
def wanted_elsewhere(turn: ProcessLock) -> Iterator[Event]:
    """Let another process want the turn, and tell when it has had it."""
    had_it = processes.Event()

    def want() -> None:
        with turn:
            had_it.set()

    with forked(want):
        yield had_it


def test_who_only_tries_gets_the_next_turn(
    turn: ProcessLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharedlog, "COURTESY", WAIT_TIMEOUT)
    with held_elsewhere(turn) as holder:
        assert not turn.take()
        with wanted_elsewhere(turn) as had_it:
            holder.kill()
            wait_for(turn.take)
            assert not had_it.is_set()
            turn.give()
            assert had_it.wait(WAIT_TIMEOUT)


def test_nobody_waits_for_ever_for_one_who_only_tried(
    turn: ProcessLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharedlog, "COURTESY", 0.02)
    with held_elsewhere(turn):
        assert not turn.take()
    with wanted_elsewhere(turn) as had_it:
        assert had_it.wait(WAIT_TIMEOUT)


class Pipe:
    """Standard output of this process and its children, read when a test says so."""

    def __init__(self) -> None:
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._before = os.dup(1)
        os.dup2(writer, 1)
        os.close(writer)
        self.text = ""

    def read(self) -> str:
        """Return all that has been written so far."""
        with suppress(BlockingIOError):
            while more := os.read(self._reader, 65536):
                self.text += more.decode()
        return self.text

    def lines(self) -> list[str]:
        return self.read().splitlines()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.dup2(self._before, 1)
        os.close(self._before)
        os.close(self._reader)


def wide(count: int) -> list[str]:
    """Make more lines than a pipe takes, if there are many."""
    return [f"line {number} {'x' * 1000}" for number in range(count)]


def test_lines_wait_until_it_is_told_to_write() -> None:
    with Pipe() as pipe:
        log_records = NonBlockingHandler(None, ProcessLock())
        say(log_records, *numbered(3))
        assert pipe.lines() == []
        assert log_records.write()
        assert pipe.lines() == numbered(3)
        assert log_records.write()
        assert pipe.lines() == numbered(3)


def test_a_full_pipe_holds_nothing_up_and_gets_the_rest_later() -> None:
    with Pipe() as pipe:
        log_records = NonBlockingHandler(None, ProcessLock())
        say(log_records, *wide(1000))
        assert not log_records.write()
        assert not log_records.write()
        assert pipe.read().endswith("\n")
        assert 0 < len(pipe.lines()) < 1000
        say(log_records, "last")
        wait_for(lambda: pipe.read() and log_records.write())
        assert pipe.lines() == [*wide(1000), "last"]


def test_a_line_longer_than_a_pipe_is_written_piece_by_piece() -> None:
    with Pipe() as pipe:
        log_records = NonBlockingHandler(None, ProcessLock())
        messages = ["first", "x" * 50 * PIPE_BUF, "last"]
        say(log_records, *messages)
        assert not log_records.write()
        wait_for(lambda: pipe.read() and log_records.write())
        assert pipe.lines() == messages


def test_nobody_else_writes_into_the_middle_of_a_line() -> None:
    with Pipe() as pipe:
        turn = ProcessLock()
        log_records = NonBlockingHandler(None, turn)
        say(log_records, "x" * 50 * PIPE_BUF)
        assert not log_records.write()
        with wanted_elsewhere(turn) as had_it:
            assert not had_it.wait(0.05)
            wait_for(lambda: pipe.read() and log_records.write())
            assert had_it.wait(WAIT_TIMEOUT)


def test_between_lines_others_get_their_turn() -> None:
    with Pipe() as pipe:
        turn = ProcessLock()
        log_records = NonBlockingHandler(None, turn)
        say(log_records, *wide(1000))
        assert not log_records.write()
        with held_elsewhere(turn):
            assert pipe.read()
            assert not log_records.write()
        wait_for(lambda: pipe.read() and log_records.write())
        assert pipe.lines() == wide(1000)


def test_it_waits_for_no_turn() -> None:
    with Pipe() as pipe:
        turn = ProcessLock()
        log_records = NonBlockingHandler(None, turn)
        with held_elsewhere(turn):
            say(log_records, *numbered(3))
            assert not log_records.write()
            assert pipe.lines() == []
        assert log_records.write()
        assert pipe.lines() == numbered(3)
        with held_elsewhere(turn):  # which it has given back
            pass


def test_lines_of_several_processes_never_mix() -> None:
    with Pipe() as pipe:
        turn = ProcessLock()
        log_records = NonBlockingHandler(None, turn)

        def write(name: str) -> None:
            writer = ThreadedHandler(None, turn)
            writer.handle(logging.makeLogRecord({"msg": name * 3 * PIPE_BUF}))
            writer.close()

        with forked(lambda: write("a")), forked(lambda: write("b")):
            say(log_records, *["c" * 3 * PIPE_BUF] * 20)
            wait_for(lambda: (log_records.write(), len(pipe.lines())) == (True, 22))
        assert sorted(set(pipe.lines())) == [name * 3 * PIPE_BUF for name in "abc"]


def test_a_forked_copy_writes_nothing() -> None:
    with Pipe() as pipe:
        log_records = NonBlockingHandler(None, ProcessLock())
        say(log_records, "once")

        def write() -> None:
            say(log_records, "not by another")
            assert log_records.write()
            log_records.close()

        with forked(write) as process:
            process.join()
            assert process.exitcode == 0
        assert log_records.write()
        assert pipe.lines() == ["once"]


def test_a_file_is_opened_anew_each_time(path: Path) -> None:
    log_records = NonBlockingHandler(path, ProcessLock())
    assert path.stat().st_mode & 0o007 == 0
    say(log_records, "before")
    assert log_records.write()
    old = path.with_suffix(".1")
    path.rename(old)
    say(log_records, "after")
    assert log_records.write()
    assert (lines(old), lines(path)) == (["before"], ["after"])


def test_a_file_that_cannot_be_written_is_an_error_at_the_start_only(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        NonBlockingHandler(path / "missing", ProcessLock())
    turn = ProcessLock()
    log_records = NonBlockingHandler(path, turn)
    path.unlink()
    path.mkdir()
    say(log_records, "one")
    assert not log_records.write()
    with held_elsewhere(turn):  # for they may have it open
        pass
    path.rmdir()
    say(log_records, "two")
    assert log_records.write()
    assert lines(path) == ["one", "two"]


def test_files_do_not_stay_open(path: Path) -> None:
    log_records = NonBlockingHandler(path, ProcessLock())
    say(log_records, "before")
    log_records.write()
    free = os.dup(0)
    os.close(free)
    say(log_records, "after")
    log_records.write()
    assert os.dup(0) == free
    os.close(free)


def test_what_exceeds_the_limit_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with Pipe() as pipe:
        log_records = NonBlockingHandler(None, ProcessLock())
        monkeypatch.setattr(logwriter, "LIMIT", 5 * len("line 0\n"))
        say(log_records, *numbered(8))
        assert log_records.write()
        assert pipe.lines() == [*numbered(5), "log records dropped: 3"]
        say(log_records, "later")
        assert log_records.write()
        assert pipe.lines()[-2:] == ["log records dropped: 3", "later"]


def test_the_limit_holds_while_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    with Pipe() as pipe:
        log_records = NonBlockingHandler(None, ProcessLock())
        say(log_records, *wide(1000))
        assert not log_records.write()
        monkeypatch.setattr(logwriter, "LIMIT", 5 * len("line 0\n"))
        for message in numbered(8):
            say(log_records, message)
            assert not log_records.write()
        wait_for(lambda: pipe.read() and log_records.write())
        assert pipe.lines() == [*wide(1000), *numbered(5), "log records dropped: 3"]


def test_the_end_writes_what_waits() -> None:
    with Pipe() as pipe:
        turn = ProcessLock()
        log_records = NonBlockingHandler(None, turn)
        say(log_records, *numbered(3))
        with held_elsewhere(turn):
            assert not log_records.write()
        say(log_records, "last")
        log_records.close()
        assert pipe.lines() == [*numbered(3), "last"]


def test_the_end_waits_for_the_turn() -> None:
    with Pipe() as pipe:
        turn = ProcessLock()
        log_records = NonBlockingHandler(None, turn)
        say(log_records, *numbered(3))
        with held_elsewhere(turn) as holder:
            timer = threading.Timer(0.05, holder.kill)
            timer.start()
            log_records.close()
            timer.join()
        assert pipe.lines() == numbered(3)


def test_a_stalled_reader_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with Pipe() as pipe:
        log_records = NonBlockingHandler(None, ProcessLock())
        monkeypatch.setattr(sharedlog, "LAST_WORDS", 0.05)
        say(log_records, *wide(1000))
        log_records.close()
        assert 0 < len(pipe.lines()) < 1000
