"""Reads the commands of documents, so that tests can run exactly what they say.

`commands.toml` says of each command which test runs it, or why none can.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<content>.*?)^(?P=indent)```$", re.M | re.S
)
PROMPT = re.compile(r"^\$ ", re.M)
CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")

# What may stand before the program of a command.
PREFIX = re.compile(r"^(?:[A-Z_]+=(?:'[^']*'|\S*) +|sudo +)*")
# What is a command, whatever the program.
CALL = re.compile(r"sudo \S|\.venv/bin/|[a-z][\w.-]+ (.* )?-{1,2}[a-z]")


@dataclass(frozen=True)
class Command:
    """A command of a document and the output that it promises, if it does."""

    line: str
    output: str = ""

    @property
    def program(self) -> str:
        """The program that it runs, without what may stand before it."""
        return PREFIX.sub("", self.line).partition(" ")[0]

    @property
    def key(self) -> str:
        """Its name in `commands.toml`: the command in one line, without ``sudo``."""
        return re.sub(r"\s*\\?\n\s*", " ", self.line).removeprefix("sudo ")


def commands(document: Path, section: str = "") -> list[Command]:
    """List the commands of the ``console`` blocks, in order: ``$`` marks them, output follows.

    With `section` only those below that heading of the second level.
    """
    text = document.read_text("utf-8")
    if section:
        [text] = re.findall(rf"^## {re.escape(section)}\n.*?(?=^## |\Z)", text, re.M | re.S)
    return [
        command
        for block in BLOCK.finditer(text)
        if block["language"] == "console"
        for command in _of_console(block["content"])
    ]


def _of_console(block: str) -> Iterator[Command]:
    for part in PROMPT.split(block)[1:]:
        line, _, output = part.partition("\n")
        while line.endswith("\\"):
            more, _, output = output.partition("\n")
            line += f"\n{more}"
        yield Command(line, output.strip())


def of_shell_blocks(text: str) -> Iterator[Command]:
    """List the commands of ``sh`` blocks: one in each line, unless it goes on in the next one."""
    for block in BLOCK.finditer(text):
        if block["language"] == "sh":
            for line in re.split(r"(?<!\\)\n(?! )", block["content"].strip()):
                yield Command(re.sub(r" +# .*", "", line))


def in_sentences(text: str) -> Iterator[Command]:
    """List the commands between backticks.

    They have an argument, and begin with a known program, or have ``sudo`` or an option.
    """
    for code in CODE.findall(BLOCK.sub("", text)):
        line = re.sub(r"\s*\n[# ]*", " ", code).replace(r"\|", "|")
        command = Command(line)
        is_known = " " in PREFIX.sub("", line) and command.program in programs()
        if is_known or CALL.match(line):
            yield command


def of_document(document: Path) -> list[Command]:
    """List all commands of a document, in blocks and in sentences."""
    text = document.read_text("utf-8")
    return [*commands(document), *of_shell_blocks(text), *in_sentences(text)]


def in_comments(file: Path) -> list[Command]:
    """List the commands in the comments of a configuration file."""
    lines = re.findall(r"^\s*#+(?: (.*))?$", file.read_text("utf-8"), re.M)
    prompted = [Command(line.removeprefix("$ ")) for line in lines if line.startswith("$ ")]
    return [*prompted, *in_sentences("\n".join(lines))]


@cache
def programs() -> frozenset[str]:
    """Read which programs begin a command."""
    return frozenset(register()["programs"])


def register() -> dict[str, list[Any]]:
    """Read `commands.toml`."""
    return tomllib.loads(Path(__file__).with_name("commands.toml").read_text("utf-8"))


def listed(side: str) -> list[str]:
    """List the commands that `commands.toml` has one by one: they are run elsewhere, or cannot be.

    `side` is "template" or "project".
    """
    entries = [*register()["run"], *register()["not_run"]]
    return [
        key for entry in entries if entry.get("side", side) == side for key in entry["commands"]
    ]
