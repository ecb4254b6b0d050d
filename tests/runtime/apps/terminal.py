"""Waits for a signal in a terminal, in the way that its argument says.

Prints the signal, and whether the terminal is still open.
"""

import fcntl
import os
import signal
import sys
import termios

from runtime.workers.signals import SignalQueue

WAIT_TIMEOUT = 30.0
"""Seconds to wait for the signal."""

IN_TERMINAL, WITH_NOHUP, IN_BACKGROUND, WITHOUT_TERMINAL = (
    "in a terminal",
    "with nohup",
    "in the background",
    "without a terminal",
)
OPEN, CLOSED = "terminal open", "terminal closed"


def main(how: str) -> int:
    if how != WITHOUT_TERMINAL:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    if how == WITH_NOHUP:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if how == IN_BACKGROUND:
        if child := os.fork():
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            return os.waitpid(child, 0)[1]
        os.setpgid(0, 0)
    queue = SignalQueue()
    print(os.getpid(), flush=True)
    names = [signum.name for signum in queue.wait(WAIT_TIMEOUT)]
    print(*names, CLOSED if queue.terminal_was_closed else OPEN)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
