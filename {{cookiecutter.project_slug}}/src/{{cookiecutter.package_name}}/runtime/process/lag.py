"""How late the event loop is: what a call that blocks does to everybody else."""

import time

# Seconds. What the loop was late by is remembered for one to two of these: long enough for
# whoever looks every 15 seconds to see each peak.
MEMORY = 15.0


class Lag:
    """The worst of the last while."""

    def __init__(self) -> None:
        self._worst = self._worst_before = 0.0
        self._since = time.monotonic()

    def note(self, seconds: float) -> None:
        """Note how late the loop came just now."""
        now = time.monotonic()
        if now - self._since >= MEMORY:
            self._worst_before, self._worst, self._since = self._worst, 0.0, now
        self._worst = max(self._worst, seconds)

    @property
    def worst(self) -> float:
        return max(self._worst, self._worst_before)
