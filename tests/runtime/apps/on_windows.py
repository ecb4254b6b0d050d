"""The sample application with no more of Python than Windows has: ``python -m`` this module.

The libraries are imported first, and see this system. The runtime is then imported again, without
the modules and functions that Windows does not have. Ctrl-Break is SIGUSR1.
"""

import asyncio
import errno
import faulthandler
import mmap
import os
import pathlib
import select
import selectors
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

# All that serves, so that these have imported the libraries.
import runtime.metrics
import runtime.process.restarter
import runtime.process.single
import runtime.workers  # noqa: F401

MISSING_MODULES = (
    *("curses", "fcntl", "grp", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"),
    "uvloop",
)
# Names that are missing in each module. mypy knows all of them: see tests/test_platforms.py.
MISSING: dict[Any, str] = {
    faulthandler: "register unregister",
    mmap: "MAP_ANONYMOUS MAP_PRIVATE MAP_SHARED PROT_READ PROT_WRITE",
    os: "O_CLOEXEC O_NOCTTY O_NONBLOCK fchown fork forkpty geteuid getgid getloadavg"
    " getpgid getuid killpg mkfifo nice openpty pread pwrite register_at_fork sched_getaffinity"
    " sched_setaffinity sendfile setpgid setsid sysconf uname wait waitid writev",
    select: "PIPE_BUF epoll poll",
    signal: "SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2"
    " SIGWINCH alarm pthread_kill pthread_sigmask setitimer siginterrupt sigwait",
    socket: "AF_UNIX SCM_RIGHTS SO_REUSEPORT recv_fds send_fds",
    time: "CLOCK_MONOTONIC clock_gettime clock_gettime_ns",
}


def forget_runtime() -> None:
    """Let the runtime be imported again."""
    for name in [*sys.modules]:
        if name.partition(".")[0] == "runtime":
            del sys.modules[name]


def without_sockets(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of `os` refuse sockets: on Windows they are no descriptors."""

    def wrapper(fd: int, *args: Any, **kwargs: Any) -> Any:
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise OSError(errno.EBADF, "a socket is no descriptor")
        return function(fd, *args, **kwargs)

    return wrapper


def become_windows() -> None:
    """Take away what Windows does not have."""
    signal.SIGBREAK = signal.SIGUSR1  # type: ignore[attr-defined]
    pathlib.WindowsPath = pathlib.PosixPath  # type: ignore[misc,assignment]
    selectors.DefaultSelector = selectors.SelectSelector  # type: ignore[misc,assignment]
    asyncio.SelectorEventLoop.add_signal_handler = (  # type: ignore[method-assign]
        asyncio.AbstractEventLoop.add_signal_handler  # which raises NotImplementedError
    )
    # What the event loop wakes itself up with is something else there.
    socket.socketpair = partial(socket.socketpair, socket.AF_UNIX)
    for name in "close", "dup", "read", "write":
        setattr(os, name, without_sockets(getattr(os, name)))
    for name in MISSING_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]  # importing it fails
    for module, names in MISSING.items():
        for name in names.split():
            delattr(module, name)
    sys.platform, os.name = "win32", "nt"


if __name__ == "__main__":
    forget_runtime()
    become_windows()

    from runtime import Service
    from runtime.metrics import Metrics
    from runtime.workers import Prefork

    service = Service(
        "on_windows",
        "1.0",
        processes=Prefork(),
        extensions=[Metrics()],
        settings="runtime.settings:Settings",
        app="tests.runtime.support.sample_app:make_app",
    )
    sys.exit(service.main())
