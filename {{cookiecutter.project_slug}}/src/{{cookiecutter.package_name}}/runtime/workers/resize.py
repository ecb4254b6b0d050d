"""More or fewer workers, until the next restart."""

import logging
import time

from ..cpus import usable_cpus
from ..monitor.events import EVENT, WORKERS_CHANGED, WORKERS_NOT_CHANGED
from ..settings import MAX_WORKERS, PREFIX, Settings
from ..status import HEARTBEAT_INTERVAL
from .children import Children
from .operations import Outcome, RefusedError
from .reload import Replacement
from .scoreboard import Scoreboard

MAX_PER_CPUS = 64
"""Workers for which many CPUs alone are a reason: each costs a descriptor, and addresses of memory,
in every process.
"""
HANDOVER = 2 * HEARTBEAT_INTERVAL
"""Seconds in which the other workers begin to accept from the sockets of those that will drain."""

logger = logging.getLogger(__name__)


def capacity(settings: Settings) -> int:
    """Return how many workers there can be at most until the next restart.

    Each has a socket, which is bound before the first fork, so that all processes have it.
    """
    if settings.port_per_worker:
        return settings.workers
    return max(min(2 * settings.workers, MAX_WORKERS), min(2 * usable_cpus(), MAX_PER_CPUS))


def check_count(count: int, settings: Settings, limit: int) -> None:
    """Raise `RefusedError` if there cannot be so many workers.

    `settings` are those of the start, `limit` is its `capacity`.
    """
    variable = f"{PREFIX}WORKERS"
    if settings.port_per_worker:
        raise RefusedError(
            f"cannot change the number of workers while {PREFIX}PORT_PER_WORKER=true, because the"
            f" load balancer knows the port of each: change {variable} and the load balancer,"
            " then restart"
        )
    if count < 1:
        raise RefusedError("there must be at least 1 worker")
    if count > MAX_WORKERS:
        raise RefusedError(f"there can be at most {MAX_WORKERS} workers")
    if count > limit:
        raise RefusedError(
            f"there can be at most {limit} workers until the next restart:"
            f" set {variable}={count} and restart the service"
        )


class Resize(Replacement):
    """Changes the number of workers.

    More: those of the new slots start one by one. If one cannot, all of them are dropped again.
    Fewer: the others accept from the sockets of the highest slots, whose workers then drain.
    """

    name = "resize"
    unit = "workers started"

    def __init__(
        self, children: Children, scoreboard: Scoreboard, settings: Settings, count: int
    ) -> None:
        self._before = before = scoreboard.workers
        super().__init__(children, range(before, count), settings)
        self._scoreboard = scoreboard
        self._count = count
        self._change = f"workers: {before} -> {count}" if count != before else f"workers: {count}"
        self._unchanged = f"workers: still {before}"
        self._configured = settings.workers
        self._is_larger = count > before
        self._drain_at = time.monotonic() + HANDOVER
        if count < before:
            self._change_number()

    @property
    def progress(self) -> str:
        return super().progress if self._is_larger else f"{len(self._children.surplus)} to drain"

    def advance(self) -> bool:
        if self._is_larger:
            return super().advance()
        # A worker that stays may have crashed meanwhile.
        if time.monotonic() >= self._drain_at and self._children.would_serve(self._count):
            self._drain_surplus()
        return not self._children.surplus

    def complete(self) -> Outcome:
        if self._is_larger:
            self._change_number()
        return self._outcome()

    def fail(self, reason: str, fields: dict[str, str]) -> Outcome:
        self._restore_number()
        message = f"{self._unchanged}: {reason}"
        logger.error(message, extra={**fields, EVENT: WORKERS_NOT_CHANGED})
        return Outcome(False, message)

    def cancel(self, reason: str) -> Outcome:
        outcome = super().cancel(f"{self._unchanged}: {reason}")
        if not self._is_larger and self._children.would_serve(self._count):
            self._drain_surplus()
            return self._outcome()
        self._restore_number()
        logger.warning(outcome.message, extra={EVENT: WORKERS_NOT_CHANGED})
        return outcome

    def _change_number(self) -> None:
        logger.info(self._change, extra={EVENT: WORKERS_CHANGED})
        self._set_number(self._count)

    def _restore_number(self) -> None:
        """Have as many workers as before, and end what has been started beyond them."""
        self._set_number(self._before)
        self._drain_surplus()

    def _set_number(self, count: int) -> None:
        self._scoreboard.workers = count
        self._children.set_workers(count)

    def _drain_surplus(self) -> None:
        for process in self._children.surplus:
            process.drain(self._drain_timeout)

    def _outcome(self) -> Outcome:
        warning = (
            f"after a restart there are {self._configured} workers again;"
            f" to keep {self._count}, set {PREFIX}WORKERS={self._count}"
        )
        return Outcome(True, self._change, () if self._count == self._configured else (warning,))
