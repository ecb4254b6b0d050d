import json
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
from runtime.logs import shared as shared_module
from runtime.logs import writer as writer_module
from runtime.logs.shared import NonBlockingHandler, ProcessLock
from runtime.logs.writer import PIPE_BUF, ThreadedHandler
from runtime.monitor.events import RECORDS_DROPPED, EventHandler
from runtime.testing import WAIT_TIMEOUT

from ..support.logs import lines, log, numbered
from ..support.waiting import wait_for

multiprocess = multiprocessing.get_context("fork")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "service.log"


@contextmanager
def forked(target: Callable[[], None]) -> Iterator[BaseProcess]:
    """Call a function in another process, which is killed at the end of the context."""
    process = multiprocess.Process(target=target)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


@contextmanager
def held_elsewhere(lock: ProcessLock) -> Iterator[BaseProcess]:
    """Let another process hold the lock."""
    is_held = multiprocess.Event()

    def hold() -> None:
        with lock:
            is_held.set()
            signal.pause()

    with forked(hold) as holder:
        assert is_held.wait(WAIT_TIMEOUT)
        yield holder


@pytest.fixture(params=["linux", "darwin"])
def lock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ProcessLock:
    if request.param == "linux" and sys.platform != "linux":
        pytest.skip("only Linux has memfd_create")
    monkeypatch.setattr(shared_module, "sys", SimpleNamespace(platform=request.param))
    return ProcessLock()


def test_free_lock_is_acquired_and_kept(lock: ProcessLock) -> None:
    assert lock.try_acquire()
    assert lock.try_acquire()


def test_lock_is_exclusive(lock: ProcessLock) -> None:
    with held_elsewhere(lock):
        assert not lock.try_acquire()


def test_lock_is_released_when_its_holder_is_killed(lock: ProcessLock) -> None:
    with held_elsewhere(lock) as holder:
        holder.kill()
        with lock:
            pass


def test_released_lock_can_be_acquired_by_another_process(lock: ProcessLock) -> None:
    with lock:
        pass
    with held_elsewhere(lock):
        pass
    assert lock.try_acquire()
    lock.release()
    with held_elsewhere(lock):
        assert not lock.try_acquire()


def test_context_manager_waits_for_the_lock(lock: ProcessLock) -> None:
    order = multiprocess.SimpleQueue()

    def wait() -> None:
        order.put("waiting")
        with lock:
            order.put("acquired")

    with lock:
        waiting = multiprocess.Process(target=wait)
        waiting.start()
        assert order.get() == "waiting"
        assert order.empty()
    assert order.get() == "acquired"
    waiting.join()


@contextmanager
def requested_elsewhere(lock: ProcessLock) -> Iterator[Event]:
    """Let another process wait for the lock; the event says that it has had it."""
    waiting, acquired = multiprocess.Event(), multiprocess.Event()

    def acquire() -> None:
        waiting.set()
        with lock:
            acquired.set()

    with forked(acquire):
        assert waiting.wait(WAIT_TIMEOUT)
        yield acquired


def test_waiters_yield_to_a_process_that_tried_in_vain(
    lock: ProcessLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_module, "YIELD_TIMEOUT", WAIT_TIMEOUT)
    with held_elsewhere(lock) as holder:
        assert not lock.try_acquire()
        with requested_elsewhere(lock) as acquired:
            assert not acquired.wait(0.05)
            holder.kill()
            wait_for(lock.try_acquire)
            assert not acquired.is_set()
            lock.release()
            assert acquired.wait(WAIT_TIMEOUT)


def test_waiters_yield_for_a_limited_time(
    lock: ProcessLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_module, "YIELD_TIMEOUT", 0.02)
    with held_elsewhere(lock):
        assert not lock.try_acquire()
    with requested_elsewhere(lock) as acquired:
        assert acquired.wait(WAIT_TIMEOUT)


class StdoutPipe:
    """Makes stdout of this process and its children a pipe, from which a test reads."""

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


def long_lines(count: int) -> list[str]:
    """Return lines of 1 kB: 1000 of them are more than a pipe takes."""
    return [f"line {number} {'x' * 1000}" for number in range(count)]


def test_lines_are_buffered_until_flush() -> None:
    with StdoutPipe() as pipe:
        handler = NonBlockingHandler(None, ProcessLock())
        log(handler, *numbered(3))
        assert pipe.lines() == []
        handler.flush()
        assert pipe.lines() == numbered(3)
        assert handler.try_flush()
        assert pipe.lines() == numbered(3)


def test_full_pipe_does_not_block_and_gets_the_rest_later() -> None:
    with StdoutPipe() as pipe:
        handler = NonBlockingHandler(None, ProcessLock())
        log(handler, *long_lines(1000))
        assert not handler.try_flush()
        assert not handler.try_flush()
        assert pipe.read().endswith("\n")
        assert 0 < len(pipe.lines()) < 1000
        log(handler, "last")
        wait_for(lambda: pipe.read() and handler.try_flush())
        assert pipe.lines() == [*long_lines(1000), "last"]


def test_line_longer_than_a_pipe_is_written_in_pieces() -> None:
    with StdoutPipe() as pipe:
        handler = NonBlockingHandler(None, ProcessLock())
        messages = ["first", "x" * 50 * PIPE_BUF, "last"]
        log(handler, *messages)
        assert not handler.try_flush()
        wait_for(lambda: pipe.read() and handler.try_flush())
        assert pipe.lines() == messages


def test_lock_is_kept_until_the_line_is_complete() -> None:
    with StdoutPipe() as pipe:
        lock = ProcessLock()
        handler = NonBlockingHandler(None, lock)
        log(handler, "x" * 50 * PIPE_BUF)
        assert not handler.try_flush()
        with requested_elsewhere(lock) as acquired:
            assert not acquired.wait(0.05)
            wait_for(lambda: pipe.read() and handler.try_flush())
            assert acquired.wait(WAIT_TIMEOUT)


def test_lock_is_released_between_lines() -> None:
    with StdoutPipe() as pipe:
        lock = ProcessLock()
        handler = NonBlockingHandler(None, lock)
        log(handler, *long_lines(1000))
        assert not handler.try_flush()
        with held_elsewhere(lock):
            assert pipe.read()
            assert not handler.try_flush()
        wait_for(lambda: pipe.read() and handler.try_flush())
        assert pipe.lines() == long_lines(1000)


def test_flush_does_not_wait_for_the_lock() -> None:
    with StdoutPipe() as pipe:
        lock = ProcessLock()
        handler = NonBlockingHandler(None, lock)
        with held_elsewhere(lock):
            log(handler, *numbered(3))
            assert not handler.try_flush()
            assert pipe.lines() == []
        assert handler.try_flush()
        assert pipe.lines() == numbered(3)
        with held_elsewhere(lock):  # it was released
            pass


def test_lines_of_several_processes_do_not_mix() -> None:
    with StdoutPipe() as pipe:
        lock = ProcessLock()
        handler = NonBlockingHandler(None, lock)

        def write_line(name: str) -> None:
            writer = ThreadedHandler(None, lock)
            log(writer, name * 3 * PIPE_BUF)
            writer.close()

        with forked(lambda: write_line("a")), forked(lambda: write_line("b")):
            log(handler, *["c" * 3 * PIPE_BUF] * 20)
            wait_for(lambda: (handler.try_flush(), len(pipe.lines())) == (True, 22))
        assert sorted(set(pipe.lines())) == [name * 3 * PIPE_BUF for name in "abc"]


def test_forked_copy_writes_its_own_lines_only() -> None:
    with StdoutPipe() as pipe:
        handler = NonBlockingHandler(None, ProcessLock())
        log(handler, "once")

        def write() -> None:
            log(handler, "by the copy")
            handler.close()

        with forked(write) as process:
            process.join()
            assert process.exitcode == 0
        assert handler.try_flush()
        assert pipe.lines() == ["by the copy", "once"]


def test_rotated_file_is_reopened(path: Path) -> None:
    handler = NonBlockingHandler(path, ProcessLock())
    assert path.stat().st_mode & 0o007 == 0
    log(handler, "before")
    assert handler.try_flush()
    old = path.with_suffix(".1")
    path.rename(old)
    log(handler, "after")
    assert handler.try_flush()
    assert (lines(old), lines(path)) == (["before"], ["after"])


def test_file_that_cannot_be_opened_is_an_error_at_the_start_only(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        NonBlockingHandler(path / "missing", ProcessLock())
    lock = ProcessLock()
    handler = NonBlockingHandler(path, lock)
    path.unlink()
    path.mkdir()
    log(handler, "one")
    assert not handler.try_flush()
    with held_elsewhere(lock):  # it was released
        pass
    path.rmdir()
    log(handler, "two")
    assert handler.try_flush()
    assert lines(path) == ["one", "two"]


def test_file_is_closed_after_each_flush(path: Path) -> None:
    handler = NonBlockingHandler(path, ProcessLock())
    log(handler, "before")
    handler.try_flush()
    free = os.dup(0)
    os.close(free)
    log(handler, "after")
    handler.try_flush()
    assert os.dup(0) == free
    os.close(free)


def test_lines_above_the_limit_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[bytes] = []
    monkeypatch.setattr(logging.getLogger("runtime"), "handlers", [EventHandler(events.append)])
    with StdoutPipe() as pipe:
        handler = NonBlockingHandler(None, ProcessLock())
        monkeypatch.setattr(writer_module, "BUFFER_LIMIT", 5 * len("line 0\n"))
        log(handler, *numbered(8))
        assert handler.try_flush()
        assert pipe.lines() == [*numbered(5), "log records dropped: 3"]
        [event] = map(json.loads, events)
        assert (event["name"], event["level"]) == (RECORDS_DROPPED, "warning")
        assert event["message"] == "log records dropped: 3"
        log(handler, "later")
        assert handler.try_flush()
        assert pipe.lines()[-2:] == ["log records dropped: 3", "later"]
        assert len(events) == 1


def test_limit_holds_while_the_reader_is_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    with StdoutPipe() as pipe:
        handler = NonBlockingHandler(None, ProcessLock())
        log(handler, *long_lines(1000))
        assert not handler.try_flush()
        monkeypatch.setattr(writer_module, "BUFFER_LIMIT", 5 * len("line 0\n"))
        for message in numbered(8):
            log(handler, message)
            assert not handler.try_flush()
        wait_for(lambda: pipe.read() and handler.try_flush())
        assert pipe.lines() == [*long_lines(1000), *numbered(5), "log records dropped: 3"]


def test_close_flushes() -> None:
    with StdoutPipe() as pipe:
        lock = ProcessLock()
        handler = NonBlockingHandler(None, lock)
        log(handler, *numbered(3))
        with held_elsewhere(lock):
            assert not handler.try_flush()
        log(handler, "last")
        handler.close()
        assert pipe.lines() == [*numbered(3), "last"]


def test_close_waits_for_the_lock() -> None:
    with StdoutPipe() as pipe:
        lock = ProcessLock()
        handler = NonBlockingHandler(None, lock)
        log(handler, *numbered(3))
        with held_elsewhere(lock) as holder:
            timer = threading.Timer(0.05, holder.kill)
            timer.start()
            handler.close()
            timer.join()
        assert pipe.lines() == numbered(3)


def test_stalled_reader_does_not_block_close(monkeypatch: pytest.MonkeyPatch) -> None:
    with StdoutPipe() as pipe:
        handler = NonBlockingHandler(None, ProcessLock())
        monkeypatch.setattr(shared_module, "FLUSH_TIMEOUT", 0.05)
        log(handler, *long_lines(1000))
        handler.close()
        assert 0 < len(pipe.lines()) < 1000
