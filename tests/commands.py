"""Reads the commands of a README, so that tests can run exactly what it says."""

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Command:
    """A command of a README and the output that it promises, if it does."""

    line: str
    output: str


def commands(readme: Path) -> list[Command]:
    """List the commands of the ``console`` blocks, in order: ``$`` marks them, output follows."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", readme.read_text(), re.M | re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            line, _, output = part.partition("\n")
            found.append(Command(line, output.strip()))
    return found
