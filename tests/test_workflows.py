"""The template's own workflows. Those of projects are in `test_bake.py`."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from .bakes import TEMPLATE, choices
from .tools import needs

GITHUB = TEMPLATE / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))


def accepted(*command: str | Path) -> None:
    """Run a checker, which must have nothing to say."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def jobs(name: str) -> dict[str, Any]:
    content = yaml.safe_load((GITHUB / f"workflows/{name}.yml").read_text("utf-8"))
    found: dict[str, Any] = content["jobs"]
    return found


def commands(name: str) -> list[str]:
    return [step["run"] for job in jobs(name).values() for step in job["steps"] if "run" in step]


def test_workflows_are_safe() -> None:
    accepted(needs("zizmor"), "--offline", "--no-progress", GITHUB)


def test_configuration_matches_its_schema() -> None:
    check = [needs("check-jsonschema"), "--builtin-schema"]
    accepted(*check, "vendor.github-workflows", *WORKFLOWS)
    accepted(*check, "vendor.dependabot", GITHUB / "dependabot.yml")


def test_folders_that_dependabot_looks_into_exist() -> None:
    configuration = yaml.safe_load((GITHUB / "dependabot.yml").read_text("utf-8"))
    for update in configuration["updates"]:
        assert (TEMPLATE / update["directory"].strip("/")).is_dir(), update


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_command_exists(path: Path) -> None:
    targets = re.findall(r"^([\w-]+):", (TEMPLATE / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert commands(path.stem)
    for command in commands(path.stem):
        program, *rest = command.split()
        if program in ("make", ".ci/run"):
            assert {*rest[:1]} <= {*targets}, command
        elif rest[:1] == ["-m"] and rest[1] != "pip":
            assert (TEMPLATE / f"{rest[1].replace('.', '/')}.py").is_file(), command
        else:
            assert program == "python" or (TEMPLATE / program).is_file(), command


def test_every_python_is_tested() -> None:
    versions = choices()["python_version"]
    for job in jobs("weekly").values():
        assert job.get("strategy", {"matrix": {"python": versions}})["matrix"]["python"] == versions
    assert jobs("ci")["test"]["strategy"]["matrix"]["python"] == [versions[0], versions[-1]]


def test_a_project_is_tried_on_every_system() -> None:
    systems = jobs("ci")["platform"]["strategy"]["matrix"]["system"]
    assert [system.partition("-")[0] for system in systems] == ["ubuntu", "macos", "windows"]
