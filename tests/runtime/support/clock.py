"""A clock that a test sets."""

import time
from types import ModuleType, SimpleNamespace

import pytest


class FakeClock:
    """Replaces the monotonic clock of one module."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
        self.now = 1000.0
        everything = vars(time) | {
            "monotonic": lambda: self.now,
            "monotonic_ns": lambda: int(self.now * 1e9),
        }
        monkeypatch.setattr(module, "time", SimpleNamespace(**everything))
