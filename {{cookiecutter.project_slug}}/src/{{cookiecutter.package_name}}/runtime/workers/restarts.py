"""When what has died is started again: at once, but not for ever."""

import random
import time
from collections import defaultdict

from .scoreboard import ADMIN

# A process that cannot start is tried again after 0.5, 1, 2 ... seconds; so often if nobody serves.
FIRST_DELAY, LONGEST_DELAY, ATTEMPTS = 0.5, 30.0, 6
# One that was ready is replaced at once, unless so many of its slot have in a row lived less than
# so many seconds.
QUICK_DEATHS, QUICK = 25, 10.0


class Restarts:
    """Knows from past failures when the next process of a slot may be started.

    As long as no worker serves, a worker that cannot start holds up the others as well: they would
    fail in the same way.
    """

    def __init__(self) -> None:
        self._failures: defaultdict[int, int] = defaultdict(int)
        self._quick_deaths: defaultdict[int, int] = defaultdict(int)
        self._not_before: defaultdict[int, float] = defaultdict(float)
        self._nobody_before = 0.0

    def may_start(self, slot: int, serving: bool) -> bool:
        held_up = not serving and slot != ADMIN and time.monotonic() < self._nobody_before
        return not held_up and time.monotonic() >= self._not_before[slot]

    def hurry(self) -> None:
        """Wait no longer, for there is reason to hope that the fault is mended."""
        self._not_before.clear()
        self._nobody_before = 0.0

    def succeeded(self, slot: int) -> None:
        """Note that a process has become ready."""
        self._failures[slot] = 0

    def failed(self, slot: int) -> float:
        """Note that a process could not start. Returns the seconds to wait."""
        self._failures[slot] += 1
        delay = self._wait(slot, self._failures[slot])
        if slot != ADMIN:
            self._nobody_before = self._not_before[slot]
        return delay

    def died(self, slot: int, seconds: float) -> None:
        """Note that a process died that had been ready for so many seconds."""
        self._nobody_before = 0.0
        self._quick_deaths[slot] = self._quick_deaths[slot] + 1 if seconds < QUICK else 0
        if self._quick_deaths[slot] > QUICK_DEATHS:
            self._wait(slot, self._quick_deaths[slot] - QUICK_DEATHS)

    @property
    def hopeless(self) -> bool:
        """Whether workers have been tried often enough."""
        return sum(n for slot, n in self._failures.items() if slot != ADMIN) >= ATTEMPTS

    def _wait(self, slot: int, failures: int) -> float:
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 1, 10))
        # Not the same for all, or services that depend on each other fail in step.
        delay *= random.uniform(0.8, 1.2)  # noqa: S311
        self._not_before[slot] = time.monotonic() + delay
        return delay
