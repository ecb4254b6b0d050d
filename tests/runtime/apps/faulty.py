"""The service `reloadable` whose supervisor has the fault that the variable FAULT names."""

import errno
import os
import sys
from pathlib import Path
from typing import NoReturn, Self

from runtime import Service, Settings, SettingsError
from runtime.workers import Prefork
from runtime.workers.supervisor import Supervisor

from .reloadable import set_constants

FAULT = os.environ["FAULT"]
SUPERVISOR = os.getpid()

real_fork = os.fork


class SettingsBrokenLater(Settings):
    """Settings that the supervisor can read only once, if that is the fault."""

    @classmethod
    def load(cls) -> Self:
        if FAULT == "settings" and os.getpid() == SUPERVISOR and Path("loaded").exists():
            raise SettingsError("Bad settings:\n  broken after the start")
        Path("loaded").touch()
        return super().load()


def fork_if_allowed() -> int:
    """Fork, unless there is a file `no-fork`."""
    if Path("no-fork").exists():
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return real_fork()


def fail(supervisor: Supervisor) -> NoReturn:
    raise ValueError("a mistake")


service = Service(
    "renewed",
    "1.0",
    processes=Prefork(),
    settings=f"{__spec__.name}:SettingsBrokenLater" if __spec__ else None,
)

if __name__ == "__main__":
    set_constants()
    if FAULT == "fork":
        os.fork = fork_if_allowed
    if FAULT == "supervisor":
        Supervisor._check_runtime = fail  # type: ignore[method-assign, assignment]
    sys.exit(service.main())
