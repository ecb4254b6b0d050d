"""A child process as the supervisor sees it: fork, exit report, exit code.

Each is the leader of a process group, to which belongs what it starts: a pool's processes, for
example. The whole group ends with it. What a terminal sends goes to the supervisor alone.
"""

import json
import math
import os
import re
import select
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

from ..errors import SettingsError, ShutdownError, StartupError
from ..process.exiting import exit_now, flush_stdout, forget_exit_hooks, run_exit_hooks
from ..status import ADMIN_SLOT
from .blocking import QUESTION, WORK, split_answer
from .scoreboard import Row
from .signals import SignalQueue

DRAIN = signal.SIGTERM
"""Asks a child to exit after draining."""
ABORT = signal.SIGUSR2
"""Asks a child to exit immediately."""
EXIT_CODES = (0, -DRAIN, -ABORT)
"""Those of a child that exits as it was asked to, maybe before it had handlers for the signals."""
ABORT_CODE = 1
"""That of a child which has had a handler for ABORT."""

EXIT_GRACE = 2.0
"""Seconds to exit after the drain timeout, or after ABORT."""
STACK_TIMEOUT = 0.3
"""Seconds to wait for a stack dump."""
ANSWER_TIMEOUT = 0.2
"""Seconds more to wait for what the event loop is running."""
SEND_TIMEOUT = 0.3
"""Seconds for a child to send its report."""
MORE_DATA_TIMEOUT = 0.02
"""Seconds to wait for the rest of a report."""
READ_TIMEOUT = 0.1
"""Seconds for reading a report in all, beyond the wait for its first bytes."""

# Size limits of an exit report, so that it fits into the socket buffer and writing never blocks. A
# character becomes up to twelve bytes.
MAX_REPORT_SIZE = 128 * 1024
"""Bytes."""
REPORT = re.compile("\x1d(.*)\n")
"""An exit report among what a process has written, beside stacks and answers."""
MAX_MESSAGE_LENGTH = 1000
"""Characters of a reason or message."""
MAX_STACK_LENGTH = 8000
"""Characters, from the end of the stack."""

Target = Callable[[int, Row, socket.socket], None]
"""Runs in a child: it gets its slot, its row and its end of the channel."""

Mask = set[int]
"""Signals that are blocked."""

REPORT_FIELDS = ("reason", "exception.type", "exception.message", "exception.stacktrace")


@dataclass(eq=False)
class ChildProcess:
    """A worker, or the process of the admin port."""

    pid: int
    slot: int
    row: Row
    channel: socket.socket
    """The child writes its stack, its answers and its exit report to the other end, and reads EOF
    there when the supervisor exits."""
    deadline: float = math.inf
    """When it must be ready or, while exiting, gone; on the clock of `time.monotonic`."""
    ready_since: float = 0.0
    """0 until it is ready."""
    exiting: bool = False
    aborted: bool = False
    kill_reason: str = ""
    """Why the supervisor has killed it."""
    was_blocked: bool = False
    """Whether that was because its event loop was blocked."""
    _kill_fields: dict[str, str] = field(default_factory=dict)
    """What it did then: its stack, and the request."""
    _unasked: bytes = b""
    """The last of what it has written unasked: an exit report, or a stack after a stray SIGUSR1."""

    def __str__(self) -> str:
        name = "admin process" if self.slot == ADMIN_SLOT else f"worker {self.slot}"
        return f"{name}, pid {self.pid}"

    def send(self, signum: int) -> None:
        # Not reaped yet, so the pid cannot have been reused.
        os.kill(self.pid, signum)

    def send_to_group(self, signum: int) -> bool:
        """Send a signal to it and to all that it has started. Return whether anything is left."""
        try:
            os.killpg(self.pid, signum)
        except (ProcessLookupError, PermissionError):  # macOS has the latter for a zombie
            return False
        return True

    def drain(self, timeout: float) -> None:
        """Ask it, once, to finish its requests within `timeout` seconds and exit."""
        if not self.exiting:
            self._request_exit(DRAIN, timeout + EXIT_GRACE)

    def abort(self) -> None:
        """Ask it to exit immediately."""
        self.aborted = True
        self._request_exit(ABORT, EXIT_GRACE)

    def _request_exit(self, signum: int, timeout: float) -> None:
        self.exiting = True
        self.deadline = time.monotonic() + timeout
        self.send(signum)

    def mark_exiting(self, timeout: float) -> None:
        """Record that it drains, for `timeout` seconds at most, without having been asked."""
        self.exiting = True
        self.deadline = time.monotonic() + timeout + EXIT_GRACE

    def receive(self) -> None:
        """Take what it has written unasked: it would wait for ever if the channel were full."""
        with suppress(OSError):
            data = self.channel.recv(MAX_REPORT_SIZE, socket.MSG_DONTWAIT)
            self._unasked = (self._unasked + data)[-MAX_REPORT_SIZE:]

    def kill(self, reason: str) -> None:
        """Ask it for its stack and for what it is running, for the log, then kill it."""
        self.receive()  # so that a stack of before is not read as that of now
        self.send(signal.SIGUSR1)
        stack, answer = split_answer(self._read_report(STACK_TIMEOUT))
        if stack and answer is None:
            with suppress(OSError):
                self.channel.send(QUESTION, socket.MSG_DONTWAIT)
            more, answer = split_answer(self._read_report(ANSWER_TIMEOUT))
            stack += more
        fields = answer or {}
        self.kill_reason = reason + self._describe_work(stack, answer is not None, fields)
        self._kill_fields = (
            {"code.stacktrace": stack[:MAX_REPORT_SIZE], **fields} if stack else fields
        )
        self.deadline = math.inf
        self.send(signal.SIGKILL)

    def _describe_work(self, stack: str, has_answered: bool, fields: dict[str, str]) -> str:
        if not stack:
            return "; no stack: it was not running"
        if work := fields.pop(WORK, ""):
            return f" by {work}" if self.was_blocked else f"; it was running {work}"
        if self.was_blocked and not has_answered:
            return "; the request is unknown: native code lets no thread answer"
        return ""

    def has_failed(self, code: int) -> bool:
        """Return whether it has exited otherwise than it was asked to."""
        return code not in EXIT_CODES and not (self.aborted and code == ABORT_CODE)

    def exit_report(self, code: int) -> tuple[str, dict[str, str]]:
        """Return why it has exited, and extra fields for the log: a stack or an exception.

        `code` is its exit code; negative: the number of a signal.
        """
        fields = self._kill_fields
        reason = self.kill_reason
        if not reason:
            unasked = self._unasked.decode(errors="replace")
            fields = _decode_report(unasked + self._read_report())
            reason = fields.pop("reason", "") or _format_exit_code(code)
        if self.ready_since:
            reason += f", requests in flight at its last heartbeat: {self.row.in_flight}"
        self.channel.close()
        return reason, fields

    def _read_report(self, timeout: float = 0.0) -> str:
        report = b""
        deadline = time.monotonic() + timeout + READ_TIMEOUT
        with suppress(ConnectionError):
            while len(report) < MAX_REPORT_SIZE and time.monotonic() < deadline:
                if not select.select([self.channel], [], [], timeout)[0]:
                    break
                data = self.channel.recv(MAX_REPORT_SIZE)
                if not data:
                    break
                report += data
                timeout = MORE_DATA_TIMEOUT
        return report.decode(errors="replace")


def fork(
    slot: int,
    row: Row,
    target: Target,
    signals: SignalQueue,
    siblings: Iterable[ChildProcess],
) -> ChildProcess:
    """Fork a child that calls `target(slot, row, channel)`.

    An exception in it is reported through the channel. Raises `OSError` if fork fails.
    """
    parent_end, child_end = socket.socketpair()

    def run(mask: Mask) -> None:
        forget_exit_hooks()
        os.setpgid(0, 0)
        # Otherwise the siblings never read EOF when the supervisor exits.
        for channel in (parent_end, *(sibling.channel for sibling in siblings)):
            channel.close()
        signals.reset_in_child()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        target(slot, row, child_end)

    try:
        pid = fork_with_signals_blocked(lambda mask: _run_and_exit(run, mask, child_end))
    except OSError:
        parent_end.close()
        raise
    finally:
        child_end.close()
    return ChildProcess(pid, slot, row, parent_end)


def fork_with_signals_blocked(run: Callable[[Mask], NoReturn]) -> int:
    """Fork a process that calls `run` with the mask of its parent. Returns its pid.

    Until the child resets its handlers, its signals would be queued to the supervisor. Raises
    `OSError`.
    """
    flush_stdout()  # otherwise buffered output is written twice
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            run(mask)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _run_and_exit(run: Callable[[Mask], None], mask: Mask, channel: socket.socket) -> NoReturn:
    """Call `run` in a child, report an exception through the channel, and exit."""
    code = 1
    try:
        run(mask)
        code = 0
    except BaseException as error:
        with suppress(BaseException):
            _exit_after(EXIT_GRACE, code)  # nothing else limits the time after a failure
            channel.settimeout(SEND_TIMEOUT)
            channel.sendall(_encode_error(error))
        with suppress(BaseException):
            run_exit_hooks()
    finally:
        flush_stdout()
        exit_now(code)


def _exit_after(seconds: float, code: int) -> None:
    timer = threading.Timer(seconds, exit_now, (code,))
    timer.daemon = True
    timer.start()


def reap() -> Iterator[tuple[int, int]]:
    """Reap exited children without blocking; yield pid and exit code (negative: a signal).

    As PID 1 this includes reparented orphans.
    """
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def _encode_error(error: BaseException) -> bytes:
    is_clear = isinstance(error, SettingsError | StartupError | ShutdownError)
    lines = (str(error) if is_clear else repr(error)).splitlines()
    reason = "; ".join(" ".join(line.split()) for line in lines).replace(":; ", ": ")[
        :MAX_MESSAGE_LENGTH
    ]
    report = {"reason": reason}
    if not isinstance(error, SettingsError):
        cause = error.__cause__ or error
        report |= {
            "exception.type": type(cause).__qualname__,
            "exception.message": str(cause)[:MAX_MESSAGE_LENGTH],
            "exception.stacktrace": "".join(traceback.format_exception(cause))[-MAX_STACK_LENGTH:],
        }
    return f"\x1d{json.dumps(report)}\n".encode()


def _decode_report(text: str) -> dict[str, str]:
    # A crashing worker may write garbage; that must not crash the supervisor.
    with suppress(IndexError, ValueError, RecursionError, AttributeError):
        fields = json.loads(REPORT.findall(text)[-1]).items()
        return {name: str(value) for name, value in fields if name in REPORT_FIELDS}
    return {}


def _format_exit_code(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:  # real-time signals have no names
        return f"killed by signal {-code}"
