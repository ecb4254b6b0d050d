"""One log for several processes, serialised by a lock.

Workers write from a thread (`writer.ThreadedHandler`). The supervisor must not have threads,
because it forks, so it buffers, and flushes without blocking in each iteration of its loop.
"""

import fcntl
import mmap
import os
import select
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from .writer import FLUSH_TIMEOUT, PIPE_BUF, BufferedHandler, end_of_lines, open_log

YIELD_TIMEOUT = 0.5
"""Seconds that workers yield to the supervisor."""
POLL_INTERVAL = 0.005
"""Seconds between two checks while waiting."""


class ProcessLock:
    """An inter-process lock; the kernel releases it when its holder dies.

    As a context manager it blocks, and first yields to a process that has failed to acquire it
    without blocking.
    """

    def __init__(self) -> None:
        # Inherited by every forked process, and unreachable for all others.
        if sys.platform == "linux":
            self._fd = os.memfd_create("log-lock")
        else:
            with tempfile.TemporaryFile() as file:
                self._fd = os.dup(file.fileno())
        self._supervisor_waits = mmap.mmap(-1, 1)

    def __enter__(self) -> None:
        deadline = time.monotonic() + YIELD_TIMEOUT
        while self._supervisor_waits[0] and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL)
        fcntl.lockf(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *error: object) -> None:
        self.release()

    def try_acquire(self) -> bool:
        """Acquire without blocking, or keep it; on failure ask the workers to yield."""
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # Blocking waiters always win over a non-blocking attempt.
            self._supervisor_waits[0] = 1
            return False
        self._supervisor_waits[0] = 0
        return True

    def release(self) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_UN)


class NonBlockingHandler(BufferedHandler):
    """Writes to `path` or to stdout without ever blocking. For the supervisor.

    Raises `OSError` if the file cannot be opened.
    """

    def __init__(self, path: Path | None, lock: ProcessLock) -> None:
        super().__init__(path)
        self._lock = lock
        self._pending = b""
        self._mid_line = False
        if path:
            os.close(open_log(path))  # fail now if it cannot be opened

    def flush(self) -> None:
        """Write what can be written without blocking."""
        self.try_flush()

    def close(self) -> None:
        """Flush, for at most `FLUSH_TIMEOUT` seconds."""
        deadline = time.monotonic() + FLUSH_TIMEOUT
        while not self.try_flush() and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL)
        super().close()

    def after_fork(self) -> None:
        super().after_fork()
        self._pending, self._mid_line = b"", False

    def try_flush(self) -> bool:
        """Write what can be written without blocking. Return whether that was everything."""
        # New lines are taken only when the pending ones are written, so that BUFFER_LIMIT applies.
        self._pending = self._pending or self.pop_all()
        while self._pending and self._lock.try_acquire():
            with suppress(OSError):  # for example a full disk: next time
                self._write_pending()
            if self._mid_line:
                return False  # keep the lock until the line is complete
            self._lock.release()
            if self._pending:
                return False
            self._pending = self.pop_all()
        return not self._pending

    def _write_pending(self) -> None:
        fd = open_log(self._path) if self._path else 1
        try:
            while self._pending and select.select([], [fd], [], 0)[1]:
                # No more than a pipe takes at once if it takes anything.
                piece = self._pending[: min(end_of_lines(self._pending, 0), PIPE_BUF)]
                piece = piece[: os.write(fd, piece)]
                self._pending = self._pending[len(piece) :]
                self._mid_line = not piece.endswith(b"\n")
        finally:
            if self._path:
                os.close(fd)
