"""The service's side of the control socket.

Without a thread and without an event loop, because the supervisor has none: the owner of a
`ControlServer` polls its descriptor, and calls `receive` when that is readable, and each second.
Nothing waits for a client: one that does not ask, or does not read, in time is disconnected.
"""

import errno
import logging
import os
import selectors
import socket
import time
import weakref
from contextlib import suppress
from pathlib import Path

from ..errors import StartupError
from .protocol import (
    KEEP_ALIVE_INTERVAL,
    MAX_PATH_LENGTH,
    PRIVATE,
    Message,
    check_private,
    decode,
    default_path,
    encode,
    is_supported,
    peer_user,
    private_folder,
)

BACKLOG = 128
"""Clients that the kernel queues."""
MAX_CLIENTS = 128
"""Clients at the same time; others are refused."""
MAX_REQUEST_SIZE = 1024
"""Bytes of a request."""
MAX_OUTPUT_SIZE = 8 * 1024 * 1024
"""Bytes that may wait for a client to read them."""
REQUEST_TIMEOUT = 5.0
"""Seconds for a client to send its request."""
READ_TIMEOUT = 10.0
"""Seconds within which a client must read something of what waits for it."""
ACCEPT_PAUSE = 1.0
"""Seconds until a server without free descriptors accepts again."""

USELESS = "the commands status, reload, stop and workers do not work"

logger = logging.getLogger(__name__)


class ControlClient:
    """The connection of one client."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.has_asked = False
        self.is_finished = False
        """Whether it has got its last line, apart from what still waits to be sent."""
        self.is_closed = False
        self._input = b""
        self._output = b""
        self._deadline = time.monotonic() + REQUEST_TIMEOUT
        self._next_keep_alive = time.monotonic() + KEEP_ALIVE_INTERVAL

    def send(self, message: Message) -> None:
        """Send a message, as soon as the client reads it."""
        if self.is_closed:
            return
        if not self._output:
            self._deadline = time.monotonic() + READ_TIMEOUT
        self._output += encode(message)
        self._next_keep_alive = time.monotonic() + KEEP_ALIVE_INTERVAL
        self._flush()

    def finish(self, success: bool, message: str, **more: object) -> None:
        """Send the last message."""
        self.is_finished = True
        self.send({"success": success, "message": message, **more})

    def read(self) -> Message | None:
        """Return the request if it is complete. Raises `ValueError` if it is none."""
        try:
            data = self.sock.recv(MAX_REQUEST_SIZE + 1)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data or self.has_asked:  # a client has nothing more to say
            self.is_closed = True
            return None
        self._input += data
        line, end, rest = self._input.partition(b"\n")
        if rest or len(line) > MAX_REQUEST_SIZE:
            raise ValueError("a request is one line")
        if not end:
            return None
        self.has_asked = True
        return decode(line)

    def tick(self, now: float) -> None:
        """Send what waits or is due, and notice a client that keeps the service waiting."""
        if self._output:
            self._flush()
        elif self.has_asked and not self.is_finished and now >= self._next_keep_alive:
            self.send({"alive": True})
        if self.is_finished and not self._output:
            self.is_closed = True
        if now > self._deadline and (self._output or not self.has_asked):
            self.is_closed = True

    def _flush(self) -> None:
        try:
            sent = self.sock.send(self._output)
        except BlockingIOError:
            sent = 0
        except OSError:  # the client has left
            self.is_closed = True
            return
        self._output = self._output[sent:]
        if sent:
            self._deadline = time.monotonic() + READ_TIMEOUT
        if len(self._output) > MAX_OUTPUT_SIZE:
            self.is_closed = True


class ControlServer:
    """Listens on the control socket, and reads the requests of the clients.

    Requests for another service than the one of `identity`, see `protocol`, are refused. Raises
    `OSError` with a reason for a person if `path` cannot be used.
    """

    def __init__(self, path: Path, identity: Message | None = None) -> None:
        self._path = path
        self._identity = identity or {}
        self._listener = _listen(path)
        status = path.stat()
        self._file = status.st_dev, status.st_ino
        self._clients: set[ControlClient] = set()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._accept_again_at = 0.0
        """When a server accepts again that had no descriptor left; 0 if it accepts."""
        # A process that has a connection open would hide from its client that this one has exited.
        reference: weakref.ref[ControlServer] = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _close_in_child(reference))

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is something to `receive`."""
        fileno: int = self._selector.fileno()
        return fileno

    def receive(self) -> list[tuple[ControlClient, Message]]:
        """Accept clients, read their requests, and send what waits for them."""
        requests = []
        for key, _ in self._selector.select(0):
            if key.fileobj is self._listener:
                self._accept()
            elif (request := self._read(key.data)) is not None:
                requests.append((key.data, request))
        now = time.monotonic()
        if 0 < self._accept_again_at < now:
            self._accept_again_at = 0.0
            self._selector.register(self._listener, selectors.EVENT_READ)
        for client in tuple(self._clients):
            client.tick(now)
            if client.is_closed:
                self._drop(client)
        return requests

    def close(self) -> None:
        """Listen no more, and delete the socket.

        Clients that wait for the end of this process stay connected until then.
        """
        with suppress(OSError):
            status = self._path.stat()
            if (status.st_dev, status.st_ino) == self._file:
                self._path.unlink()
        self._selector.close()
        self._listener.close()
        while self._clients:
            self._clients.pop().sock.detach()

    def _accept(self) -> None:
        for _ in range(BACKLOG):
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:  # no descriptor left
                self._selector.unregister(self._listener)
                self._accept_again_at = time.monotonic() + ACCEPT_PAUSE
                return
            sock.setblocking(False)
            client = ControlClient(sock)
            refusal = (
                "" if _is_permitted(sock) else "only root and the user of the service may do that"
            )
            if len(self._clients) >= MAX_CLIENTS:
                refusal = "too many commands at the same time"
            if refusal:
                client.finish(False, refusal)
                sock.close()
                continue
            self._clients.add(client)
            self._selector.register(sock, selectors.EVENT_READ, client)

    def _read(self, client: ControlClient) -> Message | None:
        try:
            request = client.read()
        except ValueError as error:
            client.finish(False, f"not a request: {error}")
            return None
        for key, own in self._identity.items():
            if request and request.get(key, own) != own:
                service, port = self._identity["service"], self._identity["admin_port"]
                client.finish(
                    False,
                    f"another service listens on {self._path}: {service}, with admin port {port}",
                )
                return None
        return request

    def _drop(self, client: ControlClient) -> None:
        self._clients.discard(client)
        self._selector.unregister(client.sock)
        client.sock.close()

    def _forget(self) -> None:
        """Close everything in a forked child, where it is a copy."""
        with suppress(OSError):
            self._selector.close()  # without a change of what it watches, which is shared
        for sock in (self._listener, *(client.sock for client in self._clients)):
            sock.close()
        self._clients.clear()
        self._file = (0, 0)


def open_control(path: Path | None, service: str, admin_port: int) -> ControlServer | None:
    """Listen on `path`, which is APP_CONTROL_SOCKET, or by default on one that clients find.

    Returns None, with a warning in the log, if the default cannot be used. Raises `StartupError`
    if `path` cannot.
    """
    if not is_supported():
        return None
    chosen = path or default_path(service, admin_port)
    try:
        if chosen.parent == private_folder(service):
            with suppress(FileExistsError):
                chosen.parent.mkdir(PRIVATE)
            check_private(chosen.parent)
        return ControlServer(chosen, {"service": service, "admin_port": admin_port})
    except OSError as error:
        message = f"cannot open the control socket {chosen}: {error.strerror or error}"
        if path:
            raise StartupError(message) from error
        logger.warning("%s; %s", message, USELESS)
        return None


def _listen(path: Path) -> socket.socket:
    if (length := len(os.fsencode(path))) > MAX_PATH_LENGTH:
        raise OSError(f"its path has {length} bytes, and at most {MAX_PATH_LENGTH} are possible")
    _remove_leftover(path)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        sock.bind(os.fspath(path))
        path.chmod(0o600)  # no client can connect before it listens
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _remove_leftover(path: Path) -> None:
    """Delete the socket of a process that was killed. Raises `OSError` if it is something else."""
    if not path.is_socket():
        return  # there is nothing, or `bind` says what is in the way
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(os.fspath(path))
    if result != errno.ECONNREFUSED:
        raise OSError("another process listens there")
    path.unlink(missing_ok=True)


def _is_permitted(sock: socket.socket) -> bool:
    """Return whether a client is run by root or by the user of this process."""
    # If the system does not tell, the mode of the file has to do.
    return peer_user(sock) in (None, 0, os.geteuid())


def _close_in_child(reference: "weakref.ref[ControlServer]") -> None:
    if server := reference():
        server._forget()
