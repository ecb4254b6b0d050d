"""The service `reloadable` whose supervisor has the fault that the variable FAULT names."""

import errno
import os
import sys
from pathlib import Path
from typing import NoReturn

from runtime import Service
from runtime.workers import Prefork, prefork
from runtime.workers.supervisor import Supervisor

from .reloadable import set_constants

FAULT = os.environ["FAULT"]

real_fork = os.fork


def fork_if_allowed() -> int:
    """Fork, unless there is a file `no-fork`."""
    if Path("no-fork").exists():
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return real_fork()


def fail(*_: object) -> NoReturn:
    raise ValueError("a mistake")


service = Service(
    "renewed",
    "1.0",
    processes=Prefork(),
    settings="runtime.settings:Settings",
)

if __name__ == "__main__":
    set_constants()
    if FAULT == "fork":
        os.fork = fork_if_allowed
    if FAULT == "settings":
        # The supervisor cannot read them again.
        prefork.read_settings = lambda _: None
    if FAULT == "supervisor":
        Supervisor._finish_reload = fail  # type: ignore[method-assign, assignment]
    if FAULT == "runtime":
        Supervisor._check_runtime = fail  # type: ignore[method-assign, assignment]
    sys.exit(service.main())
