"""`make demo` and the project's targets as a user at a terminal meets them."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .. import checkout
from ..ports import free_ports
from ..tools import PLACES, needs, without
from .environments import install
from .harness import is_open, until

OLD_PYTHON = Path(__file__).with_name("old_python")
"""A folder with a Python that is too old."""


# test_fresh.py goes the way of pip, in an environment that has nothing else.
INSTALLERS = [pytest.param("pip", marks=pytest.mark.exhaustive), "uv"]


class Terminal:
    """A pseudo-terminal with a command in its foreground."""

    def __init__(self, folder: Path, *command: str, **environment: str) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            unwanted = {"VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "CI"}
            inherited = {key: value for key, value in os.environ.items() if key not in unwanted}
            os.execvpe(command[0], command, {**inherited, "TERM": "xterm", **environment})
        self.seen = ""
        self.status: int | None = None
        # Always read, as a terminal does: a full one would hold the command up.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, text: str, patience: float = 300) -> None:
        until(lambda: text in self.seen, f"{text!r} on the terminal", patience)

    def press(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def wait(self, patience: float = 60) -> int:
        """Wait for the end. Returns the exit code, negative for a signal."""

        def ended() -> bool:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            return bool(pid)

        until(ended, "the end of the command", patience)
        self._reader.join()
        assert self.status is not None
        return self.status

    def kill(self) -> None:
        if self.status is None:
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self._reader.join()
        os.close(self._fd)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # how Linux reports that the other side has closed
            while shown := os.read(self._fd, 65536):
                self.seen += shown.decode(errors="replace")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The template as it lies here, without what its own environment left in it."""
    folder = tmp_path / "clone"
    checkout.copy_to(folder)
    return folder


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """Opens terminals; ends whatever runs in them."""
    opened: list[Terminal] = []

    def terminal(folder: Path, *command: str, **environment: str) -> Terminal:
        opened.append(Terminal(folder, *command, **environment))
        return opened[-1]

    yield terminal
    for one in opened:
        one.kill()


@pytest.mark.parametrize("installer", INSTALLERS)
def test_demo(clone: Path, terminal: Callable[..., Terminal], installer: str) -> None:
    needs("uv")
    path = PLACES if installer == "uv" else without("uv", os.environ["PATH"])
    port, admin_port = free_ports(2)
    ports = {"APP_PORT": str(port), "APP_ADMIN_PORT": str(admin_port)}
    demo = terminal(clone, "make", "demo", PATH=path, **ports)
    demo.wait_for("listening on")
    for url in (f":{port}/greetings/Ada", f":{admin_port}/readyz"):
        assert f"http://127.0.0.1{url}" in demo.seen
        subprocess.run([needs("curl"), "--fail", "--silent", f"http://127.0.0.1{url}"], check=True)
    assert installed_by_uv(clone / "build/.venv") == (installer == "uv")
    # Whoever only looks waits for no tools.
    assert not (clone / ".venv").exists()
    for tool in ("pytest", "ruff", "mypy"):
        assert not (clone / "build/.venv/bin" / tool).exists()
    pressed = time.monotonic()
    demo.press("\x03")
    demo.wait()
    assert time.monotonic() - pressed < 5
    assert not is_open(port)
    after = demo.seen[demo.seen.index("listening on") :]
    assert '"message":"stopped"' in after
    assert not re.search(r"error|traceback|\*\*\*", after, re.IGNORECASE)


@pytest.mark.parametrize("installer", INSTALLERS)
def test_tools_are_added_to_what_serves(
    bake_into: Callable[..., Path], tmp_path: Path, installer: str
) -> None:
    needs("uv")
    project = bake_into(tmp_path)
    path = PLACES if installer == "uv" else without("uv", os.environ["PATH"])
    environment = {**os.environ, "PATH": path}
    commands = project / ".venv/bin"

    def make(target: str) -> None:
        subprocess.run(["make", target], cwd=project, env=environment, check=True)

    def installation() -> tuple[Path, int]:
        [folder] = (project / ".venv").glob("lib/*/site-packages/tornado_service-*.dist-info")
        return folder, folder.stat().st_mtime_ns

    make(".venv/serving")
    assert installed_by_uv(project / ".venv") == (installer == "uv")
    assert not (commands / "ruff").exists()
    first = installation()
    # The sources are used where they are.
    package = project / "src/tornado_service/__init__.py"
    package.write_text(package.read_text().replace('"0.1.0"', '"0.1.1"'))
    shown = subprocess.run([commands / "tornado-service", "--version"], capture_output=True)
    assert shown.stdout.startswith(b"tornado-service 0.1.1 (")
    make("format")
    assert (commands / "ruff").exists()
    assert installation() == first
    # Neither is installed again, unless what it is made from has changed.
    for target in (".venv/serving", ".venv/installed"):
        made = (project / target).stat().st_mtime_ns
        make(target)
        assert (project / target).stat().st_mtime_ns == made
    (project / "pyproject.toml").touch()
    make("format")
    assert installation() != first


def make(project: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run make in a project."""
    return subprocess.run(
        ["make", *arguments],
        cwd=project,
        env={**os.environ, "PATH": PLACES, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def version(project: Path) -> str:
    """Run the command of a project."""
    command = [project / ".venv/bin/tornado-service", "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_python_that_is_too_old_is_one_line(bake_into: Callable[..., Path], tmp_path: Path) -> None:
    project = bake_into(tmp_path)
    path = os.pathsep.join([str(OLD_PYTHON), without("uv", os.environ["PATH"])])
    for given in ([], ["PYTHON=python3"]):  # given, it is also refused when uv could find another
        done = make(project, "run", *given, PATH=path, REAL_PYTHON=sys.executable)
        first, second = done.stderr.splitlines()
        assert first == (
            "python3 is not Python 3.11 or later, but Python 3.10.13. "
            "Name another one: make run PYTHON=python3.11"
        )
        assert second.startswith("make: *** ")
        assert done.stdout == ""
        assert not (project / ".venv").exists()
        path += os.pathsep + str(Path(needs("uv")).parent)
    # Nothing has to be cleaned up.
    assert make(project, ".venv/made-for", f"PYTHON={sys.executable}").returncode == 0
    assert (project / ".venv/bin/python").exists()


def test_template_says_in_one_line_that_python_is_too_old(clone: Path) -> None:
    path = os.pathsep.join([str(OLD_PYTHON), without("uv", os.environ["PATH"])])
    done = make(clone, "demo", PATH=path, REAL_PYTHON=sys.executable)
    first, second = done.stderr.splitlines()
    assert first == (
        "python3 is not Python 3.11 or later, but Python 3.10. "
        "Name another one: make demo PYTHON=python3.11"
    )
    assert second.startswith("make: *** ")
    # Nothing has to be cleaned up.
    assert make(clone, "build/.venv/cookiecutter").returncode == 0


def test_environment_that_does_not_fit_is_made_anew(
    bake_into: Callable[..., Path], tmp_path: Path
) -> None:
    project = bake_into(tmp_path)

    def is_made_anew(target: str) -> bool:
        done = make(project, target)
        assert (done.returncode, done.stderr) == (0, "")
        subprocess.run([project / ".venv/bin/python", "-c", ""], check=True)
        return ".venv was made for another folder or Python." in done.stdout

    # What its owner has made is used.
    subprocess.run([needs("uv"), "venv", "--quiet", project / ".venv"], check=True)
    (project / ".venv/own").touch()
    assert not is_made_anew(".venv/serving")
    assert (project / ".venv/own").exists()
    project = project.rename(tmp_path / "renamed")
    assert is_made_anew(".venv/serving")
    assert version(project).startswith("tornado-service 0.1.0 (")
    assert not is_made_anew(".venv/made-for")
    python = project / ".venv/bin/python"
    python.unlink()
    python.symlink_to(tmp_path / "removed")
    assert is_made_anew(".venv/made-for")
    # After an upgrade: Python would look for packages where there are none.
    made_for = project / ".venv/made-for"
    folder, major, minor = made_for.read_text().split()
    made_for.write_text(f"{folder} {major} {int(minor) - 1}\n")
    assert is_made_anew(".venv/made-for")
    assert made_for.read_text() == f"{folder} {major} {minor}\n"


def test_uv_knows_the_tools(bake_into: Callable[..., Path], tmp_path: Path) -> None:
    project = bake_into(tmp_path)
    tool = project / ".venv/bin/ruff"

    def sync(*options: str) -> None:
        command = [needs("uv"), "sync", "--quiet", *options]
        subprocess.run(command, cwd=project, env={**os.environ, "PATH": PLACES}, check=True)

    sync()
    assert tool.exists()
    assert make(project, ".venv/installed").returncode == 0
    sync("--no-dev")
    assert not tool.exists()
    assert make(project, ".venv/installed").returncode == 0
    assert tool.exists()


def test_dev_restarts_at_a_change(
    shared: Path,
    bake_into: Callable[..., Path],
    tmp_path: Path,
    terminal: Callable[..., Terminal],
) -> None:
    copy = bake_into(tmp_path)
    install(copy, shared)
    make(copy, ".venv/made-for")
    (copy / ".venv/serving").touch()
    port, admin_port = free_ports(2)
    ports = {"APP_PORT": str(port), "APP_ADMIN_PORT": str(admin_port)}
    dev = terminal(copy, "make", "dev", PYTHONPATH=str(copy / "src"), **ports)
    dev.wait_for("listening on")
    model = copy / "src/tornado_service/greetings/model.py"

    def greeting() -> str:
        url = f"http://127.0.0.1:{port}/greetings/Ada"
        command = [needs("curl"), "--silent", url]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    assert greeting() == '{"message":"Hello, Ada!"}'
    text = model.read_text()

    def save(changed: str, is_seen: Callable[[], bool]) -> None:
        model.write_text(changed)
        until(is_seen, f"{changed!r} is seen")

    # Two saves, the second one while the service starts again after the first.
    evening, night = (text.replace('"Hello"', f'"Good {time}"') for time in ("evening", "night"))
    save(evening, lambda: not is_open(port))
    save(night, lambda: greeting() == '{"message":"Good night, Ada!"}')
    # A mistake is shown, and mending it is enough.
    save("this is no Python\n", lambda: "SyntaxError" in dev.seen)
    save(text, lambda: greeting() == '{"message":"Hello, Ada!"}')
    dev.press("\x03")
    dev.wait()
    assert not is_open(port)


def installed_by_uv(environment: Path) -> bool:
    """Tell which of the two installers made a virtual environment."""
    return "uv = " in (environment / "pyvenv.cfg").read_text()


def test_folder_that_is_no_environment_is_not_deleted(
    bake_into: Callable[..., Path], tmp_path: Path
) -> None:
    project = bake_into(tmp_path)
    (project / "precious").mkdir()
    (project / "precious/letter").write_text("Dear Ada")
    done = subprocess.run(
        ["make", "run", "VENV=precious"], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert done.stderr.startswith("precious is no virtual environment.")
    assert (project / "precious/letter").read_text() == "Dear Ada"
