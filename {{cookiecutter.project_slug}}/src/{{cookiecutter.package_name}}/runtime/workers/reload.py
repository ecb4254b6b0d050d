"""Replacing processes: each new one is ready before the old one drains.

The supervisor does one operation at a time: a `Reload`, or another `Replacement`, such as a
`Renewal` or a `Resize`.
"""

import logging
from collections.abc import Callable, Iterable

from ..monitor.events import EVENT, RELOAD_FAILED, RELOADED
from ..settings import Settings
from .child import ChildProcess
from .children import Children
from .operations import Operation, Outcome

logger = logging.getLogger(__name__)


class Replacement(Operation):
    """Replaces the processes of some slots one by one, and starts those of new slots.

    The supervisor calls `advance` again and again, until that returns True, then `complete`; or it
    ends with `fail` or `cancel`. What these three return is the outcome.
    """

    unit = "processes replaced"
    """What `progress` counts."""

    def __init__(self, children: Children, slots: Iterable[int], settings: Settings) -> None:
        super().__init__()
        self._children = children
        self._start_timeout = settings.start_timeout
        self._drain_timeout = settings.drain_timeout
        self._pending = list(slots)
        self._replacement: ChildProcess | None = None
        self.replaced: list[int] = []
        """The slots that have a new process."""

    @property
    def progress(self) -> str:
        done = len(self.replaced)
        return f"{done} of {done + len(self._pending) + bool(self._replacement)} {self.unit}"

    def advance(self) -> bool:
        """Do the next step if it is due. Return whether nothing is left to do.

        Raises `OSError` if a process cannot be forked.
        """
        new = self._replacement
        if new and new.ready_since and not new.exiting:
            self._promote(new)
        # One at a time, so that there is never more than one extra process.
        if self._replacement or any(process.exiting for process in self._children):
            return False
        # What is missing is started with new code anyway.
        missing = set(self._children.slots).difference(self._children.current)
        self._pending = [slot for slot in self._pending if slot not in missing]
        if self._pending:
            slot = self._pending.pop(0)
            self._replacement = self._children.spawn(slot, self._start_timeout)
            return False
        return True

    def handle_exit(self, process: ChildProcess) -> bool:
        """Forget a process that has exited. Return whether that ends the operation.

        If the process was asked to exit, the operation goes on all the same.
        """
        if process is not self._replacement:
            return False
        self._replacement = None
        self._pending.insert(0, process.slot)
        return True

    def complete(self) -> Outcome:
        """Log that all is done."""
        raise NotImplementedError

    def fail(self, reason: str, fields: dict[str, str]) -> Outcome:
        """Log why a process could not be started. The old ones stay."""
        raise NotImplementedError

    def cancel(self, reason: str) -> Outcome:
        """Stop: the process that is not ready yet exits, the old ones stay."""
        self._end_replacement()
        return Outcome(False, reason)

    def _end_replacement(self) -> None:
        new = self._replacement
        if new and new.row.ready:  # it may have requests, although nothing has been promoted yet
            new.drain(self._drain_timeout)
        elif new:
            new.abort()

    def _promote(self, new: ChildProcess) -> None:
        if old := self._children.current.get(new.slot):
            old.drain(self._drain_timeout)
        self._children.current[new.slot] = new
        self._replacement = None
        self.replaced.append(new.slot)


class Reload(Replacement):
    """A rolling restart: replaces all processes, the workers first, the admin process last.

    `finish` is called at the end, and returns warnings.
    """

    name = "reload"

    def __init__(
        self, children: Children, settings: Settings, finish: Callable[[], list[str]]
    ) -> None:
        super().__init__(children, sorted(children.slots, reverse=True), settings)
        self._finish = finish
        self._started_before = set(children)

    def advance(self) -> bool:
        return super().advance() and self._children.is_complete

    def handle_exit(self, process: ChildProcess) -> bool:
        # Also if a worker that was missing cannot start. One that began before may have old code.
        is_new = process not in self._started_before
        return super().handle_exit(process) or (is_new and not process.ready_since)

    def complete(self) -> Outcome:
        logger.info("reloaded", extra={EVENT: RELOADED})
        warnings = self._finish()
        for warning in warnings:
            logger.warning(warning)
        return Outcome(True, "reloaded", tuple(warnings))

    def fail(self, reason: str, fields: dict[str, str]) -> Outcome:
        self._end_replacement()
        names = ", ".join(map(str, self.replaced))
        detail = f" (already replaced: {names})" if names else ""
        message = f"reload failed, keeping the old workers{detail}: {reason}"
        logger.error(message, extra={**fields, EVENT: RELOAD_FAILED})
        return Outcome(False, message)

    def cancel(self, reason: str) -> Outcome:
        return super().cancel(f"reload failed: {reason}")
