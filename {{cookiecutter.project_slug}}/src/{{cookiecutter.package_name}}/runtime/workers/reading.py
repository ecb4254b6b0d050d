"""Reading the settings of a service without importing its modules.

The supervisor needs the settings. The module that defines them, and what that imports, belongs to
the workers: each of them imports it after the fork, once, with the code of that moment. So a
process of its own reads the settings for the supervisor.
"""

import json
import os
import select
import signal
import time
from contextlib import suppress
from typing import NoReturn

from ..process.definition import ServiceDefinition
from ..settings import Settings
from .child import fork_with_signals_blocked

SETTINGS_TIMEOUT = 10.0
"""Seconds to wait for the process that reads the settings."""
END = b"\n"
"""Behind the values: what the service's modules have started may keep the pipe open."""


def read_settings(service: ServiceDefinition) -> Settings | None:
    """Read the runtime's settings of a service, without those of its own. None if that fails."""
    reader, writer = os.pipe()
    try:
        # The mask stays: this process has no handlers of its own.
        pid = fork_with_signals_blocked(lambda _: _read_and_exit(service, writer))
    except OSError:
        os.close(reader)
        return None
    finally:
        os.close(writer)
    data = _receive(reader)
    os.close(reader)
    if not data:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    try:
        return Settings(**json.loads(data)) if data else None
    except ValueError:  # the service has given a setting another type
        return None


def _receive(reader: int) -> bytes:
    """Read from a pipe up to `END`. Returns nothing if that does not come in time."""
    data = b""
    deadline = time.monotonic() + SETTINGS_TIMEOUT
    while not data.endswith(END):
        remaining = deadline - time.monotonic()
        if remaining < 0 or not select.select([reader], [], [], remaining)[0]:
            return b""
        piece = os.read(reader, 65536)
        if not piece:
            return b""
        data += piece
    return data


def _read_and_exit(service: ServiceDefinition, writer: int) -> NoReturn:
    with suppress(BaseException):
        settings = service.load_settings()
        text = settings.model_dump_json(include=set(Settings.model_fields))
        os.write(writer, text.encode() + END)  # far less than a pipe takes at once
    os._exit(0)
