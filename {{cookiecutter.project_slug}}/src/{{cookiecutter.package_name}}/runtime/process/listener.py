"""A listening socket that survives EMFILE.

Tornado would retry accept() in a busy loop and log each failure.
"""

import errno
import logging
import os
import socket
import time
from contextlib import suppress
from typing import Any

EXHAUSTED = {errno.EMFILE, errno.ENFILE}
LOG_INTERVAL = 1.0
"""Seconds between two log records about it."""

logger = logging.getLogger(__name__)


class Listener(socket.socket):
    """Keeps a spare descriptor, to accept and close connections when none is left.

    So the client, or a proxy with other workers to ask, can retry at once. A socket that does not
    listen needs none.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._spare: int | None = None
        self._refused = 0
        self._logged_at = 0.0
        if self.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            self._open_spare()  # it is inherited

    def listen(self, *backlog: int) -> None:
        super().listen(*backlog)
        if self._spare is None:
            self._open_spare()

    def accept(self) -> tuple[socket.socket, Any]:
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
        self._refuse()
        # One per call: Tornado calls again, and finished requests free descriptors.
        raise BlockingIOError

    def close(self) -> None:
        self._close_spare()
        super().close()

    def _refuse(self) -> None:
        self._close_spare()
        with suppress(OSError):  # another thread was faster, or the client has disconnected
            connection, _ = super().accept()
            connection.close()
            self._refused += 1
        self._open_spare()
        if time.monotonic() - self._logged_at > LOG_INTERVAL:
            self._logged_at = time.monotonic()
            logger.error(
                "out of file descriptors, connections refused so far: %d"
                " (see LimitNOFILE, ulimit -n)",
                self._refused,
            )

    def _open_spare(self) -> None:
        with suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY)

    def _close_spare(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
