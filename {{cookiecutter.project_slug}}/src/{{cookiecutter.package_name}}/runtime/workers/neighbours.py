"""Accepting connections on behalf of other workers.

What arrives at the socket of a worker that is dead, hung or draining need not wait for the
replacement: the other workers accept it.
"""

import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tornado.netutil import add_accept_handler

from ..http1.server import HTTPServer
from ..status import ADMIN_SLOT
from .scoreboard import Scoreboard

logger = logging.getLogger(__name__)


class NeighbourAcceptor:
    """Accepts connections from the sockets of unresponsive workers. For the workers only."""

    def __init__(
        self,
        slot: int,
        sockets: Mapping[int, Sequence[socket.socket]],
        scoreboard: Scoreboard,
        server: HTTPServer,
    ) -> None:
        self._scoreboard = scoreboard
        self._server = server
        # Several slots may share an inherited socket.
        self._neighbours: dict[socket.socket, list[int]] = {}
        self._accepting: dict[socket.socket, Callable[[], None]] = {}
        for other, listeners in sockets.items():
            for sock in listeners:
                if ADMIN_SLOT not in (other, slot) and sock not in sockets[slot]:
                    self._neighbours.setdefault(sock, []).append(other)

    def update(self) -> None:
        """Start or stop accepting for each neighbour, as the scoreboard says."""
        for sock, slots in self._neighbours.items():
            if any(self._scoreboard.has_responsive_worker(slot) for slot in slots):
                self._stop_accepting(sock)
            elif sock not in self._accepting and _is_listening(sock):
                logger.info("accepting connections for worker %d", slots[0])
                self._accepting[sock] = add_accept_handler(sock, self._accept)

    def close(self) -> None:
        """Stop accepting, and close the sockets of the neighbours."""
        for sock in self._neighbours:
            self._stop_accepting(sock)
            sock.close()
        self._neighbours = {}

    def _stop_accepting(self, sock: socket.socket) -> None:
        if sock in self._accepting:
            self._accepting.pop(sock)()

    def _accept(self, connection: socket.socket, address: Any) -> None:
        # Close after one request: a proxy would keep using the wrong worker.
        self._server.accept(connection, address, close_after_response=True)


def _is_listening(sock: socket.socket) -> bool:
    # It listens once its own worker has been ready.
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
