"""Waiting without an event loop."""

import time
from collections.abc import Callable

from runtime.testing import WAIT_TIMEOUT


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until a condition holds. Fails the test after `WAIT_TIMEOUT` seconds."""
    deadline = time.monotonic() + WAIT_TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "the condition does not hold"
        time.sleep(0.002)
