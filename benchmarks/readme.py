"""Keeps the figures of the README: they are those that `make bench` has measured last."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .figures import Row, format_value

README = Path(__file__).parents[1] / "README.md"
TABLE = re.compile(r"(<!-- make bench writes this table -->\n).*?(<!-- end -->\n)", re.DOTALL)


def table(rows: Iterable[Row], results: Mapping[str, Any]) -> str:
    """Return the rows that have been measured as a table in Markdown, with the bounds to keep."""
    lines = ["| measured side by side | median | must be |", "|---|---|---|"]
    for row in rows:
        if row.name in results:
            median = format_value(results[row.name]["median"], row.unit)
            lines.append(f"| {row.what} | {median} | {row.describe_bound()} |")
    return "\n".join(lines) + "\n"


def update(rows: Iterable[Row], results: Mapping[str, Any], readme: Path = README) -> None:
    """Write the table into the README."""
    text = readme.read_text("utf-8")
    new = table(rows, results)
    readme.write_text(TABLE.sub(lambda found: found[1] + new + found[2], text), "utf-8")
