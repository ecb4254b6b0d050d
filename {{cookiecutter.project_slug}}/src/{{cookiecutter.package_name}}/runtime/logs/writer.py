"""A log handler with a background thread: a full disk or a blocked pipe never blocks the service.

Lines are buffered, up to `BUFFER_LIMIT` bytes, and written in batches; beyond that they are dropped
and counted, and the count is logged as soon as lines can be written again.

Where the thread does not run, lines are written at once: after the handler was closed, at the end
of a process, and in a process that was forked, such as one of a pool.
"""

import logging
import os
import select
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

from ..monitor.events import EVENT, RECORDS_DROPPED, announce

BUFFER_LIMIT = 32 * 1024 * 1024
"""Bytes that may be buffered."""
PIPE_BUF = getattr(select, "PIPE_BUF", 512)
"""Bytes. Writes up to this size are atomic on a pipe: a killed process leaves no partial line."""
BATCH_DELAY = 0.1
"""Seconds to collect lines, so that many are written at once: waking up costs more than a line.

They are lost if the process is killed.
"""
URGENT_DELAY = 0.02
"""Seconds to collect lines once there is a warning or an error, or `URGENT_SIZE` is reached."""
URGENT_SIZE = 1024 * 1024
"""Bytes to buffer before writing becomes urgent."""
RETRY_DELAY = 0.5
"""Seconds between attempts to write."""
FLUSH_TIMEOUT = 1.0
"""Seconds to write the rest when the process exits."""
LOG_FILE_MODE = 0o640


class _Immediately(threading.Event):
    """Stands in for the event that wakes up the thread: it writes instead, and is never set."""

    def __init__(self, write: Callable[[], None]) -> None:
        super().__init__()
        self._write = write

    def set(self) -> None:
        self._write()

    def wait(self, timeout: float | None = None) -> bool:
        return True


def _call(method: weakref.WeakMethod[Callable[[], None]]) -> None:
    if found := method():
        found()


class BufferedHandler(logging.Handler):
    """Buffers formatted lines; subclasses write them to `path`, or to stdout without one."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__()
        self.pid = os.getpid()
        """The process that writes. To ask for it would be a system call for each access line."""
        self._path = path
        # Not the handler's own lock: `logging.shutdown` holds that while it waits in `close`.
        # Reentrant, because garbage collection can happen in between, and log something.
        self._buffer_lock = threading.RLock()
        self._lines: list[bytes] = []
        self._size = 0
        self._dropped = 0
        if hasattr(os, "register_at_fork"):  # not on Windows
            # Weak, because this cannot be undone.
            method = weakref.WeakMethod(self.after_fork)
            os.register_at_fork(after_in_child=partial(_call, method))

    def after_fork(self) -> None:
        """In a forked child: forget the lines of the parent, which writes them itself."""
        self.pid = os.getpid()
        self._buffer_lock = threading.RLock()  # another thread may have had it
        self._lines, self._size, self._dropped = [], 0, 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:
            self.handleError(record)
        else:
            self.add(line, record.levelno)

    def add(self, line: bytes, level: int) -> None:
        """Buffer the line of a record, line end included."""
        with self._buffer_lock:
            if self._size + len(line) > BUFFER_LIMIT:
                self._dropped += 1
            else:
                self._lines.append(line)
                self._size += len(line)

    def pop_all(self) -> bytes:
        """Remove and return the buffered lines, and a note of dropped ones."""
        with self._buffer_lock:
            lines, self._lines, self._size = self._lines, [], 0
            dropped, self._dropped = self._dropped, 0
        if dropped:
            # Straight to the lines, which may be full again before `logging` has added it.
            record = logging.makeLogRecord(
                {
                    "name": __name__,
                    "levelname": "WARNING",
                    "msg": f"log records dropped: {dropped}",
                    EVENT: RECORDS_DROPPED,
                }
            )
            lines.append(self.format(record).encode() + b"\n")
            announce(record)
        return b"".join(lines)


class ThreadedHandler(BufferedHandler):
    """Writes from a thread to `path`, which may be rotated at any time, or to stdout.

    `lock` serialises the writes of several processes to the same place. Raises `OSError` if the
    file cannot be opened.
    """

    def __init__(
        self, path: Path | None = None, lock: AbstractContextManager[object] | None = None
    ) -> None:
        super().__init__(path)
        self._lock = lock or nullcontext()
        self._fd = 1 if path is None else open_log(path)
        self._wakeup = threading.Event()
        self._urgent = threading.Event()
        self._closing = threading.Event()
        self._write_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def add(self, line: bytes, level: int) -> None:
        super().add(line, level)
        # The thread clears an event before it takes the lines. If it is still set now, the thread
        # is going to take this line as well, which is in the buffer already.
        if (level >= logging.WARNING or self._size > URGENT_SIZE) and not self._urgent.is_set():
            self._urgent.set()
        if not self._wakeup.is_set():
            self._wakeup.set()

    def close(self) -> None:
        """Flush, for at most `FLUSH_TIMEOUT` seconds."""
        super().close()
        self._closing.set()
        self._urgent.set()
        self._wakeup.set()
        self._thread.join(FLUSH_TIMEOUT)
        self._wakeup = _Immediately(self._write_now)
        if self._lines and not self._thread.is_alive():
            self._write_now()  # added since the thread has ended

    def after_fork(self) -> None:
        super().after_fork()
        self._write_lock = threading.Lock()
        self._urgent, self._closing = threading.Event(), threading.Event()
        self._closing.set()
        self._wakeup = _Immediately(self._write_now)

    def _write_now(self) -> None:
        # If another thread is stuck, or the reader stalled, the lines stay in the buffer.
        if self._write_lock.acquire(timeout=FLUSH_TIMEOUT):
            try:
                if self._path or _is_writable(self._fd):
                    self._write(self.pop_all())
            finally:
                self._write_lock.release()

    def _run(self) -> None:
        while not self._closing.is_set() or self._lines:
            self._wakeup.wait()
            if self._urgent.wait(BATCH_DELAY):
                self._closing.wait(URGENT_DELAY)
            self._urgent.clear()
            self._wakeup.clear()
            with self._write_lock:
                self._write(self.pop_all())

    def _write(self, batch: bytes) -> None:
        written = 0
        while written < len(batch):
            with self._lock:
                written = self._write_lines(batch, written, end_of_lines(batch, written))

    def _write_lines(self, batch: bytes, written: int, end: int) -> int:
        while written < end:
            path = self._path
            if path and _was_rotated(path, self._fd) and self._reopen(path):
                # The line of which the old file contains a part is written whole to the new one.
                written = batch.rfind(b"\n", 0, written) + 1
            try:
                written += os.write(self._fd, batch[written:end])
            except OSError:
                # For example a full disk: retry, unless shutting down.
                if self._closing.wait(RETRY_DELAY):
                    return len(batch)
        return written

    def _reopen(self, path: Path) -> bool:
        try:
            new = open_log(path)
        except OSError:
            return False
        os.close(self._fd)
        self._fd = new
        return True


def open_log(path: Path) -> int:
    """Open a log file to append to it. Returns a descriptor; raises `OSError`."""
    binary: int = getattr(os, "O_BINARY", 0)  # Windows would write \r\n
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | binary, LOG_FILE_MODE)


def end_of_lines(batch: bytes, start: int) -> int:
    """Return where the last complete line within PIPE_BUF bytes ends: at least one line's end."""
    return batch.rfind(b"\n", start, start + PIPE_BUF) + 1 or batch.find(b"\n", start) + 1


def _is_writable(fd: int) -> bool:
    """Wait until the reader of a pipe takes more, for at most `FLUSH_TIMEOUT` seconds."""
    return os.name == "nt" or bool(select.select([], [fd], [], FLUSH_TIMEOUT)[1])


def _was_rotated(path: Path, fd: int) -> bool:
    try:
        return not os.path.samestat(os.stat(path), os.fstat(fd))
    except OSError:
        return True
