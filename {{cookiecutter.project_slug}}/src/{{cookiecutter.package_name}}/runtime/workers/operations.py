"""What takes the supervisor a while, such as a reload, and how it has ended."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """How an operation has ended."""

    success: bool
    message: str
    """As in the log."""
    warnings: tuple[str, ...] = ()
    """What its success does not include, such as a setting that needs a restart."""


class RefusedError(Exception):
    """The supervisor does not begin an operation. The message says why."""


class Operation:
    """What a command may wait for."""

    name = ""
    """``reload``, ``renewal`` or ``resize``."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        """None while it is going on."""
        self.superseded_by: Operation | None = None
        """What has taken its place before it was over: its outcome counts."""

    @property
    def progress(self) -> str:
        """How far it is, in words; empty if there is nothing to count."""
        return ""

    @property
    def final_outcome(self) -> Outcome | None:
        """The outcome of this operation, or of what has taken its place."""
        operation = self
        while operation.superseded_by:  # there may be more than Python can recurse into
            operation = operation.superseded_by
        return operation.outcome
