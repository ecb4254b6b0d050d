"""The signals that the supervisor gets, as a queue instead of handlers that run at any moment."""

import os
import select
import signal
import socket

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class SignalQueue:
    """The signals of `HANDLED`, in the order of their arrival."""

    def __init__(self) -> None:
        nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._had_terminal = _is_in_terminal() and not nohup
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for signum in HANDLED:
            signal.signal(signum, lambda *_: None)

    def wait(self, seconds: float) -> list[signal.Signals]:
        """Wait for signals, so many seconds at most.

        The terminal in which the service runs sends SIGHUP as well, when it is closed. Then the
        service is to end, not to reload, and gets SIGTERM instead.
        """
        if not select.select([self._reader], [], [], seconds)[0]:
            return []
        signals = [signal.Signals(number) for number in self._reader.recv(4096)]
        if signal.SIGHUP in signals and self._had_terminal and not _is_in_terminal():
            return [signal.SIGTERM]
        return signals

    def leave(self) -> None:
        """In a forked process: signals do what they do by themselves, those of a terminal nothing.

        What a terminal sends goes to every process, and is meant for the supervisor.
        """
        signal.set_wakeup_fd(-1)
        for signum in HANDLED:
            from_terminal = signum in (signal.SIGINT, signal.SIGHUP)
            signal.signal(signum, signal.SIG_IGN if from_terminal else signal.SIG_DFL)
        self._reader.close()
        self._writer.close()


def _is_in_terminal() -> bool:
    """Tell whether there is a terminal with this service in the foreground."""
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
