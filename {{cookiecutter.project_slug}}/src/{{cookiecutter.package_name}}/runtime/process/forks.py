"""What processes that the service's own code forks, such as those of a pool, do not inherit.

Programs that are started inherit none of it anyway: descriptors are closed, handlers reset.
"""

import os
import signal
import socket
from collections.abc import Collection, Sequence
from functools import partial

from ..starting import IGNORED_SIGNALS

HANDLED = ("SIGTERM", "SIGINT", "SIGHUP", *IGNORED_SIGNALS)
"""Signals for which a serving process has a handler."""

Address = tuple[socket.AddressFamily, object] | int


def isolate_forks(listeners: Sequence[socket.socket]) -> None:
    """Give every process that this one forks ordinary signal handlers, and none of the sockets.

    These are `listeners` and all connections to them. A client would wait at a socket that is
    never closed, and the port would stay in use.
    """
    if hasattr(os, "register_at_fork"):  # not on Windows
        # The supervisor has closed those of the workers when it is stopping.
        addresses = {_local_address(sock) for sock in listeners if sock.fileno() >= 0}
        os.register_at_fork(after_in_child=partial(_isolate, addresses))


def _isolate(addresses: Collection[Address]) -> None:
    signal.set_wakeup_fd(-1)  # that of the parent's event loop
    for name in HANDLED:
        is_interrupt = name == "SIGINT"
        handler = signal.default_int_handler if is_interrupt else signal.SIG_DFL
        signal.signal(getattr(signal, name), handler)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in map(int, os.listdir("/dev/fd")):
        if _is_connected_to(addresses, fd):
            # Not closed: an object that still has the descriptor would close that of another.
            os.dup2(null, fd, inheritable=False)
    os.close(null)


def _is_connected_to(addresses: Collection[Address], fd: int) -> bool:
    try:
        sock = socket.socket(fileno=fd)
    except OSError:  # not a socket
        return False
    try:
        return _local_address(sock) in addresses
    except OSError:
        return False
    finally:
        sock.detach()


def _local_address(sock: socket.socket) -> Address:
    name = sock.getsockname()
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        return int(name[1])  # a listener for all addresses has another one than its connections
    return sock.family, name
