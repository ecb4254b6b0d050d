"""Generates a project with a single process, tests it, starts it and stops it, without make.

``python -m maintenance.smoke FOLDER`` runs on Linux, macOS and Windows. It needs cookiecutter, and
installs what the project needs into its `.venv`.
"""

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import ROOT

SLUG, PACKAGE = "tornado-service", "tornado_service"
ANSWERS = {
    "processes": "single",
    "deploy": "none",
    "tracing": "true",
    "author_name": "Zoë 予約 🚀",
    "description": "It's 予約 🚀",
}
START_TIMEOUT = 60.0
"""Seconds until it must serve, and until it must have stopped."""
POLL_INTERVAL = 0.05
"""Seconds between two looks at its log."""


class SmokeError(Exception):
    """The project does not do what it should."""


def generate(folder: Path) -> Path:
    """Generate a project below a folder, and return its folder."""
    _run(_cookiecutter(folder, **ANSWERS), folder)
    project = folder / SLUG
    for path in project.rglob("*"):
        if path.is_file() and b"\r" in path.read_bytes():
            raise SmokeError(f"{path} has the line ends of Windows")
    return project


def refuse(folder: Path) -> None:
    """Give bad answers, which must leave nothing behind. Raises `SmokeError`."""
    command = _cookiecutter(folder, workers="0", author_email="nobody", description="It's 🚀")
    done = subprocess.run(command, capture_output=True, check=False)
    messages = done.stderr.decode(errors="replace")
    for text in (
        "workers must be ",
        "author_email must look like ",
        "cookiecutter ",
        "project_slug=",
    ):
        if not done.returncode or text not in messages:
            raise SmokeError(f"bad answers are not refused with {text!r}: {messages}")
    if list(folder.iterdir()):
        raise SmokeError("bad answers leave something behind")


def switch_off(project: Path) -> None:
    """Generate it again without a part in which its owner has a file. Raises `SmokeError`."""
    own = project / "deploy/nginx/own.pem"
    own.write_text("a key", "utf-8")
    answers = {**ANSWERS, "nginx": "false"}
    _run(_cookiecutter(project.parent, "--overwrite-if-exists", **answers), project.parent)
    if list(own.parent.iterdir()) != [own]:
        raise SmokeError(f"{own.parent} has not kept the owner's file alone")


def install(project: Path) -> Path:
    """Install a project and the tools for its tests into `.venv`. Return its Python."""
    folder = project / ".venv"
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    groups = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--constraint", "constraints.txt", "--editable", ".", *groups["dev"]], project)
    return python


def check(project: Path, python: Path) -> None:
    """Run what `make check` runs."""
    for module in (["ruff", "format", "--check", "."], ["ruff", "check", "."], ["mypy"]):
        _run([str(python), "-m", *module], project)
    _run([str(python.with_name("lint-imports")), "--no-cache", "--no-logo"], project)
    _run([str(python), "-m", f"{PACKAGE}.runtime.checksums"], project)


def run_tests(project: Path, python: Path) -> None:
    """Run what `make test` runs."""
    _run([str(python), "-m", "pytest", "--cov", "--cov-report=term"], project)


def serve(project: Path, python: Path) -> None:
    """Start the service, ask it and stop it. Raises `SmokeError`."""
    settings = {"APP_PORT": "0", "APP_ADMIN_PORT": "0", "APP_LOG_FILE": "service.log"}
    log = project / "service.log"
    service = subprocess.Popen(
        [python, "-m", PACKAGE],
        cwd=project,
        env={**os.environ, **settings},
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )
    try:
        ports = _wait_until_listening(service, log)
        greeting = _ask(f"http://127.0.0.1:{ports[0]}/greetings/Zo%C3%AB")
        if greeting != {"message": "Hello, Zoë!"}:
            raise SmokeError(f"it responds {greeting}")
        if _ask(f"http://127.0.0.1:{ports[1]}/readyz") != {"ready": True}:
            raise SmokeError("it is not ready")
        service.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))
        code = service.wait(START_TIMEOUT)
    finally:
        service.kill()
        service.wait()
    if code or _records(log)[-1]["message"] != "stopped":
        raise SmokeError(f"it has not drained: exit code {code}")
    if b"\r" in log.read_bytes():
        raise SmokeError("its log has the line ends of Windows")


def command(project: Path, python: Path) -> None:
    """Run the command that is installed with the project."""
    _run([str(python.with_name(SLUG)), "--version"], project)
    _run([str(python.with_name(SLUG)), "check"], project)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do all of it in a folder, which must be empty or new."""
    parser = argparse.ArgumentParser(prog="python -m maintenance.smoke", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args(arguments).folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(sys.stdout, io.TextIOWrapper):  # on Windows it may not have all letters
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        refuse(folder)
        project = generate(folder)
        python = install(project)
        for step in check, run_tests, command, serve:
            step(project, python)
        switch_off(project)
    except SmokeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _cookiecutter(folder: Path, *options: str, **answers: str) -> list[str]:
    options = (*options, "--no-input", "--default-config", "--output-dir", str(folder))
    given = [f"{key}={value}" for key, value in answers.items()]
    return [sys.executable, "-m", "cookiecutter", *options, str(ROOT), *given]


def _run(command: Sequence[str], folder: Path) -> None:
    print("$", *command, flush=True)
    if subprocess.run(command, cwd=folder, check=False).returncode:
        raise SmokeError(f"failed: {command}")


def _wait_until_listening(service: subprocess.Popen[bytes], log: Path) -> list[int]:
    """Return the public and the admin port."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and service.poll() is None:
        for record in _records(log):
            if record["message"].startswith("listening on "):
                return [int(url.rpartition(":")[2]) for url in record["message"].split(", ")]
        time.sleep(POLL_INTERVAL)
    raise SmokeError("it does not listen")


def _records(log: Path) -> list[Mapping[str, Any]]:
    lines = log.read_text("utf-8").splitlines(keepends=True) if log.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _ask(url: str) -> Any:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url) as response:
        return json.load(response)


if __name__ == "__main__":
    sys.exit(main())
