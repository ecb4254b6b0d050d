"""Prints results as one table, and keeps them as JSON."""

import datetime
import json
import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .figures import Figure, format_value

HEADINGS = ["name", "what", "median", "min", "max", "bound", "met", "measured"]
RIGHT = {"median", "min", "max", "bound"}


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Align columns; numbers to the right."""
    cells = [list(headings), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if heading in RIGHT else cell.ljust(width)
            for heading, cell, width in zip(headings, row, widths, strict=True)
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def figure_cells(figure: Figure) -> list[str]:
    """Return the cells of a figure in the table."""
    row = figure.row
    values = (figure.median, min(figure.values), max(figure.values))
    met = "-" if row.bound is None else "yes" if figure.is_met else "NO"
    shown = [format_value(value, row.unit) for value in values]
    return [row.name, row.what, *shown, row.describe_bound(), met, figure.note]


def machine() -> dict[str, Any]:
    """Describe the machine, as far as figures depend on it."""
    model = None
    if (info := Path("/proc/cpuinfo")).exists():
        model = re.search(r"^model name\s*: (.*)$", info.read_text(), re.M)
    return {
        "processors": len(os.sched_getaffinity(0)),
        "model": model[1] if model else platform.processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def load_results(path: Path) -> dict[str, Any]:
    """Read what was measured before; empty if nothing was."""
    if not path.exists():
        return {}
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def save_results(path: Path, results: dict[str, Any]) -> None:
    """Add results to those that are there; what was measured again is replaced.

    Each has the time and the machine it was measured on, because not all need be of the same run.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    stamp = {"measured": now, "machine": machine()}
    kept = load_results(path) | {name: {**value, **stamp} for name, value in results.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False)
    # A list of numbers needs one line, not one for each.
    text = re.sub(r"\[[^\[\]{}\"]*\]", lambda found: re.sub(r"\s+", " ", found[0]), text)
    path.write_text(text + "\n", "utf-8")
