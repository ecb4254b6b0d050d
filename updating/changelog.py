"""What CHANGELOG.md says must be done by hand.

That of any version is read, so nothing is checked here: `maintenance/changelog.py` does that at a
release.
"""

import re

WHAT_TO_DO = "What to do"
"""The heading of these sections."""

NOTHING = "Nothing."
"""What such a section says if there are no steps."""


def what_to_do(changelog: str, known: str) -> str:
    """Return what the "What to do" sections tell the owner of a project, the newest first.

    Args:
        changelog: the CHANGELOG.md of the version that the project is brought to.
        known: the one of the version that the project has: its steps are left out.
    """
    done = {_text(step) for _, steps in _sections(known) for step in steps} | {NOTHING}
    found = []
    for version, steps in _sections(changelog):
        new = [step for step in steps if _text(step) not in done]
        if new:
            found.append("\n".join([f"{version}:", "", *new]))
    return "\n\n".join(found)


def _text(step: str) -> str:
    """Return a step without its number, which changes when others come or go."""
    return " ".join(re.sub(r"^\d+\.", "", step).split())


def _sections(changelog: str) -> list[tuple[str, list[str]]]:
    """List the versions that have such a section, each with its steps."""
    sections = []
    for part in re.split(r"^## ", changelog, flags=re.M)[1:]:
        version = part.partition("\n")[0].strip()
        section = re.search(rf"^### {WHAT_TO_DO}\n(.*?)(?=^### |\Z)", part, re.M | re.S)
        if section:
            # A step begins at the margin; its other lines are indented.
            steps = re.split(r"\n(?=\S)", section[1].strip())
            sections.append((version, [step.rstrip() for step in steps]))
    return sections
