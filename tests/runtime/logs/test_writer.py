import errno
import gc
import itertools
import logging
import os
import select
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from runtime.logs import writer as writer_module
from runtime.logs.writer import PIPE_BUF, ThreadedHandler, end_of_lines
from runtime.testing import WAIT_TIMEOUT

from ..support.logs import lines, log, numbered
from ..support.waiting import wait_for

Write = Callable[[int, bytes], int]


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "BATCH_DELAY", 0.001)
    monkeypatch.setattr(writer_module, "URGENT_DELAY", 0.001)
    monkeypatch.setattr(writer_module, "RETRY_DELAY", 0.001)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "service.log"


@pytest.fixture
def writer(path: Path) -> Iterator[ThreadedHandler]:
    writer = ThreadedHandler(path)
    yield writer
    writer.close()


class FakeDisk:
    """A disk on which writes can fail, stall or be incomplete, as `write` says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.write: Write = os.write
        everything = vars(os) | {"write": lambda fd, data: self.write(fd, data)}
        monkeypatch.setattr(writer_module, "os", SimpleNamespace(**everything))


class StalledWrite:
    """A write that has `started` and does not return until it is `released`."""

    def __init__(self, disk: FakeDisk) -> None:
        self.started, self.released = threading.Event(), threading.Event()
        disk.write = self._write

    def _write(self, fd: int, data: bytes) -> int:
        self.started.set()
        self.released.wait(WAIT_TIMEOUT)
        return os.write(fd, data)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FakeDisk:
    return FakeDisk(monkeypatch)


def test_lines_are_written_in_order(writer: ThreadedHandler, path: Path) -> None:
    log(writer, *numbered(1000))
    wait_for(lambda: lines(path) == numbered(1000))


def test_lines_go_to_stdout_without_path(capfd: pytest.CaptureFixture[str]) -> None:
    writer = ThreadedHandler()
    log(writer, "hello")
    writer.close()
    assert capfd.readouterr().out == "hello\n"


def test_lines_are_appended_to_an_existing_file(path: Path) -> None:
    path.write_text("before\n")
    writer = ThreadedHandler(path)
    log(writer, "after")
    writer.close()
    assert lines(path) == ["before", "after"]


def test_new_file_is_not_readable_by_others(writer: ThreadedHandler, path: Path) -> None:
    assert path.stat().st_mode & 0o007 == 0


def test_close_flushes(path: Path) -> None:
    writer = ThreadedHandler(path)
    log(writer, *numbered(1000))
    writer.close()
    assert lines(path) == numbered(1000)


def test_lines_after_close_are_written(path: Path) -> None:
    writer = ThreadedHandler(path)
    writer.close()
    log(writer, "last words")
    assert lines(path) == ["last words"]
    log(writer, "and more")
    writer.close()
    assert lines(path) == ["last words", "and more"]


def test_stalled_reader_does_not_block_lines_after_close(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "FLUSH_TIMEOUT", 0.01)
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    stdout = os.dup(1)
    pipe = os.open(path, os.O_WRONLY)
    os.dup2(pipe, 1)
    try:
        writer = ThreadedHandler()
        writer.close()
        while select.select([], [1], [], 0)[1]:
            os.write(1, b"x" * PIPE_BUF)
        log(writer, "for later")
        while select.select([reader], [], [], 0)[0]:
            os.read(reader, 65536)
        log(writer, "at last")
        assert os.read(reader, 65536) == b"for later\nat last\n"
    finally:
        os.dup2(stdout, 1)
        for fd in stdout, pipe, reader:
            os.close(fd)


def fork(do: Callable[[], None]) -> int:
    """Call a function in a forked process; return its exit code."""
    pid = os.fork()
    if pid == 0:
        do()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.usefixtures("endless_batch")
def test_forked_process_writes_its_own_lines(path: Path) -> None:
    writer = ThreadedHandler(path)
    log(writer, "can wait")
    assert fork(lambda: log(writer, "from the child", "and more")) == 0
    assert lines(path) == ["from the child", "and more"]
    writer.close()
    assert lines(path) == ["from the child", "and more", "can wait"]


def test_forked_process_writes_although_a_thread_had_the_locks(path: Path) -> None:
    writer = ThreadedHandler(path)
    held, released = threading.Event(), threading.Event()

    def hold_locks() -> None:
        with writer._buffer_lock, writer._write_lock:
            held.set()
            released.wait(WAIT_TIMEOUT)

    thread = threading.Thread(target=hold_locks)
    thread.start()
    held.wait(WAIT_TIMEOUT)
    assert fork(lambda: signal.alarm(10) or log(writer, "from the child")) == 0
    released.set()
    thread.join()
    assert lines(path) == ["from the child"]
    writer.close()


def test_closed_handler_does_not_stay_in_memory(path: Path) -> None:
    writer = ThreadedHandler(path)
    writer.close()
    found = weakref.ref(writer)
    del writer
    gc.collect()
    assert found() is None


@pytest.fixture
def endless_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let lines that are not urgent wait for longer than any test."""
    monkeypatch.setattr(writer_module, "BATCH_DELAY", 10 * WAIT_TIMEOUT)


@pytest.mark.usefixtures("endless_batch")
@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR])
def test_warning_is_written_with_all_before_it(
    writer: ThreadedHandler, path: Path, level: int
) -> None:
    for number in range(3):
        log(writer, f"can wait {number}", f"can wait, too {number}")
        log(writer, f"urgent {number}", level=level)
        wait_for(lambda last=f"urgent {number}": lines(path)[-1:] == [last])
    assert len(lines(path)) == 9


@pytest.mark.usefixtures("endless_batch")
def test_line_that_is_not_urgent_waits_for_others(writer: ThreadedHandler, path: Path) -> None:
    log(writer, "urgent", level=logging.WARNING)
    wait_for(lambda: lines(path))
    log(writer, *numbered(100))
    time.sleep(0.05)
    assert lines(path) == ["urgent"]


@pytest.mark.usefixtures("endless_batch")
def test_many_lines_are_written_before_they_fill_the_buffer(
    writer: ThreadedHandler, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "URGENT_SIZE", 50 * len("line 00\n"))
    expected = [f"line {number:02}" for number in range(51)]
    log(writer, *expected)
    wait_for(lambda: lines(path) == expected)


@pytest.mark.usefixtures("endless_batch")
def test_close_does_not_wait_for_more_lines(path: Path) -> None:
    writer = ThreadedHandler(path)
    log(writer, "can wait")
    writer.close()
    assert lines(path) == ["can wait"]


def test_line_that_comes_just_after_the_others_were_taken_is_written(
    writer: ThreadedHandler, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = iter(["late 1", "late 2", "late 3"])

    def pop_all() -> bytes:
        batch = ThreadedHandler.pop_all(writer)
        log(writer, *itertools.islice(late, 1))
        return batch

    monkeypatch.setattr(writer, "pop_all", pop_all)
    log(writer, "first")
    wait_for(lambda: lines(path) == ["first", "late 1", "late 2", "late 3"])


class LoggingLine(bytes):
    """A line that adds another while it is added, as garbage collection may."""

    writer: ThreadedHandler

    def __len__(self) -> int:
        self.writer.add(b"from within\n", logging.INFO)
        return super().__len__()


def test_line_can_be_added_while_another_is_added(writer: ThreadedHandler, path: Path) -> None:
    line = LoggingLine(b"outer\n")
    line.writer = writer
    thread = threading.Thread(target=writer.add, args=(line, logging.INFO), daemon=True)
    thread.start()
    thread.join(WAIT_TIMEOUT)
    assert not thread.is_alive()
    wait_for(lambda: sorted(set(lines(path))) == ["from within", "outer"])


def test_lone_surrogate_is_escaped(path: Path) -> None:
    writer = ThreadedHandler(path)
    log(writer, "a\ud800b")
    writer.close()
    assert lines(path) == ["a\\ud800b"]


def test_record_that_cannot_be_formatted_is_skipped(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = ThreadedHandler(path)
    writer.handle(logging.makeLogRecord({"msg": "%d", "args": ("x",)}))
    log(writer, "next")
    writer.close()
    assert lines(path) == ["next"]
    assert "Logging error" in capsys.readouterr().err


def test_rotation_loses_no_line(writer: ThreadedHandler, path: Path) -> None:
    rotated = [path.with_suffix(f".{number}") for number in range(5)]
    for number, old in enumerate(rotated):
        log(writer, f"first of {number}", *numbered(100))
        wait_for(path.exists)
        path.rename(old)
        log(writer, f"last of {number}")
    wait_for(lambda: "last of 4" in lines(*rotated, path))
    expected = [
        line
        for number in range(5)
        for line in (f"first of {number}", *numbered(100), f"last of {number}")
    ]
    assert lines(*rotated, path) == expected
    assert path.exists()


def test_removed_file_is_created_again(writer: ThreadedHandler, path: Path) -> None:
    log(writer, "before")
    wait_for(lambda: lines(path) == ["before"])
    path.unlink()
    log(writer, "after")
    wait_for(lambda: lines(path) == ["after"])


def test_line_split_by_rotation_is_whole_in_the_new_file(
    disk: FakeDisk, writer: ThreadedHandler, path: Path
) -> None:
    old = path.with_suffix(".1")

    def write_in_part(fd: int, data: bytes) -> int:
        written = os.write(fd, data[:9])
        path.rename(old)
        disk.write = os.write
        return written

    stalled = StalledWrite(disk)
    log(writer, "first")
    wait_for(stalled.started.is_set)
    log(writer, *numbered(3))
    disk.write = write_in_part
    stalled.released.set()
    wait_for(lambda: len(lines(path)) == 2)
    assert old.read_text() == "first\nline 0\nli"
    assert lines(path) == ["line 1", "line 2"]


def test_split_line_is_completed_in_the_old_file_if_no_new_one_can_be_created(
    disk: FakeDisk, writer: ThreadedHandler, path: Path
) -> None:
    old = path.with_suffix(".1")

    def write_in_part(fd: int, data: bytes) -> int:
        path.rename(old)
        path.mkdir()
        disk.write = os.write
        return os.write(fd, data[:2])

    disk.write = write_in_part
    log(writer, "line 0")
    wait_for(lambda: old.exists() and lines(old) and old.read_text().endswith("0\n"))
    assert lines(old) == ["line 0"]


def test_old_file_is_used_until_a_new_one_can_be_created(
    writer: ThreadedHandler, path: Path
) -> None:
    old = path.with_suffix(".1")
    path.rename(old)
    path.mkdir()
    log(writer, "still here")
    wait_for(lambda: lines(old) == ["still here"])
    path.rmdir()
    log(writer, "moved on")
    wait_for(lambda: path.is_file() and lines(path) == ["moved on"])


def test_old_file_is_used_when_the_folder_disappears(tmp_path: Path) -> None:
    folder, moved = tmp_path / "logs", tmp_path / "moved"
    folder.mkdir()
    writer = ThreadedHandler(folder / "service.log")
    folder.rename(moved)
    folder.write_text("in the way")
    log(writer, "still here")
    wait_for(lambda: lines(moved / "service.log") == ["still here"])
    writer.close()


def test_full_disk_delays_lines_and_loses_none(
    disk: FakeDisk, writer: ThreadedHandler, path: Path
) -> None:
    attempts = []

    def fail(fd: int, data: bytes) -> int:
        attempts.append(data)
        raise OSError(errno.ENOSPC, "No space left on device")

    disk.write = fail
    log(writer, "one", "two")
    wait_for(lambda: len(attempts) >= 3)
    log(writer, "three")
    assert lines(path) == []
    disk.write = os.write
    wait_for(lambda: lines(path) == ["one", "two", "three"])


def test_lines_above_the_limit_are_dropped_and_counted(
    disk: FakeDisk, writer: ThreadedHandler, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalled = StalledWrite(disk)
    log(writer, "first")
    wait_for(stalled.started.is_set)
    monkeypatch.setattr(writer_module, "BUFFER_LIMIT", 50 * len("line 00\n"))
    log(writer, *(f"line {number:02}" for number in range(80)))
    disk.write = os.write
    stalled.released.set()
    wait_for(lambda: len(lines(path)) == 52)
    kept = [f"line {number:02}" for number in range(50)]
    assert lines(path) == ["first", *kept, "log records dropped: 30"]
    log(writer, "later")
    wait_for(lambda: lines(path)[-1] == "later")
    assert len(lines(path)) == 53


def test_stalled_write_does_not_block_close(
    disk: FakeDisk, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "FLUSH_TIMEOUT", 0.01)
    stalled = StalledWrite(disk)
    writer = ThreadedHandler(path)
    log(writer, "never mind")
    writer.close()
    assert lines(path) == []
    stalled.released.set()


def test_full_disk_does_not_block_close(disk: FakeDisk, path: Path) -> None:
    def fail(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    disk.write = fail
    writer = ThreadedHandler(path)
    log(writer, "never mind")
    writer.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "log-writer"]


def test_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ThreadedHandler(tmp_path / "missing" / "service.log")


class FakeLock:
    """A stand-in for the lock between processes. Another process holds it until it is `free`."""

    def __init__(self) -> None:
        self.held = False
        self.released = 0
        self.requested = threading.Event()
        self.free = threading.Event()
        self.free.set()

    def __enter__(self) -> None:
        self.requested.set()
        self.free.wait(WAIT_TIMEOUT)
        self.held = True

    def __exit__(self, *error: object) -> None:
        self.held = False
        self.released += 1


def test_lock_is_released_at_the_end_of_a_line(disk: FakeDisk, path: Path) -> None:
    lock, held = FakeLock(), []

    def write_in_part(fd: int, data: bytes) -> int:
        # It is acquired where a line begins.
        held.append(
            (lock.held, lock.released == 0 or path.read_bytes().count(b"\n") >= lock.released)
        )
        return os.write(fd, data[:1000])

    disk.write = write_in_part
    messages = [f"{number} {'x' * 3000}" for number in range(3)]
    writer = ThreadedHandler(path, lock)
    log(writer, *messages)
    wait_for(lambda: len(lines(path)) == 3 and not lock.held)
    writer.close()
    assert lines(path) == messages
    assert lock.released == 3
    assert set(held) == {(True, True)}


def test_nothing_is_written_while_another_process_holds_the_lock(path: Path) -> None:
    lock = FakeLock()
    lock.free.clear()
    writer = ThreadedHandler(path, lock)
    log(writer, *numbered(3))
    wait_for(lock.requested.is_set)
    assert lines(path) == []
    lock.free.set()
    wait_for(lambda: lines(path) == numbered(3))
    writer.close()


def test_pipe_gets_whole_lines(disk: FakeDisk, path: Path) -> None:
    pieces = []

    def record(fd: int, data: bytes) -> int:
        pieces.append(data)
        return os.write(fd, data)

    disk.write = record
    messages = [*numbered(1000), "x" * 3 * PIPE_BUF, "last"]
    writer = ThreadedHandler(path)
    log(writer, *messages)
    writer.close()
    assert lines(path) == messages
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert [len(piece) for piece in pieces if len(piece) > PIPE_BUF] == [3 * PIPE_BUF + 1]


@pytest.mark.parametrize(
    ("batch", "start", "end"),
    [
        (b"one\n", 0, 4),
        (b"one\ntwo\n", 0, 8),
        (b"one\ntwo\n", 4, 8),
        (b"one\ntwo\n", 2, 8),
        (b"x" * (PIPE_BUF - 1) + b"\nnext\n", 0, PIPE_BUF),
        (b"one\n" + b"x" * (PIPE_BUF - 5) + b"\nnext\n", 0, PIPE_BUF),
        (b"one\n" + b"x" * (PIPE_BUF - 4) + b"\nnext\n", 0, 4),
        (b"one\n" + b"x" * PIPE_BUF + b"\nnext\n", 4, 5 + PIPE_BUF),
        (b"x" * 3 * PIPE_BUF + b"\n", 0, 3 * PIPE_BUF + 1),
    ],
)
def test_piece_ends_with_a_line(batch: bytes, start: int, end: int) -> None:
    assert end_of_lines(batch, start) == end
