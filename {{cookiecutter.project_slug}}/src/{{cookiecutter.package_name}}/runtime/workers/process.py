"""A forked process as the supervisor sees it: birth, last words, death."""

import json
import math
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from .scoreboard import ADMIN, Row
from ..settings import BadSettings
from .signals import SignalQueue
from ..process.sockets import CannotStart

# The signals that tell a process to leave.
LEAVE = DRAIN, CUT = signal.SIGTERM, signal.SIGUSR2
# Seconds to be gone after the drain has timed out, and after `CUT`.
GRACE, AT_ONCE = 2.0, 0.5
# Seconds to write a stack.
STACK_TIMEOUT = 0.3
# Bytes of last words, and characters of a message and of a stack in them, which become up to twelve
# bytes each: together they fit into a socket, so that nobody waits.
LONGEST, LONGEST_MESSAGE, LONGEST_STACK = 128 * 1024, 1000, 8000


@dataclass(eq=False)
class Process:
    """A worker, or the process of the admin port."""

    pid: int
    slot: int
    row: Row
    channel: socket.socket
    """It writes its last words at the other end, and sees there if the supervisor dies."""
    deadline: float = math.inf
    """When it must be ready or, if it is leaving, gone."""
    ready_since: float = 0.0
    leaving: bool = False
    killed: str = ""
    """Why the supervisor has killed it."""
    _stack: str = ""

    def __str__(self) -> str:
        return f"{'admin process' if self.slot == ADMIN else f'worker {self.slot}'}, pid {self.pid}"

    def send(self, signum: int) -> None:
        # As long as nobody has waited for it, its number cannot be another's.
        os.kill(self.pid, signum)

    def drain(self, seconds: float) -> None:
        """Tell it, once, to answer what it has within so many seconds, and to go."""
        if not self.leaving:
            self._dismiss(DRAIN, seconds + GRACE)

    def cut(self) -> None:
        """Tell it to go at once."""
        self._dismiss(CUT, AT_ONCE)

    def _dismiss(self, signum: int, seconds: float) -> None:
        self.leaving = True
        self.deadline = time.monotonic() + seconds
        self.send(signum)

    def expect_end(self, seconds: float) -> None:
        """Note that it drains although nobody has told it to."""
        self.leaving = True
        self.deadline = time.monotonic() + seconds + GRACE

    def kill(self, why: str) -> None:
        """Kill it, and keep for the log where it was in its code."""
        self.send(signal.SIGUSR1)
        self._stack = self._last_words(STACK_TIMEOUT)
        self.killed = why if self._stack else f"{why}; it did not even run"
        self.deadline = math.inf
        self.send(signal.SIGKILL)

    def bury(self, code: int) -> tuple[str, dict[str, str]]:
        """Say how it ended, and what the log is to have with that: a stack or an exception."""
        more = {"code.stacktrace": self._stack} if self._stack else {}
        why = self.killed
        if not why:
            more = _read(self._last_words())
            why = more.pop("why", "") or _end(code)
        if self.ready_since:
            why += f", requests in flight: {self.row.in_flight}"
        self.channel.close()
        return f"{self}: {why}", more

    def _last_words(self, wait: float = 0.0) -> str:
        words = b""
        deadline = time.monotonic() + wait + 0.1
        with suppress(ConnectionError):
            while len(words) < LONGEST and select.select([self.channel], [], [], wait)[0]:
                if not (more := self.channel.recv(LONGEST)) or time.monotonic() > deadline:
                    break
                words += more
                wait = 0.02
        return words.decode(errors="replace")


def fork(
    slot: int,
    row: Row,
    work: Callable[[int, Row, socket.socket], None],
    signals: SignalQueue,
    others: Iterable[Process],
) -> Process:
    """Start a process that runs `work` with its slot, its row and its end of the channel.

    If this raises an exception, its last words are what the log has of exceptions, and why.
    Raises `OSError` if the system has no process to give.
    """
    ours, theirs = socket.socketpair()
    sys.stdout.flush()  # or the child would write the same once more
    # As long as the child has our handlers, a signal to it would count as one to us.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for channel in (ours, *(other.channel for other in others)):
                    channel.close()  # or nobody would see the end of the supervisor
                signals.leave()
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                forget_own_modules()
                work(slot, row, theirs)
                code = 0
            except BaseException as error:
                theirs.settimeout(STACK_TIMEOUT)
                theirs.sendall(_describe(error))
            finally:
                with suppress(Exception):
                    sys.stdout.flush()
                os._exit(code)
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return Process(pid, slot, row, ours)


def the_dead() -> Iterator[tuple[int, int]]:
    """Wait for the processes that have ended: pids and exit codes, negative for a signal.

    As process 1 the service is given strangers as well, who need nothing but to be waited for.
    """
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def forget_own_modules() -> None:
    """Let the package's modules be imported anew, with the code that they have by now."""
    package = __package__.partition(".")[0]
    for name in list(sys.modules):
        if name == package or name.startswith(f"{package}."):
            del sys.modules[name]


def _describe(error: BaseException) -> bytes:
    # By name, for the process has imported these classes anew.
    own = type(error).__name__ in (BadSettings.__name__, CannotStart.__name__)
    cause = error.__cause__ or error
    words = {"why": " ".join((str(error) if own else repr(error)).split())[:LONGEST_MESSAGE]}
    if type(error).__name__ != BadSettings.__name__:
        words |= {
            "exception.type": type(cause).__qualname__,
            "exception.message": str(cause)[:LONGEST_MESSAGE],
            "exception.stacktrace": "".join(traceback.format_exception(cause))[-LONGEST_STACK:],
        }
    return json.dumps(words).encode()


def _read(words: str) -> dict[str, str]:
    # A worker may be out of its mind, and must not drag the supervisor along.
    known = "why", "exception.type", "exception.message", "exception.stacktrace"
    with suppress(ValueError, RecursionError, AttributeError):
        return {name: str(value) for name, value in json.loads(words).items() if name in known}
    return {}


def _end(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:  # real-time signals have no names
        return f"killed by signal {-code}"
