"""Writes log lines from a thread of its own: no full disk and no stalled reader stops the service.

Lines wait in memory until the thread has written them, a few milliseconds later and many at once.
When the other end takes none, `LIMIT` bytes are kept and what comes after is dropped and counted;
the count is logged as soon as lines flow again.
"""

import logging
import os
import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

# Bytes that may wait.
LIMIT = 32 * 1024 * 1024
# Bytes that a pipe takes as a whole: a process that is killed leaves no half a line.
WHOLE = 4096
# Seconds to collect lines, so that many are written at once.
GATHER = 0.02
# Seconds between attempts to write.
RETRY = 0.5
# Seconds to write the rest at the end.
LAST_WORDS = 1.0


class WaitingLines(logging.Handler):
    """Lines in memory, on their way to `path` or to standard output."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__()
        self._path = path
        # Not the handler's own lock: `logging.shutdown` holds that one while it waits in `close`.
        self._waiting = threading.Lock()
        self._lines: list[bytes] = []
        self._size = 0
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:
            self.handleError(record)
            return
        with self._waiting:
            if self._size + len(line) > LIMIT:
                self._dropped += 1
            else:
                self._lines.append(line)
                self._size += len(line)

    def take(self) -> bytes:
        """Take the lines that wait, and a note of those that had to be dropped."""
        with self._waiting:
            lines, self._lines, self._size = self._lines, [], 0
            dropped, self._dropped = self._dropped, 0
        if dropped:
            message = f"log records dropped: {dropped}"
            note = {"name": __name__, "levelname": "WARNING", "msg": message}
            lines.append(self.format(logging.makeLogRecord(note)).encode() + b"\n")
        return b"".join(lines)


class LogWriter(WaitingLines):
    """Writes to `path`, which may be rotated at any time, or to standard output.

    Processes that write to the same place do so inside `turn`, a lock between them.
    """

    def __init__(
        self, path: Path | None = None, turn: AbstractContextManager[object] | None = None
    ) -> None:
        super().__init__(path)
        self._turn = turn or nullcontext()
        self._fd = 1 if path is None else open_log(path)
        self._something_to_write = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        self._something_to_write.set()

    def close(self) -> None:
        """Write what still waits, for at most `LAST_WORDS` seconds."""
        super().close()
        self._closing.set()
        self._something_to_write.set()
        self._thread.join(LAST_WORDS)

    def _run(self) -> None:
        while not self._closing.is_set() or self._lines:
            self._something_to_write.wait()
            self._closing.wait(GATHER)
            self._something_to_write.clear()
            self._write(self.take())

    def _write(self, batch: bytes) -> None:
        written = 0
        while written < len(batch):
            with self._turn:
                written = self._write_lines(batch, written, whole_lines(batch, written))

    def _write_lines(self, batch: bytes, written: int, end: int) -> int:
        while written < end:
            path = self._path
            if path and _was_rotated(path, self._fd) and self._reopen(path):
                # The line that the old file holds in part is written whole into the new one.
                written = batch.rfind(b"\n", 0, written) + 1
            try:
                written += os.write(self._fd, batch[written:end])
            except OSError:
                # A full disk, say. The lines are tried again, unless the service is leaving.
                if self._closing.wait(RETRY):
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
    """Open a log file to append to it."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)


def whole_lines(batch: bytes, start: int) -> int:
    """Return where the lines end that a pipe takes as a whole: at least one, however long."""
    return batch.rfind(b"\n", start, start + WHOLE) + 1 or batch.find(b"\n", start) + 1


def _was_rotated(path: Path, fd: int) -> bool:
    try:
        return not os.path.samestat(os.stat(path), os.fstat(fd))
    except OSError:
        return True
