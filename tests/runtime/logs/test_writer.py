import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from runtime.logs import writer as logwriter
from runtime.logs.writer import (
    PIPE_BUF,
    ThreadedHandler,
    end_of_lines,
)

from .support import WAIT_TIMEOUT

Write = Callable[[int, bytes], int]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logwriter, "GATHER", 0.001)
    monkeypatch.setattr(logwriter, "RETRY", 0.001)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "service.log"


@pytest.fixture
def writer(path: Path) -> Iterator[ThreadedHandler]:
    writer = ThreadedHandler(path)
    yield writer
    writer.close()


def say(writer: ThreadedHandler, *messages: str) -> None:
    for message in messages:
        writer.handle(logging.makeLogRecord({"msg": message, "levelname": "INFO"}))


def lines(*paths: Path) -> list[str]:
    return [line for path in paths if path.exists() for line in path.read_text().splitlines()]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def numbered(count: int) -> list[str]:
    return [f"line {number}" for number in range(count)]


class Disk:
    """Stands for the operating system; writes to it can fail, stall or stop half-way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.write: Write = os.write
        everything = vars(os) | {"write": lambda fd, data: self.write(fd, data)}
        monkeypatch.setattr(logwriter, "os", SimpleNamespace(**everything))


class Stall:
    """Holds up a write until it `ends`."""

    def __init__(self, disk: Disk) -> None:
        self.holds, self.ends = threading.Event(), threading.Event()
        disk.write = self._write

    def _write(self, fd: int, data: bytes) -> int:
        self.holds.set()
        self.ends.wait(WAIT_TIMEOUT)
        return os.write(fd, data)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_lines_are_written_in_order(writer: ThreadedHandler, path: Path) -> None:
    say(writer, *numbered(1000))
    wait_for(lambda: lines(path) == numbered(1000))


def test_lines_go_to_standard_output_without_a_path(capfd: pytest.CaptureFixture[str]) -> None:
    writer = ThreadedHandler()
    say(writer, "hello")
    writer.close()
    assert capfd.readouterr().out == "hello\n"


def test_an_existing_file_is_continued(path: Path) -> None:
    path.write_text("before\n")
    writer = ThreadedHandler(path)
    say(writer, "after")
    writer.close()
    assert lines(path) == ["before", "after"]


def test_a_new_file_is_not_for_everybody(writer: ThreadedHandler, path: Path) -> None:
    assert path.stat().st_mode & 0o007 == 0


def test_closing_writes_what_waits(path: Path) -> None:
    writer = ThreadedHandler(path)
    say(writer, *numbered(1000))
    writer.close()
    assert lines(path) == numbered(1000)


def test_half_a_surrogate_pair_loses_no_line(path: Path) -> None:
    writer = ThreadedHandler(path)
    say(writer, "a\ud800b")
    writer.close()
    assert lines(path) == ["a\\ud800b"]


def test_a_record_that_cannot_be_formatted_stops_nothing(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = ThreadedHandler(path)
    writer.handle(logging.makeLogRecord({"msg": "%d", "args": ("x",)}))
    say(writer, "next")
    writer.close()
    assert lines(path) == ["next"]
    assert "Logging error" in capsys.readouterr().err


def test_rotation_loses_no_line(writer: ThreadedHandler, path: Path) -> None:
    rotated = [path.with_suffix(f".{number}") for number in range(5)]
    for number, old in enumerate(rotated):
        say(writer, f"first of {number}", *numbered(100))
        wait_for(path.exists)
        path.rename(old)
        say(writer, f"last of {number}")
    wait_for(lambda: "last of 4" in lines(*rotated, path))
    expected = [
        line
        for number in range(5)
        for line in (f"first of {number}", *numbered(100), f"last of {number}")
    ]
    assert lines(*rotated, path) == expected
    assert path.exists()


def test_a_removed_file_is_made_anew(writer: ThreadedHandler, path: Path) -> None:
    say(writer, "before")
    wait_for(lambda: lines(path) == ["before"])
    path.unlink()
    say(writer, "after")
    wait_for(lambda: lines(path) == ["after"])


def test_a_line_cut_in_two_by_a_rotation_is_whole_in_the_new_file(
    disk: Disk, writer: ThreadedHandler, path: Path
) -> None:
    old = path.with_suffix(".1")

    def stop_half_way(fd: int, data: bytes) -> int:
        written = os.write(fd, data[:9])
        path.rename(old)
        disk.write = os.write
        return written

    stall = Stall(disk)
    say(writer, "first")
    wait_for(stall.holds.is_set)
    say(writer, *numbered(3))
    disk.write = stop_half_way
    stall.ends.set()
    wait_for(lambda: len(lines(path)) == 2)
    assert old.read_text() == "first\nline 0\nli"
    assert lines(path) == ["line 1", "line 2"]


def test_a_line_cut_in_two_is_whole_in_the_old_file_if_there_can_be_no_new_one(
    disk: Disk, writer: ThreadedHandler, path: Path
) -> None:
    old = path.with_suffix(".1")

    def stop_half_way(fd: int, data: bytes) -> int:
        path.rename(old)
        path.mkdir()
        disk.write = os.write
        return os.write(fd, data[:2])

    disk.write = stop_half_way
    say(writer, "line 0")
    wait_for(lambda: old.exists() and lines(old) and old.read_text().endswith("0\n"))
    assert lines(old) == ["line 0"]


def test_the_old_file_serves_while_there_can_be_no_new_one(
    writer: ThreadedHandler, path: Path
) -> None:
    old = path.with_suffix(".1")
    path.rename(old)
    path.mkdir()
    say(writer, "still here")
    wait_for(lambda: lines(old) == ["still here"])
    path.rmdir()
    say(writer, "moved on")
    wait_for(lambda: path.is_file() and lines(path) == ["moved on"])


def test_a_folder_that_becomes_a_file_stops_no_writer(tmp_path: Path) -> None:
    folder, moved = tmp_path / "logs", tmp_path / "moved"
    folder.mkdir()
    writer = ThreadedHandler(folder / "service.log")
    folder.rename(moved)
    folder.write_text("in the way")
    say(writer, "still here")
    wait_for(lambda: lines(moved / "service.log") == ["still here"])
    writer.close()


def test_a_full_disk_delays_lines_and_loses_none(
    disk: Disk, writer: ThreadedHandler, path: Path
) -> None:
    attempts = []

    def full(fd: int, data: bytes) -> int:
        attempts.append(data)
        raise OSError(errno.ENOSPC, "No space left on device")

    disk.write = full
    say(writer, "one", "two")
    wait_for(lambda: len(attempts) >= 3)
    say(writer, "three")
    assert lines(path) == []
    disk.write = os.write
    wait_for(lambda: lines(path) == ["one", "two", "three"])


def test_what_exceeds_the_limit_is_dropped_and_counted(
    disk: Disk, writer: ThreadedHandler, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stall = Stall(disk)
    say(writer, "first")
    wait_for(stall.holds.is_set)
    monkeypatch.setattr(logwriter, "LIMIT", 50 * len("line 00\n"))
    say(writer, *(f"line {number:02}" for number in range(80)))
    disk.write = os.write
    stall.ends.set()
    wait_for(lambda: len(lines(path)) == 52)
    kept = [f"line {number:02}" for number in range(50)]
    assert lines(path) == ["first", *kept, "log records dropped: 30"]
    say(writer, "later")
    wait_for(lambda: lines(path)[-1] == "later")
    assert len(lines(path)) == 53


def test_a_stalled_reader_does_not_hold_up_the_end(
    disk: Disk, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logwriter, "LAST_WORDS", 0.01)
    stall = Stall(disk)
    writer = ThreadedHandler(path)
    say(writer, "never mind")
    writer.close()
    assert lines(path) == []
    stall.ends.set()


def test_neither_does_a_full_disk(disk: Disk, path: Path) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    disk.write = full
    writer = ThreadedHandler(path)
    say(writer, "never mind")
    writer.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "log-writer"]


def test_a_file_that_cannot_be_opened_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ThreadedHandler(tmp_path / "missing" / "service.log")


class Turns:
    """Stands for the lock between processes; somebody else may have it."""

    def __init__(self) -> None:
        self.held = False
        self.over = 0
        self.wanted = threading.Event()
        self.free = threading.Event()
        self.free.set()

    def __enter__(self) -> None:
        self.wanted.set()
        self.free.wait(WAIT_TIMEOUT)
        self.held = True

    def __exit__(self, *error: object) -> None:
        self.held = False
        self.over += 1


def test_a_turn_is_over_at_the_end_of_a_line(disk: Disk, path: Path) -> None:
    turns, held = Turns(), []

    def stop_half_way(fd: int, data: bytes) -> int:
        # A turn begins where a line begins.
        held.append((turns.held, turns.over == 0 or path.read_bytes().count(b"\n") >= turns.over))
        return os.write(fd, data[:1000])

    disk.write = stop_half_way
    messages = [f"{number} {'x' * 3000}" for number in range(3)]
    writer = ThreadedHandler(path, turns)
    say(writer, *messages)
    wait_for(lambda: len(lines(path)) == 3 and not turns.held)
    writer.close()
    assert lines(path) == messages
    assert turns.over == 3
    assert set(held) == {(True, True)}


def test_nothing_is_written_in_the_turn_of_another(path: Path) -> None:
    turns = Turns()
    turns.free.clear()
    writer = ThreadedHandler(path, turns)
    say(writer, *numbered(3))
    wait_for(turns.wanted.is_set)
    assert lines(path) == []
    turns.free.set()
    wait_for(lambda: lines(path) == numbered(3))
    writer.close()


def test_a_pipe_gets_whole_lines(disk: Disk, path: Path) -> None:
    pieces = []

    def look(fd: int, data: bytes) -> int:
        pieces.append(data)
        return os.write(fd, data)

    disk.write = look
    messages = [*numbered(1000), "x" * 3 * PIPE_BUF, "last"]
    writer = ThreadedHandler(path)
    say(writer, *messages)
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
def test_what_is_written_in_one_piece_ends_with_a_line(
    batch: bytes, start_service: int, end: int
) -> None:
    assert end_of_lines(batch, start_service) == end
