"""Tells a slow machine from a slow program.

A test that measures seconds and fails is run once more if the machine has stalled meanwhile: if
other machines had its processors, or everything waited for the disk. On a machine that has not
stalled it has failed.
"""

import os
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

MAX_STALL = 0.5
"""Seconds that the bounds of the tests leave room for."""

STALLED_BEFORE = pytest.StashKey[float]()


def seconds_stalled(proc: Path = Path("/proc")) -> float:
    """Return how long the machine has stalled since its start, as far as the system counts it."""
    seconds = 0.0
    with suppress(OSError):  # not Linux
        processors = (proc / "stat").read_text().splitlines()[0].split()
        seconds += int(processors[8]) / os.sysconf("SC_CLK_TCK")
    with suppress(OSError):  # a kernel without pressure stall information
        full = (proc / "pressure/io").read_text().splitlines()[1]
        seconds += int(full.rpartition("=")[2]) / 1e6
    return seconds


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[STALLED_BEFORE] = seconds_stalled()


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.get_closest_marker("seconds"):
        item.add_marker(pytest.mark.flaky(reruns=1, condition=partial(_has_stalled, item)))


def _has_stalled(item: pytest.Item) -> bool:
    return seconds_stalled() - item.stash[STALLED_BEFORE] > MAX_STALL
