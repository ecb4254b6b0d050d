"""The sockets that the service listens on: opened here, or handed over by systemd."""

import os
import socket
from collections.abc import Sequence

from pydantic import IPvAnyAddress

from .listener import Listener
from ..settings import Settings

# Connections that may wait to be accepted.
BACKLOG = 1024
FIRST_INHERITED = 3


class CannotStart(Exception):
    """The service cannot start; the message is one line that says what and where."""


def open_sockets(
    settings: Settings, ports: Sequence[int]
) -> tuple[list[list[socket.socket]], list[socket.socket]]:
    """Open a socket for each of `ports`, which may repeat, and one for the admin port.

    Returns the sockets by place in `ports`, bound but not yet listening, and those of the admin
    port, listening. What systemd hands over comes first: a socket on the admin port is the admin's,
    and the others are dealt out in turn. Raises `CannotStart`.
    """
    inherited = _inherited()
    admin = [one for one in inherited if _port(one) == settings.admin_port]
    public = [one for one in inherited if one not in admin]
    if public:
        dealt = [public[place :: len(ports)] for place in range(len(ports))]
        shared = [hand or [public[place % len(public)]] for place, hand in enumerate(dealt)]
    else:
        shared = [[one] for one in _bind_all(settings.address, ports)]
    if not admin:
        admin = [_bind(settings.admin_address, settings.admin_port)]
        listen(admin)
    return shared, admin


def listen(sockets: Sequence[socket.socket]) -> None:
    """Let connections come. Before, they are refused."""
    for one in sockets:
        try:
            one.listen(BACKLOG)
        except OSError as error:
            raise CannotStart(f"cannot listen on {url(sockets)}: {error.strerror}") from error


def url(sockets: Sequence[socket.socket]) -> str:
    """Return where the first of some sockets listens."""
    name = sockets[0].getsockname()
    if not isinstance(name, tuple):
        return f"unix:{name}"
    host, port = name[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _bind_all(address: IPvAnyAddress, ports: Sequence[int]) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    bound: dict[int, int] = {}
    for port in ports:
        one = _bind(address, bound.get(port, port), reuse=port in bound)
        if len(ports) > 1:
            # Only now: the first socket of a port must not share it with another service.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound[port] = one.getsockname()[1]
        sockets.append(one)
    return sockets


def _bind(address: IPvAnyAddress, port: int, reuse: bool = False) -> socket.socket:
    one = Listener(socket.AF_INET if address.version == 4 else socket.AF_INET6)
    one.setblocking(False)
    try:
        if os.name != "nt":
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if address.version == 6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((str(address), port))
    except OSError as error:
        one.close()
        raise CannotStart(f"cannot listen on {address} port {port}: {error.strerror}") from error
    return one


def _inherited() -> list[socket.socket]:
    # Source: sd_listen_fds(3). The variables are for this process and not for its children.
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "0")
    os.environ.pop("LISTEN_FDNAMES", "")
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    sockets: list[socket.socket] = []
    for fd in range(FIRST_INHERITED, FIRST_INHERITED + int(count)):
        try:
            one = Listener(fileno=fd)
        except OSError as error:
            raise CannotStart(
                f"descriptor {fd}, handed over, is no socket: {error.strerror}"
            ) from error
        one.setblocking(False)
        one.set_inheritable(False)
        sockets.append(one)
    return sockets


def _port(one: socket.socket) -> int | None:
    name = one.getsockname()
    return name[1] if isinstance(name, tuple) else None
