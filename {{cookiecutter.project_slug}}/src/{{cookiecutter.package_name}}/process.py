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
from .settings import BadSettings
from .signals import SignalQueue
from .sockets import CannotStart

# The signals that tell a process to leave.
LEAVE = DRAIN, CUT = signal.SIGTERM, signal.SIGUSR2
# Seconds to be gone after the drain has timed out, and after `CUT`.
GRACE, AT_ONCE = 2.0, 0.5
# Seconds to write a stack.
STACK_TIMEOUT = 0.3
# Characters of each of the last words: together no more than a socket takes without waiting.
LONGEST_TEXT = 8 * 1024


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

    def kill(self, why: str) -> None:
        self.killed = why
        self.deadline = math.inf
        self.send(signal.SIGKILL)

    def stack(self) -> str:
        """Return where it is in its code, whatever it does; nothing if it does not run at all."""
        self.send(signal.SIGUSR1)
        return self._last_words(STACK_TIMEOUT)

    def bury(self, code: int) -> tuple[str, dict[str, str]]:
        """Free what it had. Returns how it ended and, if it could not start, the exception."""
        words = self._last_words()
        exception = json.loads(words) if words.startswith("{") else {}
        end = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        what = self.killed or exception.pop("why", end)
        if self.ready_since:
            what += f", requests in flight: {self.row.in_flight}"
        self.row.release()
        self.channel.close()
        return f"{self}: {what}", exception

    def _last_words(self, wait: float = 0.0) -> str:
        words = b""
        with suppress(ConnectionError):
            while select.select([self.channel], [], [], wait)[0]:
                if not (more := self.channel.recv(65536)):
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
    # As long as the child has our handlers, a signal to it would count as one to us.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            try:
                for channel in (ours, *(other.channel for other in others)):
                    channel.close()  # or nobody would see the end of the supervisor
                signals.leave()
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                forget_own_modules()
                work(slot, row, theirs)
                sys.stdout.flush()
                os._exit(0)
            except BaseException as error:
                theirs.sendall(_describe(error).encode())
            finally:
                os._exit(1)
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
    package = __package__
    for name in list(sys.modules):
        if name == package or name.startswith(f"{package}."):
            del sys.modules[name]


def _describe(error: BaseException) -> str:
    # By name, for the process has imported these classes anew.
    if type(error).__name__ == BadSettings.__name__:
        return json.dumps({"why": " ".join(line.strip() for line in str(error).splitlines())})
    own = type(error).__name__ == CannotStart.__name__
    cause = error.__cause__ or error
    return json.dumps(
        {
            "why": (str(error) if own else repr(error))[:LONGEST_TEXT],
            "exception.type": type(cause).__qualname__,
            "exception.message": str(cause)[:LONGEST_TEXT],
            "exception.stacktrace": "".join(traceback.format_exception(cause))[-LONGEST_TEXT:],
        }
    )
