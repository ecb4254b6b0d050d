"""Reads values out of a project's sources, wherever they are defined."""

import re
from pathlib import Path


def value(project: Path, pattern: str) -> str:
    """Return the group of a pattern that matches once in all modules of a project."""
    texts = [path.read_text("utf-8") for path in sorted((project / "src").rglob("*.py"))]
    [found] = [match for text in texts for match in re.findall(pattern, text, re.MULTILINE)]
    return str(found)
