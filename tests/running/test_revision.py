"""The package says which revision of the code it was built from, however it is built."""

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ..tools import needs

TAG = "v0.1.0"
AFTER_TAG = rf"{TAG}-1-g[0-9a-f]{{12}}"
UNKNOWN = ""
FILE = "tornado_service/REVISION"
DOCKER = Path(__file__).with_name("engine")
"""A folder with a docker, and with what shows what that gets."""
MODULE = "src/tornado_service/app.py"


def git(folder: Path, *arguments: str) -> str:
    """Run git, as somebody with a name."""
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    done = subprocess.run(
        [needs("git"), *who, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout


def commit(folder: Path) -> None:
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=first")


def build(project: Path, *options: str, **environment: str) -> Path:
    """Build the package with uv, which calls the backend as pip does. Return the file."""
    folder = project.parent / "built"
    command = [needs("uv"), "build", "--quiet", f"--python={sys.executable}", f"--out-dir={folder}"]
    variables = {name: value for name, value in os.environ.items() if name != "REVISION"}
    subprocess.run([*command, *options], cwd=project, env={**variables, **environment}, check=True)
    [built] = [*folder.glob("*.whl"), *folder.glob("*.tar.gz")]
    return built


def revision(wheel: Path) -> str:
    """Return the revision in a wheel, and remove the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        found = archive.read(FILE).decode() if FILE in archive.namelist() else ""
    wheel.unlink()
    return found


@pytest.fixture
def project(bake_into: Callable[..., Path], tmp_path: Path) -> Path:
    """A project in a repository of its own, with a tag and a commit after it."""
    project = bake_into(tmp_path)
    commit(project)
    git(project, "tag", TAG)
    git(project, "commit", "--quiet", "--allow-empty", "--message=second")
    return project


def test_wheel_has_the_revision_and_the_work_tree_has_not(project: Path) -> None:
    assert re.fullmatch(f"{AFTER_TAG}\n", revision(build(project, "--wheel")))
    assert git(project, "status", "--short", "--ignored") == ""
    # A build that was killed leaves the file behind. The next one removes it.
    (project / "src" / FILE).write_text("v0.0.9\n")
    assert git(project, "status", "--short") == ""
    with (project / MODULE).open("a") as module:
        module.write("# edited\n")
    assert re.fullmatch(f"{AFTER_TAG}-dirty\n", revision(build(project, "--wheel")))
    assert git(project, "status", "--short", "--ignored") == f" M {MODULE}\n"


def test_sdist_has_the_revision_for_its_wheel(project: Path, tmp_path: Path) -> None:
    sdist = build(project, "--sdist")
    assert git(project, "status", "--short", "--ignored") == ""
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "-xf", sdist, "--strip-components=1"], cwd=unpacked, check=True)
    sdist.unlink()
    assert re.fullmatch(f"{AFTER_TAG}\n", revision(build(unpacked, "--wheel")))


def test_revision_is_unknown_without_git_and_in_the_folder_of_another_user(
    project: Path, tmp_path: Path
) -> None:
    cases = {"PATH": str(tmp_path), "GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}
    for name, value in cases.items():
        assert revision(build(project, "--wheel", **{name: value})) == UNKNOWN
    assert revision(build(project, "--wheel", REVISION="v7", **cases)) == "v7\n"


def test_revision_of_a_repository_further_up_counts_if_it_has_the_project(
    bake_into: Callable[..., Path], tmp_path: Path
) -> None:
    project = bake_into(tmp_path)
    assert revision(build(project, "--wheel")) == UNKNOWN  # a tarball, say
    (tmp_path / ".gitignore").write_text(f"/{project.name}/\n/built/\n")
    commit(tmp_path)
    assert revision(build(project, "--wheel")) == UNKNOWN
    (tmp_path / ".gitignore").write_text("/built/\n")
    commit(tmp_path)
    head = git(tmp_path, "rev-parse", "--short=12", "HEAD")
    assert revision(build(project, "--wheel")) == head


@pytest.mark.parametrize("target", ["image", "up"])
def test_make_gives_the_revision_to_docker(
    bake_into: Callable[..., Path], tmp_path: Path, target: str
) -> None:
    project = bake_into(tmp_path, deploy="docker")

    def given(**environment: str) -> str:
        """Return the revision that Compose and the Dockerfile get."""
        path = f"{DOCKER}{os.pathsep}{os.environ['PATH']}"
        fake = {"PATH": path, "PODMAN": "show", "OPTIONS": ""}
        variables = {**os.environ, **fake, "REVISION": "", **environment}
        command = ["make", "--silent", target]
        shown = subprocess.check_output(command, cwd=project, env=variables, text=True)
        lines = shown.splitlines()
        if target == "up":
            return lines[0]
        return lines[lines.index("--build-arg") + 1].removeprefix("REVISION=")

    assert given() == UNKNOWN
    commit(project)
    # Nothing in the name of a tag is a command.
    git(project, "tag", "v1;$(touch${IFS}pwned)`id`'")
    assert given() == "v1;$(touch${IFS}pwned)`id`'"
    (project / "README.md").write_text("edited")
    assert given().endswith("-dirty")
    assert given(REVISION="v7") == "v7"
    assert not (project / "pwned").exists()
