"""The git repositories of these tests: the template with a history, and projects of teams."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..bakes import TEMPLATE, Answers

# An earlier version of the template, for machines whose clone has no history. Made with:
# git archive c603af8 -- cookiecutter.json hooks '{{cookiecutter.project_slug}}' CHANGELOG.md | xz -9
OLD_TEMPLATE = Path(__file__).with_name("template-c603af8.tar.xz")

ADDRESS = "https://github.com/org/tornado-template"
ANSWERS_FILE = ".tornado-template.toml"
RUNTIME = "{{cookiecutter.project_slug}}/src/{{cookiecutter.package_name}}/runtime"
VERSION: str = json.loads((TEMPLATE / "cookiecutter.json").read_text("utf-8"))["_version"]
NEXT_VERSION = "99.0.0"


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
        archive.extractall(folder, filter="data")
    commit_all(folder, "The old version")
    git(folder, "rm", "--quiet", "-r", ".")
    listed = git(TEMPLATE, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in listed.split("\0")[:-1]:
        if (TEMPLATE / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TEMPLATE / name, folder / name)
    commit_all(folder, "This version")
    git(folder, "tag", f"v{VERSION}")


def make_newer_template(template: Path, folder: Path) -> None:
    """Make a clone of a template with a later release, which changes a bit of everything."""
    git(template.parent, "clone", "--quiet", str(template), str(folder))
    project = folder / "{{cookiecutter.project_slug}}"
    package = project / "src/{{cookiecutter.package_name}}"
    configuration = json.loads((folder / "cookiecutter.json").read_text("utf-8"))
    questions = {"_version": NEXT_VERSION, "colour": ["blue", "green"]}
    (folder / "cookiecutter.json").write_text(json.dumps({**configuration, **questions}), "utf-8")
    append(project / "README.md", "\n## Colours\n\nThe colour is {{ cookiecutter.colour }}.\n")
    append(project / "deploy/nginx/{{cookiecutter.project_slug}}.conf", "# Newer.\n")
    append(package / "greetings/model.py", "\n\nNEWER = True\n")
    (project / "deploy/newer.md").write_text("This file is newer.\n")
    (project / ".editorconfig").unlink()
    append(package / "runtime/cpus.py", "\n\nNEWER = True\n")
    (package / "runtime/newer.py").write_text('"""A new module."""\n')
    sums = [
        f"{sha256(file.read_bytes()).hexdigest()}  {file.relative_to(package / 'runtime')}\n"
        for file in sorted((package / "runtime").rglob("*"))
        if file.is_file() and file.name != "SHA256SUMS"
    ]
    (package / "runtime/SHA256SUMS").write_text("".join(sums))
    changelog = (folder / "CHANGELOG.md").read_text("utf-8")
    section = f"## {NEXT_VERSION}\n\n### What to do\n\n1. Install the Nginx file again.\n\n## "
    (folder / "CHANGELOG.md").write_text(changelog.replace("## ", section, 1), "utf-8")
    commit_all(folder, "A newer version")
    git(folder, "tag", f"v{NEXT_VERSION}")


def bake(template: Path, revision: str, folder: Path, answers: Answers) -> Path:
    """Generate a project from a version of a template, outside of git."""
    source = folder.with_name(f"{folder.name}-template")
    source.mkdir(parents=True)
    archive = source / "version.tar"
    git(template, "archive", f"--output={archive}", revision)
    with tarfile.open(archive) as files:
        files.extractall(source, filter="data")
    config = source / "config.json"
    places = {name: str(source / name) for name in ("cookiecutters_dir", "replay_dir")}
    config.write_text(json.dumps(places))
    output = folder.with_name(f"{folder.name}-output")
    command = (sys.executable, "-m", "cookiecutter", str(source), "--no-input")
    options = ("--config-file", str(config), "--output-dir", str(output))
    given = [f"{key}={value}" for key, value in answers.items()]
    done = run(source, *command, *options, *given, TMPDIR=str(source))
    assert done.code == 0, done.output
    [project] = output.iterdir()
    project.rename(folder)
    output.rmdir()
    shutil.rmtree(source)
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
        for key, value in {"package_name": "tornado_service", **answers}.items()
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
    """Resolve the conflicts of a merge as a careful person does: keep both. Returns the files."""
    git_paths = git(project, "diff", "--name-only", "--diff-filter=U", "-z").split("\0")
    found = sorted({path for path in git_paths if path})
    for path in found:
        file = project / path
        text = file.read_text("utf-8")
        file.write_text(re.sub(r"^(<<<<<<<|=======|>>>>>>>)( .*)?\n", "", text, flags=re.M))
        git(project, "add", path)
    git(project, "-c", "core.editor=true", "cherry-pick", "--continue")
    return found
