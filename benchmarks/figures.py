"""Figures: what is measured, the bound that it must keep, and the values of all rounds."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

RATIO = "×"  # noqa: RUF001
"""The unit of what is divided by the same figure of something else."""


@dataclass(frozen=True)
class Row:
    """What is measured, and the bound that it must keep."""

    name: str
    what: str
    unit: str
    bound: float | None = None
    """The median must not be greater, or None."""
    at_least: bool = False
    """The median must not be less than the bound, instead."""

    def is_met_by(self, value: float) -> bool:
        if self.bound is None:
            return True
        return value >= self.bound if self.at_least else value <= self.bound

    def describe_bound(self) -> str:
        if self.bound is None:
            return "-"
        return f"{'≥' if self.at_least else '≤'} {format_value(self.bound, self.unit)}"


@dataclass(frozen=True)
class Figure:
    """The values of a row, one for each round, and how they came about in a few words."""

    row: Row
    values: Sequence[float]
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def is_met(self) -> bool:
        return self.row.is_met_by(self.median)

    def as_json(self) -> dict[str, Any]:
        return {
            "what": self.row.what,
            "unit": self.row.unit,
            "median": self.median,
            "min": min(self.values),
            "max": max(self.values),
            "bound": self.row.describe_bound(),
            "met": self.is_met,
            "note": self.note,
            "values": list(self.values),
        }


def ratios(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """Divide round by round, so that a machine that is slower for a while changes nothing."""
    return [value / other for value, other in zip(values, others, strict=True)]


def format_value(value: float, unit: str) -> str:
    """Write a value with its unit: a ratio, ``12.3 s``, ``0``."""
    if unit == RATIO:
        return f"{value:.2f}{RATIO}"
    if unit:
        return f"{value:.3g} {unit}"
    return f"{value:.0f}"
