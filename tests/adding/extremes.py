"""A plugin of pytest: of the tests that bake, it keeps those of everything on and of all off."""

import pytest

from tests.bakes import ALL_OFF, ALL_ON, label

EXTREMES = {label(ALL_ON), label(ALL_OFF)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if not is_baking(item) or label_of(item) in EXTREMES]


def is_baking(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and "bake" in item.fixturenames


def label_of(item: pytest.Item) -> str:
    """Return the label of the answers that a test bakes with, which may be given as such."""
    callspec = getattr(item, "callspec", None)
    answers = callspec.params.get("answers", {}) if callspec else {}
    return answers if isinstance(answers, str) else label(answers)
