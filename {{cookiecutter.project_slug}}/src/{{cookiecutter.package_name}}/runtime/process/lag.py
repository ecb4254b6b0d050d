"""Event loop lag: how late callbacks run because something blocks the loop."""

import time

WINDOW = 15.0
"""Seconds. The maximum covers one to two windows, so that a scrape every 15 s sees each peak."""


class Lag:
    """The maximum lag of a sliding window, in seconds."""

    def __init__(self) -> None:
        self._current = self._previous = 0.0
        self._window_start = time.monotonic()

    def record(self, lag: float) -> None:
        """Record how late a callback ran, in seconds."""
        now = time.monotonic()
        if now - self._window_start >= WINDOW:
            self._previous, self._current, self._window_start = self._current, 0.0, now
        self._current = max(self._current, lag)

    @property
    def maximum(self) -> float:
        return max(self._current, self._previous)
