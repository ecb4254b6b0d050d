"""The sockets that the service listens on: opened here, or inherited from systemd."""

import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack

from pydantic import IPvAnyAddress

from ..errors import StartupError
from ..settings import Settings
from .listener import Listener

BACKLOG = 1024
"""Connections that the kernel queues for each socket."""
SD_LISTEN_FDS_START = 3
"""The first descriptor that systemd passes."""


def open_sockets(
    settings: Settings, ports: Sequence[int]
) -> tuple[list[list[socket.socket]], list[socket.socket]]:
    """Bind a socket for each entry of `ports` (duplicates share the port) and for the admin port.

    Returns the public sockets by index in `ports`, bound but not yet listening, and those of the
    admin port, listening. Inherited sockets take precedence: those on the admin port go to the
    admin server, the others are assigned round-robin. Raises `StartupError`.
    """
    inherited = _inherited()
    admin = [sock for sock in inherited if _port(sock) == settings.admin_port]
    public = [sock for sock in inherited if sock not in admin]
    if public:
        assigned = [public[index :: len(ports)] for index in range(len(ports))]
        # With fewer sockets than ports, several of them share one.
        groups = [group or [public[index % len(public)]] for index, group in enumerate(assigned)]
    else:
        groups = [[sock] for sock in _bind_all(settings.address, ports)]
    if not admin:
        admin = [_bind(settings.admin_address, settings.admin_port)]
        listen(admin)
    return groups, admin


def listen(sockets: Sequence[socket.socket]) -> None:
    """Start listening. Until then connections are refused. Raises `StartupError`."""
    for sock in sockets:
        try:
            sock.listen(BACKLOG)
        except OSError as error:
            url = listening_url(sockets)
            raise StartupError(f"cannot listen on {url}: {error.strerror}") from error


def listening_url(sockets: Sequence[socket.socket]) -> str:
    """Return the URL of the first socket."""
    name = sockets[0].getsockname()
    if not isinstance(name, tuple):
        return f"unix:{name}"
    host, port = name[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _bind_all(address: IPvAnyAddress, ports: Sequence[int]) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    bound: dict[int, int] = {}
    for port in ports:
        sock = _bind(address, bound.get(port, port), reuse=port in bound)
        if len(ports) > 1:
            # Set after bind, so that a port used by another service is an error.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound[port] = sock.getsockname()[1]
        sockets.append(sock)
    return sockets


def _bind(address: IPvAnyAddress, port: int, reuse: bool = False) -> socket.socket:
    try:
        # On a host without IPv6 there is no such socket.
        sock = Listener(socket.AF_INET if address.version == 4 else socket.AF_INET6)
        with ExitStack() as on_error:
            on_error.callback(sock.close)
            sock.setblocking(False)
            if os.name != "nt":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if address.version == 6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((str(address), port))
            on_error.pop_all()
    except OSError as error:
        raise StartupError(f"cannot listen on {address} port {port}: {error.strerror}") from error
    return sock


def _inherited() -> list[socket.socket]:
    # Source: sd_listen_fds(3). Removed from the environment, so that children do not inherit them.
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "0")
    os.environ.pop("LISTEN_FDNAMES", "")
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    return [_inherit(fd) for fd in range(SD_LISTEN_FDS_START, SD_LISTEN_FDS_START + int(count))]


def _inherit(fd: int) -> socket.socket:
    try:
        sock = Listener(fileno=fd)
    except OSError as error:
        raise StartupError(
            f"inherited descriptor {fd} is not a socket: {error.strerror}"
        ) from error
    sock.setblocking(False)
    sock.set_inheritable(False)
    return sock


def _port(sock: socket.socket) -> int | None:
    name = sock.getsockname()
    return name[1] if isinstance(name, tuple) else None
