"""A listening socket that survives the day when the process has no descriptor left.

Tornado would then find the same connection waiting, and fail, and log that, as fast as it can turn.
"""

import errno
import logging
import os
import socket
import time
from contextlib import suppress
from typing import Any

EXHAUSTED = {errno.EMFILE, errno.ENFILE}
# Seconds between two records about it.
PAUSE = 1.0

logger = logging.getLogger(__name__)


class Listener(socket.socket):
    """Keeps a descriptor in reserve, to accept and close what there is none left for.

    So a client, or a proxy with other workers to ask, learns at once that it has to try again.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reserve: int | None = None
        self._refused = 0
        self._told = 0.0
        self._renew()

    def accept(self) -> tuple[socket.socket, Any]:
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
        self._refuse()
        # One at a time: Tornado comes again, and in between requests end, which frees descriptors.
        raise BlockingIOError

    def close(self) -> None:
        self._release()
        super().close()

    def _refuse(self) -> None:
        self._release()
        with suppress(OSError):  # another thread was faster, or the client has gone
            connection, _ = super().accept()
            connection.close()
            self._refused += 1
        self._renew()
        if time.monotonic() - self._told > PAUSE:
            self._told = time.monotonic()
            logger.error(
                "no descriptors left, connections refused so far: %d (see LimitNOFILE, ulimit -n)",
                self._refused,
            )

    def _renew(self) -> None:
        with suppress(OSError):
            self._reserve = os.open(os.devnull, os.O_RDONLY)

    def _release(self) -> None:
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
