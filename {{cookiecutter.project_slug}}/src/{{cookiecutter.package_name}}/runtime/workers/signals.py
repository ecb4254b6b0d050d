"""The supervisor's signals as a queue (self-pipe), instead of asynchronous handlers."""

import os
import select
import signal
import socket

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGHUP)
"""A terminal sends these to its whole process group."""


class SignalQueue:
    """The signals of `HANDLED`, in order of arrival."""

    def __init__(self) -> None:
        nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._had_terminal = _is_in_foreground() and not nohup
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for signum in HANDLED:
            signal.signal(signum, lambda *_: None)

    def wait(self, timeout: float) -> list[signal.Signals]:
        """Wait up to `timeout` seconds for signals.

        SIGHUP from a closing terminal is returned as SIGTERM: it means stop, not reload.
        """
        if not select.select([self._reader], [], [], timeout)[0]:
            return []
        signals = [signal.Signals(number) for number in self._reader.recv(4096)]
        if signal.SIGHUP in signals and self._had_terminal and not _is_in_foreground():
            return [signal.SIGTERM]
        return signals

    def reset_in_child(self) -> None:
        """In a forked child: restore the default handlers, and ignore what a terminal sends.

        A terminal sends its signals to the whole process group; the supervisor acts on them.
        """
        signal.set_wakeup_fd(-1)
        for signum in HANDLED:
            ignored = signum in TERMINAL_SIGNALS
            signal.signal(signum, signal.SIG_IGN if ignored else signal.SIG_DFL)
        self._reader.close()
        self._writer.close()


def _is_in_foreground() -> bool:
    """Return whether the service runs in the foreground of a terminal."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
