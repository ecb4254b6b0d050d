"""A service with workers, which serves the package `renewed` of the working folder.

Variables of the same names set constants of the runtime that would make a test slow.
"""

import os
import sys

from runtime import Service
from runtime.control import client
from runtime.workers import Prefork, child, resize, restarts, supervisor

service = Service("renewed", "1.0", processes=Prefork(), settings="runtime.settings:Settings")


def set_constants() -> None:
    for module, name in (
        (child, "EXIT_GRACE"),
        (client, "SILENCE_TIMEOUT"),
        (resize, "HANDOVER"),
        (restarts, "CRASH_LOOP_COUNT"),
        (restarts, "INITIAL_DELAY"),
        (restarts, "MAX_DELAY"),
        (supervisor, "TICK"),
    ):
        if name in os.environ:
            setattr(module, name, float(os.environ[name]))


if __name__ == "__main__":
    set_constants()
    sys.exit(service.main())
