"""Limits of one worker: a worker beyond one is renewed, as by a reload."""

import logging
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from ..monitor.events import EVENT, WORKER_NOT_RENEWED, WORKER_RENEWING
from ..process.memory import resident_memory
from ..readable import format_size
from ..settings import PREFIX, Settings
from ..status import ADMIN_SLOT
from .child import ChildProcess
from .children import Children
from .operations import Outcome
from .reload import Replacement
from .restarts import RestartPolicy

JITTER = 0.1
"""Share by which the limit of a process may be below or above APP_MAX_REQUESTS."""
MEMORY, REQUESTS = f"{PREFIX}MAX_MEMORY", f"{PREFIX}MAX_REQUESTS"

logger = logging.getLogger(__name__)


def limit_warnings(settings: Settings) -> Iterator[str]:
    """Say which limit cannot work on this system."""
    if settings.max_memory and not resident_memory():
        yield f"{MEMORY} has no effect: this system does not tell the memory of a process"


@dataclass
class Profile:
    """What is remembered of a process."""

    factor: float = field(default_factory=lambda: random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311
    """Of APP_MAX_REQUESTS. Workers that start together are not to be renewed together."""
    initial_memory: int | None = None
    """Bytes, once it is ready."""


class Limits:
    """Says which worker is to be renewed, and why.

    A worker that reaches a limit quickly, again and again, is renewed with growing delays, and so
    is one whose successor cannot start. Where a process is beyond the limit from the beginning, a
    renewal would not help.
    """

    def __init__(self) -> None:
        self._profiles: WeakKeyDictionary[ChildProcess, Profile] = WeakKeyDictionary()
        self.reset()

    def reset(self) -> None:
        """Begin anew, after a reload: it may have changed the limits, or mended a cause."""
        self._delays = RestartPolicy()
        self._is_told = False

    def observe(self, process: ChildProcess) -> None:
        """Take note of a process. Called again and again, so that its first moments are seen."""
        if process not in self._profiles:
            self._profiles[process] = Profile()
        profile = self._profiles[process]
        # A heartbeat before that may be older than what is loaded at the start.
        if profile.initial_memory is None and 0 < process.ready_since < process.row.last_heartbeat:
            profile.initial_memory = process.row.memory

    def find(
        self, processes: Iterable[ChildProcess], settings: Settings
    ) -> tuple[ChildProcess, str] | None:
        """Return a worker beyond a limit, the one that has served for longest, and the reason."""
        for process in sorted(processes, key=lambda process: process.ready_since):
            if process.slot == ADMIN_SLOT or process.exiting or not process.ready_since:
                continue
            reason = self._reason(process, settings)
            if reason and self._delays.may_start(process.slot, has_ready_worker=True):
                return process, reason
        return None

    def started(self, process: ChildProcess, now: float) -> None:
        """Record that a worker is about to be renewed. `now` is the time of `time.monotonic`."""
        self._delays.crashed(process.slot, now - process.ready_since)

    def failed(self, slot: int) -> float:
        """Record that a successor could not start. Returns the delay in seconds."""
        return self._delays.failed(slot, has_ready_worker=True)

    def succeeded(self, slot: int) -> None:
        """Record that a worker has been renewed."""
        self._delays.succeeded(slot)

    def _reason(self, process: ChildProcess, settings: Settings) -> str:
        profile, row = self._profiles[process], process.row
        limit = round(settings.max_requests * profile.factor)
        if settings.max_requests and row.requests > limit:
            share = f"{REQUESTS}={settings.max_requests}, ±{JITTER * 100:.0f} %"
            return f"{row.requests} responses, more than its limit of {limit} ({share})"
        initial = profile.initial_memory
        if settings.max_memory and row.memory > settings.max_memory and initial is not None:
            excess = f"more than {MEMORY} ({format_size(settings.max_memory)})"
            if initial <= settings.max_memory:
                return f"{format_size(row.memory)} of memory, {excess}"
            self._tell(process, f"{format_size(initial)} of memory, {excess}")
        return ""

    def _tell(self, process: ChildProcess, excess: str) -> None:
        if not self._is_told:
            self._is_told = True
            logger.warning(
                "%s: not renewing it: it started with %s, and so would its successor",
                process,
                excess,
                extra={EVENT: WORKER_NOT_RENEWED},
            )


class Renewal(Replacement):
    """Replaces one worker that is beyond a limit."""

    name = "renewal"

    def __init__(
        self,
        children: Children,
        settings: Settings,
        limits: Limits,
        process: ChildProcess,
        reason: str,
    ) -> None:
        super().__init__(children, [process.slot], settings)
        self._limits = limits
        self._process = process
        logger.info("%s: renewing it: %s", process, reason, extra={EVENT: WORKER_RENEWING})

    def complete(self) -> Outcome:
        self._limits.succeeded(self._process.slot)
        return Outcome(True, f"{self._process}: renewed")

    def fail(self, reason: str, fields: dict[str, str]) -> Outcome:
        message = f"{self._process}: not renewed, it stays: {reason}"
        logger.error(message, extra={**fields, EVENT: WORKER_NOT_RENEWED})
        logger.info("retrying in %.1f s", self._limits.failed(self._process.slot))
        return Outcome(False, message)
