"""CONTRIBUTING's "Add a feature in five steps", followed literally on a copy of the template.

What a step names between backticks is what is done, in that order. `adding/steps.py` has a function
for each name, and `adding/` the files of a new part.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from . import checkout
from .adding.steps import STEPS, make
from .bakes import TEMPLATE

pytestmark = pytest.mark.slow

ITEM = re.compile(r"^\d\. \*\*(\w+)\.?\*\*(.*?)(?=^\d\. |^$)", re.MULTILINE | re.DOTALL)
PLACE = re.compile(r"`([^`]+)`(?: (in `[^`]+`))?")
"""A name between backticks, and where it is, if that is named, too."""

QUICK = ["tests/test_manifest.py", "tests/test_runtime_files.py", "tests/test_absent.py"]
# It changes imports, one after the other, which takes long.
QUICK += ["-k", "not test_import_against_the_arrows_is_noticed"]


def named() -> dict[str, list[str]]:
    """Return what each step names, in order."""
    text = (TEMPLATE / "CONTRIBUTING.md").read_text("utf-8")
    section = text.partition("\n## Add a feature in five steps\n")[2].partition("\n## ")[0]
    return {
        step: [" ".join(filter(None, place)).replace("`", "") for place in PLACE.findall(text)]
        for step, text in ITEM.findall(section)
    }


PLACES = [(step, name) for step, names in named().items() for name in names]


def follow(template: Path, places: list[tuple[str, str]]) -> None:
    """Do what the steps say at some places, in order."""
    for step, name in places:
        STEPS[step][name](template)


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A copy of this template, under git."""
    folder = tmp_path / "template"
    checkout.copy_to(folder)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def run_tests(template: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=template,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def run_quick_tests(template: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return run_tests(template, "-p", "tests.adding.extremes", *QUICK, *arguments)


def test_steps_name_what_is_done() -> None:
    assert named() == {step: [*names] for step, names in STEPS.items()}


def test_new_part_passes_the_quick_tests_present_and_absent(template: Path) -> None:
    follow(template, PLACES)
    for done in (
        run_quick_tests(template, "tests/test_bake.py"),
        run_tests(template, "tests/runtime/slowest"),
    ):
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.exhaustive
def test_new_part_is_checked_and_runs(template: Path) -> None:
    follow(template, PLACES)
    make(template, "check")
    done = run_tests(
        template,
        *("tests/running/test_slowest.py", "tests/running/test_projects.py"),
        *("-k", "slowest or all-on-awkward or all-off"),
    )
    assert done.returncode == 0, done.stdout + done.stderr


def assert_noticed(template: Path) -> None:
    """Check that a test fails. It has one that does: the tools themselves work."""
    done = run_quick_tests(template, "--exitfirst")
    assert (done.returncode, done.stderr) == (1, "")
    assert re.search("^(FAILED|ERROR) ", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.parametrize("step", STEPS)
def test_step_that_is_left_out_is_noticed(template: Path, step: str) -> None:
    follow(template, [place for place in PLACES if place[0] != step])
    assert_noticed(template)


@pytest.mark.exhaustive
@pytest.mark.parametrize("left_out", PLACES, ids=": ".join)
def test_place_that_is_left_out_is_noticed(template: Path, left_out: tuple[str, str]) -> None:
    follow(template, [place for place in PLACES if place != left_out])
    assert_noticed(template)
