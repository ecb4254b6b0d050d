"""The commands of both READMEs, read from there and run as they stand.

Only what a test cannot have is replaced: the ports, so that they are free, and the address of the
template, so that it is this one.
"""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..bakes import TEMPLATE
from ..commands import Command, commands, listed
from ..ports import free_ports
from ..tools import PLACES, needs
from .harness import is_open, until

SERVES = ("make run", "make dev", "make demo")
MINUTES = 60.0


class Terminals:
    """Two terminals of a user: one serves in the foreground, the other one asks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, admin_port = free_ports(2)
        self._serving: subprocess.Popen[bytes] | None = None
        self._ports = {"8000": str(self.port), "9000": str(admin_port)}
        unwanted = {"VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "CI"}
        self._environment = {
            **{name: value for name, value in os.environ.items() if name not in unwanted},
            "PATH": PLACES,
            "APP_PORT": str(self.port),
            "APP_ADMIN_PORT": str(admin_port),
        }

    def run(self, command: Command) -> None:
        """Run a command; it must succeed and print what the README says."""
        if command.line in SERVES:
            self._serve(command.line)
        elif command.line.startswith("cd "):
            self.folder /= command.line.removeprefix("cd ")
        else:
            done = subprocess.run(
                ["bash", "-c", self._with_ports(command.line)],
                cwd=self.folder,
                env=self._environment,
                capture_output=True,
                text=True,
                timeout=10 * MINUTES,
                check=False,
            )
            assert done.returncode == 0, (command.line, done.stdout, done.stderr)
            if command.output:
                assert done.stdout.strip() == self._with_ports(command.output)

    def stop(self) -> None:
        """Press Ctrl-C where something serves."""
        if self._serving:
            os.killpg(self._serving.pid, signal.SIGINT)
            self._serving.wait(MINUTES)
            assert not is_open(self.port)
            self._serving = None

    def kill(self) -> None:
        if self._serving:
            os.killpg(self._serving.pid, signal.SIGKILL)
            self._serving.wait()

    def _serve(self, line: str) -> None:
        self.stop()
        self._serving = subprocess.Popen(
            ["bash", "-c", f"exec {line}"],
            cwd=self.folder,
            env=self._environment,
            start_new_session=True,
        )
        until(lambda: is_open(self.port), f"{line} serves", patience=5 * MINUTES)

    def _with_ports(self, text: str) -> str:
        return re.sub(r":(8000|9000)\b", lambda found: ":" + self._ports[found[1]], text)


@contextmanager
def terminals(folder: Path) -> Iterator[Terminals]:
    """Open terminals and leave nothing running in them."""
    opened = Terminals(folder)
    try:
        yield opened
        opened.stop()
    finally:
        opened.kill()


def to_run(document: Path, side: str) -> list[Command]:
    """List the commands of a document that have no test of their own, and can be run."""
    return [command for command in commands(document) if command.key not in listed(side)]


def test_project_readme(bake_into: Callable[..., Path], tmp_path: Path) -> None:
    needs("curl")
    project = bake_into(tmp_path)
    found = to_run(project / "README.md", "project")
    lines = [command.line for command in found]
    assert {"make run", "make dev", "make format", "make check", "make test"} <= set(lines)
    assert sum(bool(command.output) for command in found) >= 3
    command = ".venv/bin/tornado-service"
    with terminals(project) as opened:
        for one in found:
            opened.run(one)
        # `make dev` serves meanwhile.
        opened.run(Command(f"{command} healthcheck"))
        opened.run(Command(f"{command} status"))
        opened.run(Command(f"{command} check | head -1"))


def test_template_readme(tmp_path: Path) -> None:
    uvx = needs("uvx")
    found = to_run(TEMPLATE / "README.md", "template")
    assert "make demo" in [command.line for command in found]
    replaced = {
        "git clone https://github.com/org/tornado-template": f"git clone --quiet {TEMPLATE}"
        " tornado-template",
        "uvx cookiecutter gh:org/tornado-template": f"{uvx} cookiecutter --no-input {TEMPLATE}",
    }
    with terminals(tmp_path) as opened:
        for command in found:
            opened.run(Command(replaced.get(command.line, command.line), command.output))


def test_commands_that_fail_are_noticed(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("```console\n$ echo one\none\n$ echo two\nthree\n$ false\n```\n")
    good, wrong_output, failing = commands(readme)
    with terminals(tmp_path) as opened:
        opened.run(good)
        for bad in (wrong_output, failing):
            try:
                opened.run(bad)
            except AssertionError:
                continue
            raise AssertionError(f"not noticed: {bad}")
