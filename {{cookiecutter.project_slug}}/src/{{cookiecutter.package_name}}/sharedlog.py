"""One log for several processes: they write in turns, and the supervisor never waits for its own.

Workers write with a thread (`logwriter.py`). The supervisor, which forks, must have none: its lines
wait in memory, and each turn of its loop writes what can be written at once.
"""

import fcntl
import os
import select
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from .logwriter import LAST_WORDS, WaitingLines, open_log, whole_lines


class Turn:
    """A lock between processes. The system opens it when the process that holds it dies."""

    def __init__(self) -> None:
        # Inherited by every process that is forked, and reachable for no other.
        if sys.platform == "linux":
            self._fd = os.memfd_create("turn")
        else:
            with tempfile.TemporaryFile() as file:
                self._fd = os.dup(file.fileno())

    def __enter__(self) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *error: object) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def take(self) -> bool:
        """Take the turn, or keep it, if nobody else has it."""
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


class SupervisorLog(WaitingLines):
    """Writes to `path` or to standard output what can be written without waiting."""

    def __init__(self, path: Path | None, turn: Turn) -> None:
        super().__init__(path)
        self._turn = turn
        self._rest = b""
        self._owner = os.getpid()
        if path:
            os.close(open_log(path))  # now is the time to complain

    def write(self) -> bool:
        """Write what can be written now; tell whether that was all."""
        if os.getpid() != self._owner:
            return True  # a forked process has a copy of the lines, which are not its own
        self._rest += self.take()
        if self._rest and self._turn.take():
            with suppress(OSError):  # a full disk, say: next time
                self._write()
            if not self._rest:
                self._turn.__exit__()
        return not self._rest

    def _write(self) -> None:
        fd = open_log(self._path) if self._path else 1
        try:
            while self._rest and select.select([], [fd], [], 0)[1]:
                written = os.write(fd, self._rest[: whole_lines(self._rest, 0)])
                self._rest = self._rest[written:]
        finally:
            if self._path:
                os.close(fd)

    def close(self) -> None:
        """Write what still waits, for at most `LAST_WORDS` seconds."""
        deadline = time.monotonic() + LAST_WORDS
        while not self.write() and time.monotonic() < deadline:
            time.sleep(0.01)
        super().close()
