"""The first moments of a process that is going to serve, from before its imports.

Uses only what Python has imported anyway, because all other imports come later.
"""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

Handler = Callable[[int, FrameType | None], object]

STOP_SIGNALS: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT)
if sys.platform == "win32":
    # Ctrl-Break, and the end of the console. A SIGTERM that is sent ends a process at once there.
    STOP_SIGNALS += (signal.SIGBREAK,)
IGNORED_SIGNALS = ("SIGUSR1", "SIGUSR2", "SIGALRM")
"""Signals that mean nothing to a service, but would end it."""


def is_about_to_serve(package: str) -> bool:
    """Return whether this process was started to serve `package`.

    That is with ``python -m package`` or the script that was installed for it. A test, and a
    process that `multiprocessing` starts, are something else, even if they import the command.
    """
    program, module = sys.modules["__main__"], f"{package}.__main__"
    if program.__spec__:
        is_command = program.__spec__.name == module
    else:
        is_command = hasattr(program, "__file__") and module in sys.modules
    return is_command and sys.argv[1:] in ([], ["serve"])


def prepare_process() -> None:
    """Act on signals until the service does, and make sure that the standard streams exist.

    As process 1 of a container it would not even get a SIGTERM for which it has no handler.
    """
    _open_standard_streams()
    signal.signal(signal.SIGTERM, _exit)
    if hasattr(signal, "SIGCHLD"):  # not on Windows
        # Ignored, as some launchers leave it, it would hide how children end.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for name in IGNORED_SIGNALS:
        if hasattr(signal, name):  # not on Windows
            signal.signal(getattr(signal, name), ignore)
    handle_hangup(_exit_without_terminal if has_terminal() else ignore)


def handle_hangup(handler: Handler) -> None:
    """Call `handler` on SIGHUP, as when the terminal is closed, unless nohup ignores it."""
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, handler)


def ignore(signum: int, frame: FrameType | None) -> None:
    """Handle a signal by doing nothing. Other programs do not inherit that, unlike SIG_IGN."""


def has_terminal() -> bool:
    """Return whether this process has a controlling terminal that is still open."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except (OSError, AttributeError):  # Windows has no O_NOCTTY
        return False
    return True


def _exit(signum: int, frame: FrameType | None) -> None:
    # An exception could be caught by the module that is being imported.
    os._exit(0)


def _exit_without_terminal(signum: int, frame: FrameType | None) -> None:
    if not has_terminal():
        os._exit(0)


def _open_standard_streams() -> None:
    """Replace streams that are closed, as after ``serve >&-``, by the null device.

    Otherwise the next file or socket would get the descriptor, and what is meant for the stream.
    """
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # gets the lowest descriptor, which is this one
            os.set_inheritable(null, True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(fd, "w" if fd else "r", closefd=False))
