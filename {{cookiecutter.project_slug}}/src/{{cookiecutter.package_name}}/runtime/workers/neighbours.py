"""Accepting connections on behalf of other workers.

What arrives at the socket of a worker that is dead, hung or draining need not wait for the
replacement: the other workers accept it. The same holds for a worker that has not started yet, so
that every address of the service responds as soon as one worker is ready. And a socket listens for
ever, because closing it would reset what is queued: when there are fewer workers than before, the
others accept from the sockets of those that are gone.
"""

import asyncio
import logging
import socket
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress

from ..http1.server import HTTPServer
from ..process.sockets import BACKLOG
from ..status import ADMIN_SLOT
from .scoreboard import Scoreboard

logger = logging.getLogger(__name__)


class NeighbourAcceptor:
    """Accepts connections from the sockets of unresponsive workers. For the workers only.

    With `port_per_worker` each connection serves one request only: a proxy would keep using the
    wrong worker. Where all share a port, none is wrong.
    """

    def __init__(
        self,
        slot: int,
        sockets: Mapping[int, Sequence[socket.socket]],
        scoreboard: Scoreboard,
        server: HTTPServer,
        *,
        port_per_worker: bool,
    ) -> None:
        self._scoreboard = scoreboard
        self._server = server
        self._port_per_worker = port_per_worker
        # Several slots may share an inherited socket.
        self._neighbours: dict[socket.socket, list[int]] = {}
        self._accepting: set[socket.socket] = set()
        self._announced: set[socket.socket] = set()
        for other, listeners in sockets.items():
            for sock in listeners:
                if ADMIN_SLOT not in (other, slot) and sock not in sockets[slot]:
                    self._neighbours.setdefault(sock, []).append(other)

    def update(self) -> None:
        """Start or stop accepting for each neighbour, as the scoreboard says."""
        responsive = self._scoreboard.responsive_slots
        for sock in self._neighbours:
            if self._needs_help(sock, responsive):
                self._start_accepting(sock)
            else:
                self._stop_accepting(sock)

    def close(self) -> None:
        """Stop accepting, and close the sockets of the neighbours."""
        for sock in self._neighbours:
            self._stop_accepting(sock)
            sock.close()
        self._neighbours = {}

    def _slots(self, sock: socket.socket) -> list[int]:
        """Return the slots of a socket that have a worker, or are about to."""
        return [slot for slot in self._neighbours[sock] if slot < self._scoreboard.workers]

    def _needs_help(self, sock: socket.socket, responsive: Set[int]) -> bool:
        if slots := self._slots(sock):
            return responsive.isdisjoint(slots)
        # Where nothing has listened yet, no connection can be queued, and none shall be.
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))

    def _start_accepting(self, sock: socket.socket) -> None:
        if sock not in self._accepting:
            try:
                sock.listen(BACKLOG)  # only a worker that was ready has done that
            except OSError:
                return  # the worker itself reports it
            self._accepting.add(sock)
            asyncio.get_running_loop().add_reader(sock, self._accept, sock)
        slots = self._slots(sock)
        if sock not in self._announced and not all(map(self._scoreboard.is_starting, slots)):
            self._announced.add(sock)
            logger.info("accepting connections for worker %d", slots[0])

    def _stop_accepting(self, sock: socket.socket) -> None:
        self._announced.discard(sock)
        if sock in self._accepting:
            self._accepting.remove(sock)
            asyncio.get_running_loop().remove_reader(sock)

    def _accept(self, sock: socket.socket) -> None:
        if not self._needs_help(sock, self._scoreboard.responsive_slots):
            # It has become ready since the last update.
            self._stop_accepting(sock)
            return
        with suppress(BlockingIOError, ConnectionAbortedError):  # another worker was faster
            connection, address = sock.accept()
            self._server.accept(connection, address, close_after_response=self._port_per_worker)
