"""What the machine takes from the tests that run on it: processors that other machines use, a disk
that stalls.

Many tests measure seconds, and what is taken from them counts against what is tested. Who fails
while much is taken is run once more, and the report says so; who fails on a machine of one's own
has failed.
"""

import os
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

TOO_MUCH = 0.5
"""Seconds: bounds leave room for less."""

TAKEN_BEFORE = pytest.StashKey[float]()


def seconds_taken(proc: Path = Path("/proc")) -> float:
    """Return how much has been taken since the machine was started, as far as the system tells."""
    taken = 0.0
    with suppress(OSError):  # not Linux
        processors = (proc / "stat").read_text().splitlines()[0].split()
        taken += int(processors[8]) / os.sysconf("SC_CLK_TCK")
    with suppress(OSError):  # a kernel without pressure stall information
        everybody = (proc / "pressure/io").read_text().splitlines()[1]
        taken += int(everybody.rpartition("=")[2]) / 1e6
    return taken


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[TAKEN_BEFORE] = seconds_taken()


def run_again_if_disturbed(item: pytest.Item) -> None:
    """Run a test once more that fails while too much is taken."""
    item.add_marker(pytest.mark.flaky(reruns=1, condition=partial(_was_disturbed, item)))


def _was_disturbed(item: pytest.Item) -> bool:
    return seconds_taken() - item.stash[TAKEN_BEFORE] > TOO_MUCH
