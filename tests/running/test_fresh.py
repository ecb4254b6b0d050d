"""The READMEs' commands on a fresh Debian that has python3, git and make, and nothing else of use.

It is a container with the network and the settings of pip of this machine. Its template is the last
commit here.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .. import get_pip
from ..bakes import TEMPLATE
from ..commands import commands
from ..ports import free_port, free_ports
from ..tools import AS_ROOT, needs
from .harness import PATIENCE, is_open, until

SUITE = "bookworm"
PACKAGES = ["ca-certificates", "git", "make", "python3"]

USER, HOME = "ada", "/home/ada"
CLONE = "git clone https://github.com/org/tornado-template"

ANSWERS_FILE = ".tornado-template.toml"

SETTINGS_OF_PIP = {
    "cert",
    "default-timeout",
    "index-url",
    "proxy",
    "retries",
    "timeout",
    "trusted-host",
}
PROXIES = {"http_proxy", "https_proxy", "no_proxy"}


@dataclass
class Debian:
    """A container: each command starts it and stops it again, and its files stay."""

    tree: Path
    environment: dict[str, str]

    def run(self, line: str, folder: str = HOME, *, check: bool = True, **environment: str) -> str:
        """Run a command as its user. Return what it prints, errors as well."""
        done = subprocess.run(
            self._command(f"exec 2>&1; {line}", folder, environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60 * PATIENCE,
            check=False,
        )
        assert (done.returncode == 0) == check, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def serving(self, line: str, folder: str) -> Iterator[int]:
        """Run a command that serves. Return its port."""
        port, admin_port = free_ports(2)
        ports = {"APP_PORT": str(port), "APP_ADMIN_PORT": str(admin_port)}
        command = self._command(line, folder, ports)
        with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
            try:
                until(lambda: is_open(port) or process.poll(), "a port", 5 * PATIENCE)
                yield port
            finally:
                process.terminate()
        assert not is_open(port)

    def _command(self, line: str, folder: str, environment: dict[str, str]) -> list[str]:
        run = [needs("systemd-nspawn"), "--quiet", f"--directory={self.tree}", "--register=no"]
        if not Path("/run/systemd/system").is_dir():
            # There is no systemd out here that could be asked for a control group.
            run += ["--keep-unit"]
        run += ["--console=pipe", "--as-pid2", "--link-journal=no", "--timezone=off"]
        run += ["--resolv-conf=copy-host", f"--user={USER}", f"--chdir={folder}"]
        variables = {**self.environment, **environment}
        run += [f"--setenv={name}={value}" for name, value in variables.items()]
        return [*AS_ROOT, *run, "bash", "-c", line]


def network() -> dict[str, str]:
    """Return the variables that say how pip reaches its index from here."""
    settings = get_pip.load().read_settings()
    found = {
        f"PIP_{name.upper().replace('-', '_')}": settings[name]
        for name in SETTINGS_OF_PIP & settings.keys()
    }
    proxies = [name for name in os.environ if name.lower() in PROXIES]
    return found | {name: os.environ[name] for name in proxies}


def greeting(port: int) -> str:
    """Request what the READMEs do, from out here."""
    command = [needs("curl"), "--silent", "--show-error", f"http://127.0.0.1:{port}/greetings/Ada"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Debian]:
    """A Debian with the template, as if that were where its README says."""
    needs("systemd-nspawn")
    folder = tmp_path_factory.mktemp("fresh")
    tree, origin = folder / "tree", folder / "origin"
    subprocess.run(["git", "clone", "--quiet", "--bare", TEMPLATE, origin], check=True)
    make = [needs("mmdebstrap"), "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    make += [
        f'--customize-hook=chroot "$1" useradd --create-home --shell /bin/bash {USER}',
        f"--customize-hook=copy-in {origin} {HOME}",
        f'--customize-hook=chroot "$1" chown --recursive {USER} {HOME}',
    ]
    variables = network()
    if certificates := variables.get("PIP_CERT"):
        make += [f"--customize-hook=upload {certificates} {certificates}"]
    subprocess.run([*AS_ROOT, *make, SUITE, str(tree)], check=True, timeout=9 * PATIENCE)
    made = Debian(tree, variables)
    made.run(f"git config --global url.{HOME}/origin.insteadOf {CLONE.split()[-1]}")
    yield made
    subprocess.run([*AS_ROOT, "rm", "-rf", "--one-file-system", str(tree)], check=True)


@pytest.fixture(scope="module")
def template(debian: Debian) -> str:
    """The folder of a clone."""
    debian.run(CLONE)
    return f"{HOME}/tornado-template"


@pytest.fixture(scope="module")
def project(debian: Debian, template: str) -> str:
    """The folder of a project with the default answers."""
    debian.run("make build/.venv/cookiecutter", template)
    bake = "build/.venv/bin/python -m cookiecutter . --no-input --output-dir"
    debian.run(f"{bake} {HOME}", template)
    return f"{HOME}/tornado-service"


def test_it_has_nothing_else_of_use(debian: Debian) -> None:
    for command in ("cc", "curl", "pip", "uv", "wget", "python3 -m ensurepip", "python3 -m pip"):
        debian.run(command, check=False)


def test_demo(debian: Debian, template: str) -> None:
    lines = [command.line for command in commands(TEMPLATE / "README.md")]
    assert {CLONE, "cd tornado-template", "make demo"} <= set(lines)
    with debian.serving("make demo", template) as port:
        assert greeting(port) == '{"message":"Hello, Ada!"}'


def test_project(debian: Debian, project: str) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/simple"
    shown = debian.run("make run", project, check=False, PIP_INDEX_URL=nowhere)
    doing, reason, end = shown.splitlines()
    assert doing.startswith("Installing the service")
    assert reason.startswith(f"Cannot download pip from {nowhere}: ")
    assert reason.endswith("sudo apt install python3-venv")
    assert end.startswith("make: *** ")

    with debian.serving("make run", project) as port:
        assert greeting(port) == '{"message":"Hello, Ada!"}'
    assert " passed" in debian.run("make test", project)


def test_update(debian: Debian, template: str, project: str) -> None:
    debian.run("git init && git add --all", project)
    # That git needs a name says git itself, before anybody can update.
    without_name = debian.run("git commit --message=Generated", project, check=False)
    assert "Please tell me who you are" in without_name
    debian.run("git config --global user.name Ada", project)
    debian.run("git config --global user.email ada@example.com", project)
    debian.run("git commit --message=Generated", project)
    file = ".editorconfig"
    release = "git commit --all --message=New && git tag v99.0.0"
    debian.run(f"echo '# New.' >> *}}}}/{file} && {release}", template)

    update = "make update SOURCE=../tornado-template"
    states = "git status --short --branch; git log --oneline --all"
    before = debian.run(states, project)
    assert f"  change    {file}\n" in debian.run(f"{update} DRY_RUN=1", project)
    assert debian.run(states, project) == before
    assert "Done. You are on " in debian.run(update, project)
    assert debian.run("git diff --name-only HEAD~", project).split() == [file, ANSWERS_FILE]


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
def test_quick_tests_of_the_template(debian: Debian, template: str) -> None:
    assert " passed" in debian.run("make quick", template)
