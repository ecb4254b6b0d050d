"""`make audit`, `make workflows` and `make lock`, with a service and indexes that may fail."""

import os
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..bakes import ALL_OFF, ALL_ON
from ..ports import free_port
from ..tools import PLACES, needs
from .environments import equip, install
from .osv import ENTRY, Osv, osv

Make = Callable[..., "subprocess.CompletedProcess[str]"]

PIN = re.compile(r"([a-z0-9-]+)==[\w.]+( ; .+)?")
UNSAFE = ".github/workflows/unsafe.yml"
WORKFLOW = """
on: pull_request_target
jobs:
  test:
    runs-on: ubuntu-24.04
    steps:
      - run: echo "${{ github.event.pull_request.title }}"
"""


@pytest.fixture
def known() -> Iterator[Osv]:
    """What is known of vulnerabilities: none, unless a test says otherwise."""
    with osv() as started:
        yield started


@pytest.fixture(scope="module")
def equipped(
    bake_into: Callable[..., Path], shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A project with the tools of all targets."""
    project = bake_into(tmp_path_factory.mktemp("equipped"))
    install(project, shared)
    equip(project, shared)
    return project


@pytest.fixture
def project(equipped: Path) -> Iterator[Path]:
    """The same project for all tests; what a test changes in these files is undone."""
    constraints = equipped / "constraints.txt"
    before = constraints.read_bytes()
    yield equipped
    (equipped / UNSAFE).unlink(missing_ok=True)
    constraints.write_bytes(before)
    (equipped / ".venv/tools/installed").touch()


@pytest.fixture
def make(project: Path, known: Osv) -> Make:
    """Run make in the project, by default not in CI."""

    def make(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["make", *arguments],
            cwd=project,
            env={**os.environ, "PATH": PLACES, "CI": "", "OSV_URL": known.url, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return make


# What is known


def test_all_pinned_versions_are_audited(make: Make, project: Path, known: Osv) -> None:
    done = make("audit", CI="true")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "No known vulnerabilities found\n"
    lines = (project / "constraints.txt").read_text().splitlines()
    pins = [line.split(" ")[0] for line in lines if "==" in line and "win32'" not in line]
    pins += [line.split(" ")[0] for line in lines if "!= 'win32'" in line]
    assert {f"{name}=={version}" for name, version in known.asked.items()} == set(pins)


def test_vulnerability_is_a_failure_until_it_is_ignored(make: Make, known: Osv) -> None:
    known.vulnerable.add("tornado")
    done = make("audit")
    assert done.returncode != 0
    assert re.search(rf"^tornado +\S+ +{ENTRY['id']}", done.stdout, re.MULTILINE)
    assert "Found 1 known vulnerability in 1 package" in done.stderr
    assert make("audit", f"IGNORED_VULNERABILITIES={ENTRY['id']}").returncode == 0


def test_service_out_of_reach_is_said_and_fails_in_ci(make: Make) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    done = make("audit", OSV_URL=nowhere)
    assert done.returncode == 0
    assert done.stderr.startswith("Not audited: requests.exceptions.ConnectionError")
    assert nowhere.removeprefix("http://127.0.0.1:") in done.stderr
    done = make("audit", OSV_URL=nowhere, CI="true")
    assert done.returncode != 0
    assert "Not audited: " in done.stderr


def test_service_that_fails_is_not_taken_for_good_news(make: Make, known: Osv) -> None:
    known.status = 503
    done = make("audit")
    assert (done.returncode, done.stdout) == (0, "")
    assert "Not audited: " in done.stderr
    assert make("audit", CI="true").returncode != 0


def test_constraints_that_cannot_be_read_are_a_failure(make: Make, project: Path) -> None:
    (project / "constraints.txt").write_text("tornado>=6\n")
    (project / ".venv/tools/installed").touch()
    done = make("audit")
    assert done.returncode != 0
    assert "Not audited: " in done.stderr


def test_unsafe_workflow_is_a_failure(make: Make, project: Path) -> None:
    assert make("workflows").returncode == 0
    (project / UNSAFE).write_text(WORKFLOW)
    done = make("workflows")
    assert done.returncode != 0
    assert "unsafe.yml" in done.stdout


# What is newer


@pytest.mark.parametrize("answers", [ALL_ON, ALL_OFF], ids=["all-on", "all-off"])
def test_lock_renews_all_versions_and_keeps_the_format(
    bake_into: Callable[..., Path], shared: Path, tmp_path: Path, answers: dict[str, Any]
) -> None:
    project = bake_into(tmp_path, **answers)
    install(project, shared)
    equip(project, shared)
    constraints = project / "constraints.txt"
    baked = constraints.read_text()
    constraints.write_text(re.sub("^orjson==.*", "orjson==3.11.0", baked, flags=re.MULTILINE))
    (project / ".venv/tools/installed").touch()
    subprocess.run(["make", "lock"], cwd=project, env={**os.environ, "PATH": PLACES}, check=True)
    comments = [line for line in baked.splitlines() if line.startswith("#")]
    head, pins = (lines := constraints.read_text().splitlines())[:2], lines[2:]
    assert head == comments
    assert [line for line in pins if not PIN.fullmatch(line)] == []
    names = [line.split("==")[0] for line in pins]
    assert names == sorted(names)
    assert "orjson==3.11.0" not in pins
    data = tomllib.loads((project / "pyproject.toml").read_text())
    direct = [data["project"]["dependencies"], *data["dependency-groups"].values()]
    assert {re.split("[<>=;]", line)[0] for group in direct for line in group} <= set(names)
    resolve = [needs("uv"), "pip", "install", "--dry-run", "--python", ".venv"]
    every = ["--group=dev", "--group=tools", "--requirement=pyproject.toml"]
    subprocess.run([*resolve, *every, "--constraint=constraints.txt"], cwd=project, check=True)


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_lock_asks_the_index_of_its_installer(
    make: Make, project: Path, tmp_path: Path, installer: str
) -> None:
    index = f"127.0.0.1:{free_port()}"
    config = tmp_path / "pip.conf"
    config.write_text(f"[global]\nindex-url = http://{index}/simple\n")
    environment = {
        "pip": {"PATH": "/usr/bin:/bin", "PIP_CONFIG_FILE": str(config)},
        "uv": {"UV_DEFAULT_INDEX": f"http://{index}/simple"},
    }
    before = (project / "constraints.txt").read_text()
    own = {"UV_NO_CACHE": "1", "UV_HTTP_RETRIES": "0", **environment[installer]}
    done = make("lock", **own)
    assert done.returncode != 0
    assert index in done.stderr
    assert (project / "constraints.txt").read_text() == before
