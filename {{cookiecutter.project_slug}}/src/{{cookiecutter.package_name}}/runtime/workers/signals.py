"""The supervisor's signals as a queue (self-pipe), instead of asynchronous handlers."""

import math
import select
import signal
import socket
import time
from collections.abc import Sequence

from ..starting import IGNORED_SIGNALS, STOP_SIGNALS, has_terminal, ignore

HANDLED = (
    *STOP_SIGNALS,
    signal.SIGHUP,
    signal.SIGCHLD,
    signal.SIGTSTP,
    *(getattr(signal, name) for name in IGNORED_SIGNALS),
)
FOR_THE_SUPERVISOR = (signal.SIGINT, signal.SIGHUP)
"""Workers ignore them: a signal to all processes of the service is about the service."""

HANGUP_WINDOW = 2.0
"""Seconds between SIGHUP and the end of the terminal, in any order, if the one is about the other.

Shells differ: some send SIGHUP and exit, others do it when their terminal has been closed.
"""


class SignalQueue:
    """The signals of `HANDLED`, in order of arrival."""

    def __init__(self) -> None:
        nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._has_terminal = has_terminal() and not nohup
        self._terminal_closed_at = math.inf
        self._hup_at = -math.inf
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for signum in HANDLED:
            signal.signal(signum, ignore)  # which is called beside the queue

    @property
    def terminal_was_closed(self) -> bool:
        """Whether there was a SIGHUP because of the end of the terminal. To be asked regularly."""
        if self._has_terminal and not has_terminal():
            self._has_terminal = False
            self._terminal_closed_at = time.monotonic()
        return abs(self._hup_at - self._terminal_closed_at) < HANGUP_WINDOW

    def wait(self, timeout: float, others: Sequence[int] = ()) -> list[signal.Signals]:
        """Wait up to `timeout` seconds for signals, or until one of `others` is readable."""
        wanted = self._reader.fileno()
        readable = select.select([wanted, *others], [], [], timeout)[0]
        if wanted not in readable:
            return []
        signals = [signal.Signals(number) for number in self._reader.recv(4096)]
        if signal.SIGHUP in signals:
            self._hup_at = time.monotonic()
        return signals

    def reset_in_child(self) -> None:
        """In a forked child: restore the default handlers, but for what is not for it."""
        signal.set_wakeup_fd(-1)
        for signum in HANDLED:
            is_default = signum not in FOR_THE_SUPERVISOR
            signal.signal(signum, signal.SIG_DFL if is_default else ignore)
        self._reader.close()
        self._writer.close()
