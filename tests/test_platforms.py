"""Projects on Windows, as far as another system can tell. The workflow has jobs on real ones."""

import fnmatch
import json
import ntpath
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from cookiecutter.generate import is_copy_only_path

from .bakes import ALL_ON, LONGEST, TEMPLATE, TREE, configuration
from .tools import needs

Bake = Callable[..., Path]

HOOKS = TEMPLATE / "hooks"
# What the runtime names that Windows does not have. A single process does not come by there.
GUARDED = {
    "control/client.py": {"AF_UNIX", "geteuid"},  # is_supported
    "control/protocol.py": {"getuid"},
    "control/server.py": {"AF_UNIX", "fileno", "geteuid", "register_at_fork"},
    "cpus.py": {"sched_getaffinity"},  # hasattr
    "monitor/events.py": {"AF_UNIX"},  # for several workers
    "monitor/history.py": {"clock_gettime_ns"},  # with CLOCK_BOOTTIME
    "process/lifecycle.py": {"uvloop"},  # for other systems
    "process/memory.py": {"sysconf"},  # AttributeError is caught
    "process/sockets.py": {"SO_REUSEPORT"},  # for several workers
    "process/systemd.py": {"AF_UNIX", "CLOCK_MONOTONIC", "clock_gettime_ns"},  # under systemd
    "starting.py": {"O_NOCTTY"},  # AttributeError is caught
    "testing.py": {"SIGHUP"},  # the reload of several workers
}
FOR_WORKERS = ("workers/", "logs/shared.py")
MAX_PATH = 260
"""Characters of a path, unless Windows is set up for more."""
FOLDER = 80
"""Characters that are left for the folder in which a project is."""
DEVICES = re.compile(r"(aux|con|nul|prn|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def names(folder: Path) -> list[PurePosixPath]:
    """List the files below a folder, but for byte code."""
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return [PurePosixPath(path) for path in sorted(paths) if "__pycache__" not in path.parts]


# The runtime


def test_runtime_needs_nothing_that_windows_does_not_have(tmp_path: Path) -> None:
    command = [needs("mypy"), "--platform=win32", f"--cache-dir={tmp_path}", "--package=runtime"]
    done = subprocess.run(command, cwd=TEMPLATE, capture_output=True, text=True, check=False)
    found: dict[str, set[str]] = {}
    for path, message in re.findall(r"/runtime/(\S+?):\d+: error: (.*)", done.stdout):
        if not path.startswith(FOR_WORKERS):
            [name] = re.findall(r'(?:no attribute|Name) "(\w+)"', message) or [message]
            found.setdefault(path, set()).add(name)
    assert found == GUARDED, done.stdout + done.stderr


# Text


def test_no_file_is_opened_in_the_encoding_of_the_system(bake: Bake) -> None:
    rule = ["--isolated", "--preview", "--select=PLW1514"]
    code = [HOOKS, TEMPLATE / "maintenance", bake(**ALL_ON)]
    command = [needs("ruff"), "check", "--no-cache", *rule, *code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_questions_can_be_printed_on_an_old_console() -> None:
    json.dumps(configuration()["__prompts__"], ensure_ascii=False).encode("cp1252")


def test_console_without_all_letters_is_no_failure(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cookiecutter", str(TEMPLATE), "--no-input"]
    command += ["--default-config", "--overwrite-if-exists", "--output-dir", str(tmp_path)]
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONIOENCODING": "cp1252"}
    for answer in "nginx=true", "nginx=false":
        options = [answer, "author_name=Zoë 予約 🚀", "description=予約 🚀"]
        done = subprocess.run(
            [*command, *options], env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        (tmp_path / "tornado-service/deploy/nginx/予約.pem").touch()
    printed = done.stdout.decode("cp1252")
    assert "deploy/nginx/\\u4e88\\u7d04.pem" in printed
    assert "tornado-service is ready" in printed
    assert "Zoë 予約 🚀" in (tmp_path / "tornado-service/pyproject.toml").read_text("utf-8")


def clone(source: Path, folder: Path, **options: str) -> dict[PurePosixPath, bytes]:
    """Clone a repository as a machine with such options does. Return the files."""
    settings = [f"--config=core.{name}={value}" for name, value in options.items()]
    command = ["git", "clone", "--quiet", *settings, str(source), str(folder)]
    subprocess.run(command, check=True)
    return {name: (folder / name).read_bytes() for name in names(folder) if name.parts[0] != ".git"}


@pytest.mark.parametrize("of", ["the template", "a project"])
def test_checkout_on_windows_has_the_same_bytes(bake: Bake, tmp_path: Path, of: str) -> None:
    source = TEMPLATE
    if of == "a project":
        source = tmp_path / "source"
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
        git = ["git", f"--git-dir={source}", f"--work-tree={bake(**ALL_ON)}", *identity]
        for command in ["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "Start"]:
            subprocess.run([*git, *command], check=True)
    here = clone(source, tmp_path / "here", autocrlf="false", eol="lf")
    on_windows = clone(source, tmp_path / "windows", autocrlf="true", eol="crlf")
    assert len(here) > 50
    assert on_windows == here


# Paths


def on_windows(path: PurePosixPath, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Tell whether cookiecutter copies a file without rendering it, on Windows."""
    context = {"cookiecutter": configuration()}
    with monkeypatch.context() as patch:
        patch.setattr(fnmatch.os.path, "normcase", ntpath.normcase)  # type: ignore[attr-defined]
        return bool(is_copy_only_path(str(PureWindowsPath(path)), context))


def test_the_same_files_are_rendered_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    context = {"cookiecutter": configuration()}
    here = {path: is_copy_only_path(str(path), context) for path in names(TREE)}
    assert set(here.values()) == {True, False}
    assert {path: on_windows(path, monkeypatch) for path in here} == here


def test_every_name_can_be_a_file_on_windows(bake: Bake) -> None:
    for path in (*names(TREE), *names(bake(**{**ALL_ON, **LONGEST}))):
        for part in path.parts:
            assert not re.search(r'[<>:"|?*\\]|[. ]$', part), path
            assert not DEVICES.fullmatch(part), path
    assert len({path.as_posix().lower() for path in names(TREE)}) == len(names(TREE))


def test_paths_are_short_enough_for_windows(bake: Bake) -> None:
    project = bake(**{**ALL_ON, **LONGEST})
    longest = max(len(str(path.relative_to(project.parent))) for path in project.rglob("*"))
    assert FOLDER + longest <= MAX_PATH
    assert (
        FOLDER + max(len(str(path.relative_to(TEMPLATE))) for path in TREE.rglob("*")) <= MAX_PATH
    )
