"""When what has died is started again: at once, but not for ever."""

import random
import time
from collections import Counter

# What cannot start is tried again after 0.5, 1, 2 ... seconds, and so often if nobody serves.
FIRST_DELAY, LONGEST_DELAY, ATTEMPTS = 0.5, 30.0, 6
# One that was ready is replaced at once, unless so many of its slot have in a row lived less than
# so many seconds.
QUICK_DEATHS, QUICK = 25, 10.0


class Restarts:
    """Knows from past failures when the next process may be started."""

    def __init__(self) -> None:
        self._failures = 0
        self._quick_deaths: Counter[int] = Counter()
        self._not_before = 0.0

    def may_start(self) -> bool:
        return time.monotonic() >= self._not_before

    def hurry(self) -> None:
        """Wait no longer, for there is reason to hope that the fault is mended."""
        self._not_before = 0.0

    def succeeded(self) -> None:
        """Note that a worker has become ready."""
        self._failures = 0

    def failed(self) -> float:
        """Note that a process could not start. Returns the seconds to wait."""
        self._failures += 1
        return self._wait(self._failures)

    def died(self, slot: int, seconds: float) -> None:
        """Note that a process died that had been ready for so many seconds."""
        self._quick_deaths[slot] = self._quick_deaths[slot] + 1 if seconds < QUICK else 0
        if self._quick_deaths[slot] > QUICK_DEATHS:
            self._wait(self._quick_deaths[slot] - QUICK_DEATHS)

    @property
    def hopeless(self) -> bool:
        """Whether it has been tried often enough."""
        return self._failures >= ATTEMPTS

    def _wait(self, failures: int) -> float:
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 1, 10))
        # Not the same for all, or services that depend on each other fail in step.
        delay *= random.uniform(0.8, 1.2)  # noqa: S311
        self._not_before = time.monotonic() + delay
        return delay
