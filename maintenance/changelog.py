"""Reads CHANGELOG.md, which is in the format of Keep a Changelog.

`make update` of a project reads it, too, and prints what the owner has to do. ::

    ## Unreleased

    ## 0.2.0 - 2026-12-24

    ### What to do

    1. What the owner of a project has to do by hand, step by step. Or "Nothing."

    ### Added
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise

from updating.changelog import NOTHING, WHAT_TO_DO

UNRELEASED = "Unreleased"
CHANGES_BEHAVIOUR = ("Changed", "Deprecated", "Removed")
PARTS = (WHAT_TO_DO, "Added", *CHANGES_BEHAVIOUR, "Fixed", "Security")

Version = tuple[int, int, int]

_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", re.ASCII)
_HEADING = re.compile(rf"## (?:{UNRELEASED}|({_VERSION.pattern}) - (\d{{4}}-\d\d-\d\d))", re.ASCII)


class ChangelogError(Exception):
    """The changelog does not have its format. The message has one line for each problem."""


@dataclass
class Section:
    """What is new in one version."""

    title: str
    """A version, or `UNRELEASED`."""
    released: str = ""
    """The day, in ISO format."""
    parts: dict[str, str] = field(default_factory=dict)
    """Texts by heading, such as ``Added``. Text above the first heading is under ``""``."""

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with it, in sentences."""
        if self.parts.get(""):
            yield f"{self.title}: text stands above the first ###."
        for name, text in self.parts.items():
            if name and name not in PARTS:
                yield f"{self.title}: {name!r} is none of {', '.join(PARTS)}."
            if name and not text:
                yield f"{self.title}: {name!r} is empty."
        yield from self._problems_of_steps()

    def _problems_of_steps(self) -> Iterator[str]:
        steps = self.parts.get(WHAT_TO_DO)
        changes = [name for name in CHANGES_BEHAVIOUR if name in self.parts]
        if steps is None and changes:
            yield (
                f"{self.title}: {' and '.join(changes)} without {WHAT_TO_DO!r}: "
                f"number the steps, or write {NOTHING!r}"
            )
        if steps and steps != NOTHING:
            # `make update` tells steps apart by what stands at the margin.
            margin = re.findall(r"^(?:(\d+)\. )?\S", steps, re.MULTILINE)
            if margin != [str(number) for number in range(1, len(margin) + 1)]:
                yield (
                    f"{self.title}: the steps of {WHAT_TO_DO!r} are not numbered 1, 2, 3 ..., "
                    "or their other lines are not indented."
                )


def parse_version(text: str) -> Version | None:
    """Return the numbers of a version such as ``1.2.3``; None if it is none."""
    match = _VERSION.fullmatch(text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def parse(text: str) -> list[Section]:
    """Return the sections, the newest first. Raises `ChangelogError`."""
    sections: list[Section] = []
    problems: list[str] = []
    for block in re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]:
        heading, _, body = block.partition("\n")
        match = _HEADING.fullmatch(heading)
        if not match:
            problems.append(f"{heading!r} is not '## 0.2.0 - 2026-12-24' or '## {UNRELEASED}'.")
            continue
        section = Section(match[1] or UNRELEASED, match[5] or "")
        for name, part in _parts(body):
            if name in section.parts:
                problems.append(f"{section.title}: {name!r} stands twice.")
            section.parts[name] = part
        sections.append(section)
        problems += section.problems()
    problems += _problems_of_order(sections)
    if problems:
        raise ChangelogError("\n".join(problems))
    return sections


def close_unreleased(text: str, version: str, day: date) -> str:
    """Make the section of `version` of what is unreleased, and put an empty one above it."""
    heading = f"## {UNRELEASED}\n"
    return text.replace(heading, f"{heading}\n## {version} - {day.isoformat()}\n", 1)


def _parts(body: str) -> Iterator[tuple[str, str]]:
    above, *blocks = re.split(r"^### ", body, flags=re.MULTILINE)
    yield "", above.strip()
    for block in blocks:
        name, _, text = block.partition("\n")
        yield name, text.strip()


def _problems_of_order(sections: list[Section]) -> Iterator[str]:
    titles = [section.title for section in sections]
    if titles[:1] != [UNRELEASED] or titles.count(UNRELEASED) > 1:
        yield f"'## {UNRELEASED}' is not the first section, or there are two."
    released = [section for section in sections if section.released]
    for section in released:
        try:
            date.fromisoformat(section.released)
        except ValueError:
            yield f"{section.title}: {section.released} is no day."
    for newer, older in pairwise(released):
        new, old = parse_version(newer.title), parse_version(older.title)
        if not (new and old and new > old) or newer.released < older.released:
            yield f"{newer.title} stands above {older.title}, but is not newer."
