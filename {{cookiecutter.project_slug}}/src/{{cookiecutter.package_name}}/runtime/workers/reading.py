"""Reading the settings of a service without importing its modules.

The supervisor needs the settings. The module that defines them, and what that imports, belongs to
the workers: each of them imports it after the fork, once, with the code of that moment. So a
process of its own reads the settings for the supervisor.
"""

import os
import pickle
import select
import signal
import sys
from contextlib import suppress
from typing import NoReturn

from ..process.definition import ServiceDefinition
from ..settings import Settings

READ_TIMEOUT = 10.0
"""Seconds to wait for the process that reads the settings."""


def read_settings(service: ServiceDefinition) -> Settings | None:
    """Read the runtime's settings of a service, without those of its own. None if that fails."""
    reader, writer = os.pipe()
    sys.stdout.flush()  # otherwise buffered output is written twice
    # Signals of the child would be queued to the supervisor.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _read_and_exit(service, writer)
    except OSError:
        os.close(reader)
        return None
    finally:
        os.close(writer)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    with open(reader, "rb") as pipe:
        is_read = select.select([pipe], [], [], READ_TIMEOUT)[0]
        data = pipe.read() if is_read else b""
    if not data:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return pickle.loads(data) if data else None  # noqa: S301 - from this very program


def _read_and_exit(service: ServiceDefinition, writer: int) -> NoReturn:
    with suppress(BaseException):
        settings = service.load_settings()
        values = {name: getattr(settings, name) for name in Settings.model_fields}
        data = pickle.dumps(Settings.model_construct(**values))
        os.write(writer, data)  # far less than a pipe takes at once
    os._exit(0)
