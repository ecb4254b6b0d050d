"""The commands that speak to a running service: status, reload, stop, workers."""

import argparse
import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ..settings import MAX_WORKERS, ControlSettings
from .protocol import (
    RELOAD,
    STATUS,
    STOP,
    WORKERS,
    Message,
    check_private,
    decode,
    default_path,
    encode,
    is_supported,
    peer_user,
    private_folder,
    private_folders,
    runtime_directory,
    systemd_path,
)
from .table import format_status, printable

SILENCE_TIMEOUT = 12.0
"""Seconds without a sign of life after which a command gives up.

The supervisor waits for nothing longer than 10 seconds: see `workers.reading.SETTINGS_TIMEOUT`.
"""
RETRY_INTERVAL = 0.05
"""Seconds until a client is tried again that found the queue of the service full."""

GOES_ON = {
    RELOAD: "the reload goes on: `status` shows how far it is",
    STOP: "the service goes on stopping",
    WORKERS: "the change goes on: `status` shows how far it is",
}
"""What a user learns that does not wait for the end."""

OTHER_PATHS = "If it runs: is it another user, APP_ADMIN_PORT, TMPDIR or APP_CONTROL_SOCKET?"
"""Why the service may listen elsewhere."""


class ControlError(Exception):
    """A command cannot be carried out; the message says why."""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands for every service."""
    status = _add(commands, STATUS, "show the state of the running service and of its workers")
    status.description = (
        "Show the state of the running service and of its workers. "
        "Exit with 0 if it is ready, with 1 if it is not or does not run."
    )
    status.add_argument("--json", action="store_true", help="print one JSON object")
    stop = _add(commands, STOP, "stop the running service, and wait until it has stopped")
    stop.description = (
        "Finish the requests in flight, stop the running service, and wait until it has stopped. "
        "Exit with 0, or with 1 if it did not stop cleanly."
    )


def add_worker_commands(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add the commands for a service with several workers."""
    reload = _add(commands, RELOAD, "replace the workers one by one, with the code on disk")
    reload.description = (
        "Replace the workers one by one, with the code and the settings on disk, and wait until "
        "that is over. Exit with 0, or with 1 if the old workers were kept: the message says why."
    )
    workers = _add(commands, WORKERS, "run another number of workers until the next restart")
    workers.description = (
        "Run another number of workers until the next restart, and wait until it is so. "
        "APP_WORKERS sets the number for good."
    )
    workers.add_argument(
        "count", type=_worker_count, metavar="N", help=f"number of workers, 1 to {MAX_WORKERS}"
    )


def run(service: str, settings: ControlSettings, arguments: argparse.Namespace) -> int:
    """Run a command and return the exit code: 0 if it has succeeded, or 1."""
    request = {"command": arguments.control, "service": service}
    if not settings.control_socket and runtime_directory() and settings.admin_port:
        request["admin_port"] = settings.admin_port
    if arguments.control == WORKERS:
        request["count"] = arguments.count
    is_json = arguments.control == STATUS and arguments.json
    try:
        response = _ask(_connect(service, settings), request)
        reason = response["message"]
    except ControlError as error:
        reason = str(error)
        response = {"success": False, "message": f"{service}: {reason}"}
    if is_json and "status" not in response:
        response["status"] = {"ready": False, "reasons": [reason], "workers": []}
    if "status" in response:
        status = response["status"]
        print(json.dumps(status, indent=2) if is_json else printable(format_status(status)))
    else:
        text = printable(response["message"])
        print(text, file=sys.stdout if response["success"] else sys.stderr)
    return 0 if response["success"] else 1


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, purpose: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=purpose)
    parser.set_defaults(control=name)
    return parser


def _worker_count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 1 to {MAX_WORKERS}, got {text!r}"
        )
    return int(text)


def _connect(service: str, settings: ControlSettings) -> socket.socket:
    if not is_supported():
        raise ControlError("this command needs Unix sockets, which this system does not have")
    paths = list(dict.fromkeys(_paths(service, settings)))
    hint = "" if settings.control_socket else f". {OTHER_PATHS}"
    reason = f"no running service found: nothing listens on {' or '.join(map(str, paths))}{hint}"
    for path in paths:
        try:
            if path.parent == private_folder(service):
                check_private(path.parent)
            return _connect_to(path)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            continue
        except PermissionError as error:
            # Every user may put something in the way in the temporary folder.
            reason = _describe(error, path)
        except TimeoutError as error:
            raise ControlError(_silence()) from error
        except OSError as error:
            raise ControlError(_describe(error, path)) from error
    return _connect_as_root(service, settings, reason)


def _connect_as_root(service: str, settings: ControlSettings, reason: str) -> socket.socket:
    """Connect to the service that another user runs, if root asks.

    Raises `ControlError`, with `reason` if there is none.
    """
    found: dict[Path, socket.socket] = {}
    is_possible = os.geteuid() == 0 and not settings.control_socket
    for user, folder in private_folders(service) if is_possible else ():
        path = folder / f"{settings.admin_port}.sock"
        with contextlib.suppress(OSError):
            check_private(folder, user)
            sock = _connect_to(path)
            if peer_user(sock) == user:
                found[path] = sock
            else:  # the user has put a link to the socket of another one there
                sock.close()
    if len(found) > 1:
        for sock in found.values():
            sock.close()
        names = " and ".join(map(str, found))
        raise ControlError(f"several run: {names}; run this command as the user of the one to ask")
    if not found:
        raise ControlError(reason)
    return found.popitem()[1]


def _paths(service: str, settings: ControlSettings) -> Iterator[Path]:
    if settings.control_socket:
        yield settings.control_socket
        return
    yield default_path(service, settings.admin_port)
    yield systemd_path(service)


def _connect_to(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(SILENCE_TIMEOUT)
    deadline = time.monotonic() + SILENCE_TIMEOUT
    while True:
        try:
            sock.connect(os.fspath(path))
            return sock
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise TimeoutError from error
            time.sleep(RETRY_INTERVAL)
        except OSError:
            sock.close()
            raise


def _describe(error: OSError, path: Path) -> str:
    if not error.strerror:
        return str(error)
    is_other_user = isinstance(error, PermissionError)
    hint = "; run this command as root or as the user of the service" if is_other_user else ""
    return f"cannot connect to {path}: {error.strerror}{hint}"


def _silence() -> str:
    return f"no sign of life for {SILENCE_TIMEOUT:g} s: the process is suspended or stuck"


def _ask(sock: socket.socket, request: Message) -> Message:
    """Send a request, print what is reported meanwhile, and return the last message."""
    command = request["command"]
    try:
        with sock:
            with contextlib.suppress(OSError):  # what the service has sent before says why
                sock.sendall(encode(request))
            return _receive(sock, command)
    except TimeoutError as error:
        raise ControlError(_silence()) from error
    except KeyboardInterrupt:
        if command in GOES_ON:
            print(f"\n{GOES_ON[command]}", file=sys.stderr)
        raise


def _receive(sock: socket.socket, command: str) -> Message:
    with sock.makefile("rb") as lines, contextlib.suppress(ConnectionError, ValueError):
        for line in lines:
            message = decode(line)
            if "success" in message:
                if command == STOP:
                    _wait_for_end(sock, message["message"])
                return message
            if "progress" in message:
                print(printable(message["progress"]), file=sys.stderr)
            elif "warning" in message:
                print(f"Warning: {printable(message['warning'])}", file=sys.stderr)
    raise ControlError(f"the service exited before `{command}` was over")


def _wait_for_end(sock: socket.socket, outcome: str) -> None:
    """Wait until the process has exited, which closes the connection."""
    try:
        with contextlib.suppress(ConnectionError):
            while sock.recv(4096):
                pass
    except TimeoutError as error:
        raise ControlError(
            f"{outcome}, but after {SILENCE_TIMEOUT:g} s the process has not exited"
        ) from error
