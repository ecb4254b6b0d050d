"""Where the control socket is, and what is said there.

A client sends one line of JSON: ``{"command": "reload"}``; ``workers`` also has a ``count``. With
the ``service``, its name, and with the ``admin_port`` it says which one it means: all that runs in
a unit of systemd has the same RUNTIME_DIRECTORY, so another service may listen there.

The service responds with lines of JSON. Each of them is an object with one of these keys:

- ``alive``: true. It says nothing more, and comes each second while the client waits.
- ``progress``: what has just been done, in words.
- ``warning``: what the user ought to know, in words.
- ``success``: whether the command has succeeded, with a ``message`` in words, and a ``status`` if
  that is the command. This line is the last one.

Only root and the user of the service can open the socket. A folder in the temporary folder, where
every user may write, is used only if it belongs to this user alone.
"""

import errno
import glob
import json
import os
import socket
import stat
import struct
from collections.abc import Iterator
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
MAX_PATH_LENGTH = 103
"""Bytes of a path that every system accepts for a socket."""
PRIVATE = 0o700
"""The mode of the folder."""
CREDENTIALS = struct.Struct("3i")
"""Process id, user id and group id of a process: ``struct ucred`` of Linux."""
FILE_NAME = "control.sock"
"""The name of the socket in a folder that belongs to the service."""


def is_supported() -> bool:
    """Return whether this system has Unix sockets; Python has none on Windows."""
    return hasattr(socket, "AF_UNIX")


def default_path(service: str, admin_port: int) -> Path:
    """Return where a service listens that has no APP_CONTROL_SOCKET."""
    if folder := runtime_directory():
        return Path(folder, FILE_NAME)
    return private_folder(service) / f"{admin_port}.sock"


def runtime_directory() -> str:
    """Return the folder that systemd has made for the unit, which may be that of another service.

    Empty without RuntimeDirectory= in the unit, or without systemd.
    """
    return os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]


def private_folder(service: str) -> Path:
    """Return the folder for the sockets of a service that this user runs."""
    return temporary_folder() / f"{service}-{os.getuid()}"


def private_folders(service: str) -> Iterator[tuple[int, Path]]:
    """Yield the folders for the sockets of a service of all users, with the ids of the users.

    They may be anything: see `check_private`.
    """
    for folder in sorted(temporary_folder().glob(f"{glob.escape(service)}-*")):
        user = folder.name.removeprefix(f"{service}-")
        if user.isdecimal():
            yield int(user), folder


def temporary_folder() -> Path:
    """Return the folder where every user may write."""
    # `tempfile.gettempdir` writes a file there: it fails if the disk is full or read-only.
    return Path(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108 - only folders of this user alone


def systemd_path(service: str) -> Path:
    """Return where a service listens that systemd has started: see its unit."""
    return Path("/run", service, FILE_NAME)


def check_private(folder: Path, user: int | None = None) -> None:
    """Raise `PermissionError` if a folder is not a directory of one user alone.

    That is the user of this process by default. If the folder belongs to another one, `errno` is
    EACCES, as if the system had refused.
    """
    status = folder.lstat()
    if status.st_uid != (os.getuid() if user is None else user):
        raise PermissionError(errno.EACCES, f"{folder} belongs to another user")
    # The set-group-ID bit may come from the folder above.
    if not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o777 != PRIVATE:
        raise PermissionError(f"{folder} is not a directory of this user alone, with mode 0700")


def peer_user(sock: socket.socket) -> int | None:
    """Return the user id of the process at the other end; None if the system does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    _, user, _ = CREDENTIALS.unpack(data)
    return int(user)


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
