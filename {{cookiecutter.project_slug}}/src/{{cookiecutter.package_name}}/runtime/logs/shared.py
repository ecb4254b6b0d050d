"""One log for several processes: they write in turns, and the supervisor never waits for its own.

Workers write with a thread (`logwriter.py`). The supervisor, which forks, must have none: its lines
wait in memory, and each round of its loop writes what can be written at once.
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

from .writer import LAST_WORDS, WaitingLines, open_log, whole_lines

# Seconds for which the others let somebody go first, and between two looks.
COURTESY, LOOK = 0.5, 0.005


class Turn:
    """A lock between processes. The system opens it when the process that holds it dies."""

    def __init__(self) -> None:
        # Inherited by every process that is forked, and reachable for no other.
        if sys.platform == "linux":
            self._fd = os.memfd_create("turn")
        else:
            with tempfile.TemporaryFile() as file:
                self._fd = os.dup(file.fileno())
        self._somebody_first = mmap.mmap(-1, 1)

    def __enter__(self) -> None:
        deadline = time.monotonic() + COURTESY
        while self._somebody_first[0] and time.monotonic() < deadline:
            time.sleep(LOOK)
        fcntl.lockf(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *error: object) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def take(self) -> bool:
        """Take the turn, or keep it, if it is free; otherwise the next one."""
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # Those who wait for the lock get it before those who only try.
            self._somebody_first[0] = 1
            return False
        self._somebody_first[0] = 0
        return True

    def give(self) -> None:
        self.__exit__()


class SupervisorLog(WaitingLines):
    """Writes to `path` or to standard output what can be written without waiting."""

    def __init__(self, path: Path | None, turn: Turn) -> None:
        super().__init__(path)
        self._turn = turn
        self._rest = b""
        self._torn = False
        self._owner = os.getpid()
        if path:
            os.close(open_log(path))  # now is the time to complain

    def write(self) -> bool:
        """Write what can be written now; tell whether that was all."""
        if os.getpid() != self._owner:
            return True  # a forked process has a copy of the lines, which are not its own
        # What waits is taken only when the rest is out: so its limit holds for all there is.
        while (rest := self._rest or self.take()) and self._turn.take():
            self._rest = rest
            with suppress(OSError):  # a full disk, say: next time
                self._write()
            if not self._torn:
                self._turn.give()
            if self._rest:
                return False
        self._rest = rest
        return not rest

    def _write(self) -> None:
        fd = open_log(self._path) if self._path else 1
        try:
            while self._rest and select.select([], [fd], [], 0)[1]:
                # No more than a pipe takes at once if it takes anything.
                piece = self._rest[: min(whole_lines(self._rest, 0), select.PIPE_BUF)]
                piece = piece[: os.write(fd, piece)]
                self._rest = self._rest[len(piece) :]
                self._torn = not piece.endswith(b"\n")
        finally:
            if self._path:
                os.close(fd)

    def close(self) -> None:
        """Write what still waits, for at most `LAST_WORDS` seconds."""
        deadline = time.monotonic() + LAST_WORDS
        while not self.write() and time.monotonic() < deadline:
            time.sleep(LOOK)
        super().close()
