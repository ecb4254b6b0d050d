"""Where the control socket is, and what is said there.

A client sends one line of JSON: ``{"command": "reload"}``; ``workers`` also has a ``count``. The
service responds with lines of JSON. Each of them is an object with one of these keys:

- ``alive``: true. It says nothing more, and comes each second while the client waits.
- ``progress``: what has just been done, in words.
- ``warning``: what the user ought to know, in words.
- ``success``: whether the command has succeeded, with a ``message`` in words, and a ``status`` if
  that is the command. This line is the last one.

Only root and the user of the service can open the socket. A folder in the temporary folder, where
everybody may write, is used only if it belongs to this user alone.
"""

import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

Message = dict[str, Any]
"""One line."""

STATUS = "status"
RELOAD = "reload"
STOP = "stop"
WORKERS = "workers"

KEEP_ALIVE_INTERVAL = 1.0
"""Seconds between two lines ``alive``."""
MAX_WORKERS = 256
"""The largest ``count`` of workers."""
MAX_PATH_LENGTH = 103
"""Bytes of a path that every system accepts for a socket."""
PRIVATE = 0o700
"""The mode of the folder."""
FILE_NAME = "control.sock"
"""The name of the socket in a folder that belongs to the service."""


def is_supported() -> bool:
    """Return whether this system has Unix sockets; Python has none on Windows."""
    return hasattr(socket, "AF_UNIX")


def default_path(service: str, admin_port: int) -> Path:
    """Return where a service listens that has no APP_CONTROL_SOCKET."""
    # Set by systemd if the unit has RuntimeDirectory=.
    runtime_directory = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if runtime_directory:
        return Path(runtime_directory, FILE_NAME)
    return private_folder(service) / f"{admin_port}.sock"


def private_folder(service: str) -> Path:
    """Return the folder for the sockets of a service that this user runs."""
    return temporary_folder() / f"{service}-{os.getuid()}"


def temporary_folder() -> Path:
    """Return the folder where everybody may write."""
    # `tempfile.gettempdir` writes a file there: it fails if the disk is full or read-only.
    return Path(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108


def systemd_path(service: str) -> Path:
    """Return where a service listens that systemd has started: see its unit."""
    return Path("/run", service, FILE_NAME)


def check_private(folder: Path) -> None:
    """Raise `PermissionError` if a folder is not a directory of this user alone."""
    status = folder.lstat()
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    if not is_own or stat.S_IMODE(status.st_mode) != PRIVATE:
        raise PermissionError(f"{folder} is not a directory of this user alone, with mode 0700")


def encode(message: Message) -> bytes:
    """Return a message as a line."""
    return json.dumps(message).encode() + b"\n"


def decode(line: bytes) -> Message:
    """Return the message of a line. Raises `ValueError`."""
    try:
        message = json.loads(line)
    except RecursionError as error:
        raise ValueError("too deeply nested") from error
    if not isinstance(message, dict):
        raise ValueError("not an object")
    return message
