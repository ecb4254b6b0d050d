"""The git repositories of these tests: the template with a history, and projects of teams."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from cookiecutter.main import cookiecutter

from .. import checkout
from ..bakes import TEMPLATE, Answers

# An earlier version of the template, for machines whose clone has no history. Made with git archive
# c603af8 -- cookiecutter.json hooks '{{cookiecutter.project_slug}}' CHANGELOG.md | xz -9
OLD_TEMPLATE = Path(__file__).with_name("template-c603af8.tar.xz")

ADDRESS = "https://github.com/org/tornado-template"
ANSWERS_FILE = ".tornado-template.toml"
PROJECT = "{{cookiecutter.project_slug}}"
RUNTIME = f"{PROJECT}/src/{{{{cookiecutter.package_name}}}}/runtime"
SMALL = (
    *("CHANGELOG.md", "Makefile", "constraints.txt", "cookiecutter.json", "pyproject.toml"),
    *("hooks/*", "updating/*"),
    *(f"{PROJECT}/{name}" for name in (".[egt]*", "Makefile", "README.md", "constraints.txt")),
    *(f"{PROJECT}/deploy/{folder}/*" for folder in ("nginx", "prometheus")),
    *(f"{PROJECT}/src/*/{name}" for name in ("__*.py", "app.py", "settings.py", "greetings/*")),
    *(f"{RUNTIME}/{name}" for name in ("README.md", "VERSION", "checksums.py", "cpus.py")),
    f"{RUNTIME}/metrics/*",
)
"""The files of a small template."""
VERSION: str = json.loads((TEMPLATE / "cookiecutter.json").read_text("utf-8"))["_version"]
NEXT_VERSION = "99.0.0"
NAMES = {"project_name": "Tornado Service", "package_name": "tornado_service"}
"""The default names, which an answers file must have."""


Once = Callable[[str, Callable[[Path], object]], Path]
"""Makes a folder of this name once for all processes that run the tests."""


@dataclass(frozen=True)
class Done:
    """What a command printed, and its exit code."""

    code: int
    output: str


def git(folder: Path, *arguments: str, **environment: str) -> str:
    """Run git, which must succeed. Returns what it printed."""
    done = run(folder, "git", *arguments, **environment)
    assert done.code == 0, done.output
    return done.output.strip("\n")


def run(folder: Path, *command: str, **environment: str) -> Done:
    """Run a command."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Done(done.returncode, done.stdout)


def update(template: Path, project: Path, **variables: str) -> Done:
    """Update a project as ``make update`` does it, without make, which hides the exit code."""
    variables = {"PROJECT": str(project), **variables}
    return run(template, sys.executable, "-m", "updating", **variables)


def commit_all(folder: Path, message: str) -> str:
    """Commit everything, also what git would ignore. Returns the commit."""
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--message", message)
    return git(folder, "rev-parse", "HEAD")


def commit(folder: Path, message: str = "Change it") -> str:
    """Commit everything that git does not ignore. Returns the commit."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)
    return git(folder, "rev-parse", "HEAD")


def make_template(folder: Path) -> None:
    """Make a repository with two versions of the template: an old one, and this one, a release."""
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    with tarfile.open(OLD_TEMPLATE) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # since Python 3.11.4
        archive.extractall(folder)
    commit_all(folder, "The old version")
    git(folder, "rm", "--quiet", "-r", ".")
    checkout.copy_to(folder)
    commit_all(folder, "This version")
    git(folder, "tag", f"v{VERSION}")


def make_newer_template(template: Path, folder: Path) -> None:
    """Make a clone of a template with a later release, which changes a bit of everything."""
    git(template.parent, "clone", "--quiet", str(template), str(folder))
    change_template(folder)
    commit_all(folder, "A newer version")
    git(folder, "tag", f"v{NEXT_VERSION}")


def make_small_template(folder: Path) -> None:
    """Make a repository with two releases of a template that has a part of the files only.

    It generates a project in a third of the time.
    """
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    checkout.copy_to(folder, *SMALL)
    write_checksums(folder / RUNTIME)
    commit_all(folder, "This version")
    git(folder, "tag", f"v{VERSION}")
    change_template(folder)
    commit_all(folder, "A newer version")
    git(folder, "tag", f"v{NEXT_VERSION}")


def change_template(folder: Path) -> None:
    """Change a bit of everything: files, a part of the runtime, the questions, what to do."""
    project = folder / PROJECT
    package = project / "src/{{cookiecutter.package_name}}"
    configuration = json.loads((folder / "cookiecutter.json").read_text("utf-8"))
    questions = {"_version": NEXT_VERSION, "colour": ["blue", "green"]}
    (folder / "cookiecutter.json").write_text(json.dumps({**configuration, **questions}), "utf-8")
    title, _, rest = (project / "README.md").read_text("utf-8").partition("\n")
    newer = f"{title}\n\nThe colour is {{{{ cookiecutter.colour }}}}.\n{rest}"
    (project / "README.md").write_text(newer, "utf-8")
    append(project / "deploy/nginx/{{cookiecutter.project_slug}}.conf", "# Newer.\n")
    append(package / "greetings/model.py", "\n\nNEWER = True\n")
    (project / "deploy/newer.md").write_text("This file is newer.\n")
    (project / ".editorconfig").unlink()
    append(package / "runtime/cpus.py", "\n\nNEWER = True\n")
    (package / "runtime/newer.py").write_text('"""A new module."""\n')
    write_checksums(package / "runtime")
    changelog = (folder / "CHANGELOG.md").read_text("utf-8")
    section = f"## {NEXT_VERSION}\n\n### What to do\n\n1. Install the Nginx file again.\n\n## "
    (folder / "CHANGELOG.md").write_text(changelog.replace("## ", section, 1), "utf-8")


def write_checksums(runtime: Path) -> None:
    """Write the checksums of a runtime, as ``make runtime`` does."""
    sums = [
        f"{sha256(file.read_bytes()).hexdigest()}  {file.relative_to(runtime)}\n"
        for file in sorted(runtime.rglob("*"))
        if file.is_file() and file.name != "SHA256SUMS"
    ]
    (runtime / "SHA256SUMS").write_text("".join(sums))


def bake(template: Path, revision: str, folder: Path, answers: Answers) -> Path:
    """Generate a project from a version of a template, outside of git."""
    beside = folder.with_name(f"{folder.name}-baked")
    source, output = beside / "template", beside / "output"
    index = str(beside / "index")
    beside.mkdir(parents=True)
    git(template, "read-tree", revision, GIT_INDEX_FILE=index)
    git(template, "checkout-index", "--all", f"--prefix={source}/", GIT_INDEX_FILE=index)
    places = {name: str(beside / name) for name in ("cookiecutters_dir", "replay_dir")}
    (beside / "config.json").write_text(json.dumps(places))
    with pytest.MonkeyPatch.context() as patch:
        # cookiecutter never removes the rendered hooks that it writes there.
        patch.setattr(tempfile, "tempdir", str(beside))
        project = cookiecutter(
            str(source),
            no_input=True,
            extra_context=dict(answers),
            output_dir=str(output),
            config_file=str(beside / "config.json"),
        )
    Path(project).rename(folder)
    shutil.rmtree(beside)
    return folder


def begin(project: Path) -> str:
    """Put a project under git. Returns the commit."""
    git(project, "init", "--quiet", "--initial-branch=main")
    return commit(project, "Generate the project")


def write_answers(project: Path, answers: Answers) -> None:
    """Write the answers file, which old projects do not have, as its owner does."""
    text = {True: "true", False: "false"}
    lines = [
        f"{key} = {text.get(value) or json.dumps(value, ensure_ascii=False)}\n"
        for key, value in {**NAMES, **answers}.items()
    ]
    content = "".join([f'template = "{ADDRESS}"\n\n[answers]\n', *lines])
    (project / ANSWERS_FILE).write_text(content, "utf-8")


def append(file: Path, text: str) -> None:
    """Add text to the end of a file."""
    file.write_text(file.read_text("utf-8") + text, "utf-8")


def replace(file: Path, old: str, new: str) -> None:
    """Replace a text that a file has once."""
    text = file.read_text("utf-8")
    assert text.count(old) == 1, f"{file.name} has {old!r} {text.count(old)} times"
    file.write_text(text.replace(old, new), "utf-8")


def files(project: Path) -> dict[str, Any]:
    """Return the bytes of all files of a project, with the executable bit or the link's target."""
    names = git(project, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return {name: _content(project / name) for name in names.split("\0") if name}


def _content(file: Path) -> tuple[str, Any]:
    if file.is_symlink():
        return "link", os.readlink(file)
    return "program" if os.access(file, os.X_OK) else "file", file.read_bytes()


def snapshot(project: Path) -> dict[str, bytes]:
    """Return the bytes of everything in the folder of a project, what git keeps included."""
    return {
        str(path.relative_to(project)): path.read_bytes()
        for path in sorted(project.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def resolve(project: Path) -> list[str]:
    """Resolve the conflicts of a merge as a careful person does. Returns the files.

    Both sides are kept, but for the routes: CHANGELOG.md says that they stay the team's.
    """
    git_paths = git(project, "diff", "--name-only", "--diff-filter=U", "-z").split("\0")
    found = sorted({path for path in git_paths if path})
    for path in found:
        file = project / path
        text = file.read_text("utf-8")
        if file.name == "app.py":
            text = re.sub(r"^=======\n.*?(?=^>>>>>>> )", "", text, flags=re.M | re.S)
        file.write_text(re.sub(r"^(<<<<<<<|=======|>>>>>>>)( .*)?\n", "", text, flags=re.M))
        git(project, "add", path)
    return found


def told(done: Done, after: str) -> list[str]:
    """Return the commands that an output tells the user after a text."""
    _, found, rest = done.output.partition(f"{after}\n")
    assert found, done.output
    return list(takewhile(lambda line: line.startswith("  "), rest.split("\n")))


def last_told(done: Done) -> list[str]:
    """Return the commands that an output tells the user last."""
    found = re.findall(r"^((?:  .*\n)+)(?!  )", done.output, re.M)
    assert found, done.output
    return str(found[-1]).strip("\n").split("\n")


def follow(project: Path, commands: list[str]) -> None:
    """Type commands that a user is told."""
    assert commands
    environment = {**os.environ, "GIT_EDITOR": "true"}
    for command in commands:
        subprocess.run(command, shell=True, cwd=project, env=environment, check=True)
