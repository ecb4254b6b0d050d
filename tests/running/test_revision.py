"""The package says which revision of the code it was built from, however it is built."""

import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

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


@pytest.fixture
def backend(project: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The build backend of the project, which is the current folder, without what builds."""
    for name in "flit_core", "flit_core.buildapi":
        monkeypatch.setitem(sys.modules, name, MagicMock())
    monkeypatch.delenv("REVISION", raising=False)
    monkeypatch.chdir(project)
    spec = importlib.util.spec_from_file_location("build_backend", "tools/build_backend.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_folder_that_cannot_be_written_to_is_built(
    backend: ModuleType, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project / "src" / FILE
    file.mkdir()
    with backend.revision_file():
        pass
    file.rmdir()
    [line] = capsys.readouterr().err.splitlines()
    assert re.match(r"The package will not say its revision: \[Errno .*REVISION'$", line)


def test_two_builds_in_one_folder(backend: ModuleType, project: Path) -> None:
    with backend.revision_file(), backend.revision_file():
        assert re.fullmatch(f"{AFTER_TAG}\n", (project / "src" / FILE).read_text())
    assert not (project / "src" / FILE).exists()


def test_refusal_of_git_is_told(
    backend: ModuleType,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with backend.revision_file():
        assert not (project / "src" / FILE).exists()
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith(f"dubious ownership in repository at '{project}'")


@pytest.mark.parametrize("target", ["image", "up"])
def test_make_gives_the_revision_to_docker(
    bake_into: Callable[..., Path], tmp_path: Path, target: str
) -> None:
    project = bake_into(tmp_path, deploy="docker")
    # One further up that has no project.
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message=another")

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
