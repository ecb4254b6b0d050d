"""Restart policy: immediately, with exponential backoff for crash loops."""

import random
import time
from collections import defaultdict

from ..status import ADMIN_SLOT

INITIAL_DELAY = 0.5
"""Seconds before a process that could not start is started again; doubled each time."""
MAX_DELAY = 30.0
"""Seconds that the delay grows to."""
MAX_ATTEMPTS = 6
"""Failed starts of workers until the service gives up, while no worker is ready."""
CRASH_LOOP_UPTIME = 10.0
"""Seconds: a process that has been ready for less has crashed quickly."""
CRASH_LOOP_COUNT = 25
"""Quick crashes in a row of one slot after which it is still restarted without delay."""
MAX_DOUBLINGS = 10


class RestartPolicy:
    """Decides when a slot may be started again.

    While no worker is ready, a failed start delays all workers: they would fail in the same way.
    """

    def __init__(self) -> None:
        self._attempts = 0
        """Failed starts of workers since one was ready."""
        self._failures: defaultdict[int, int] = defaultdict(int)
        self._quick_crashes: defaultdict[int, int] = defaultdict(int)
        self._not_before: defaultdict[int, float] = defaultdict(float)
        self._no_worker_before = 0.0

    def may_start(self, slot: int, has_ready_worker: bool) -> bool:
        """Return whether a slot may be started now."""
        now = time.monotonic()
        if not has_ready_worker and slot != ADMIN_SLOT and now < self._no_worker_before:
            return False
        return now >= self._not_before[slot]

    def reset_delays(self) -> None:
        """Allow every start immediately, for example because a reload may mend the cause."""
        self._not_before.clear()
        self._no_worker_before = 0.0

    def succeeded(self, slot: int) -> None:
        """Record that a process has become ready."""
        self._failures[slot] = 0
        if slot != ADMIN_SLOT:
            self._attempts, self._no_worker_before = 0, 0.0

    def failed(self, slot: int, has_ready_worker: bool) -> float:
        """Record a failed start. Returns the delay in seconds."""
        self._failures[slot] += 1
        delay = self._back_off(slot, self._failures[slot])
        if slot != ADMIN_SLOT and not has_ready_worker:
            self._attempts += 1
            self._no_worker_before = self._not_before[slot]
        return delay

    def crashed(self, slot: int, uptime: float) -> None:
        """Record the crash of a process that had been ready for `uptime` seconds."""
        is_quick = uptime < CRASH_LOOP_UPTIME
        self._quick_crashes[slot] = self._quick_crashes[slot] + 1 if is_quick else 0
        if self._quick_crashes[slot] > CRASH_LOOP_COUNT:
            self._back_off(slot, self._quick_crashes[slot] - CRASH_LOOP_COUNT)

    @property
    def exhausted(self) -> bool:
        """Whether all start attempts have been used."""
        return self._attempts >= MAX_ATTEMPTS

    def _back_off(self, slot: int, failures: int) -> float:
        delay = min(MAX_DELAY, INITIAL_DELAY * 2.0 ** min(failures - 1, MAX_DOUBLINGS))
        # Jitter, so that dependent services do not retry in lockstep.
        delay *= random.uniform(0.8, 1.2)  # noqa: S311
        self._not_before[slot] = time.monotonic() + delay
        return delay
