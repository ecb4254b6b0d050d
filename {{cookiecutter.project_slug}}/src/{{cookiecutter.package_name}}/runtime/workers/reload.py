"""A rolling restart: each new process is ready before the old one drains."""

from .child import ChildProcess
from .children import Children
from .operations import Operation


class Reload(Operation):
    """Replaces the current processes one by one, the workers first, the admin process last."""

    def __init__(self, children: Children, start_timeout: float, drain_timeout: float) -> None:
        super().__init__()
        self._children = children
        self._start_timeout = start_timeout
        self._drain_timeout = drain_timeout
        self._pending = sorted(children.slots, reverse=True)
        self._replacement: ChildProcess | None = None
        self.replaced: list[int] = []
        """The slots that have a new process."""

    def advance(self) -> bool:
        """Do the next step if it is due. Return whether the reload is complete.

        Raises `OSError` if a process cannot be forked.
        """
        new = self._replacement
        if new and new.ready_since and not new.exiting:
            self._promote(new)
        # One at a time, so that there is never more than one extra process.
        if self._replacement or any(process.exiting for process in self._children):
            return False
        # Missing processes are started with new code anyway.
        self._pending = [slot for slot in self._pending if slot in self._children.current]
        if self._pending:
            slot = self._pending.pop(0)
            self._replacement = self._children.spawn(slot, self._start_timeout)
            return False
        return self._children.is_complete

    def handle_exit(self, process: ChildProcess) -> bool:
        """Forget a process that has exited. Return whether it was the replacement."""
        if process is not self._replacement:
            return False
        self._replacement = None
        self._pending.insert(0, process.slot)
        return True

    def cancel(self) -> None:
        """Stop: the process that is not ready yet exits, the old ones stay."""
        if self._replacement:
            self._replacement.abort()

    def _promote(self, new: ChildProcess) -> None:
        if old := self._children.current.get(new.slot):
            old.drain(self._drain_timeout)
        self._children.current[new.slot] = new
        self._replacement = None
        self.replaced.append(new.slot)
