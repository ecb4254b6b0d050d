"""The template: its versions, and the projects that they generate."""

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .errors import UpdateError
from .git import Git

Answer = str | bool
Answers = dict[str, Answer]

RELEASE = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
"""The tag of a release."""

RELEASES = ("--match=v[0-9]*", "--exclude=*-*")
"""Options of ``git describe``: no other tag names a version."""

TEMPLATE = Path(__file__).parents[1]

RUNTIME = "{{cookiecutter.project_slug}}/src/{{cookiecutter.package_name}}/runtime"

SOURCES = ("{{cookiecutter.project_slug}}", "hooks", "cookiecutter.json")
"""What a project is generated from."""

SUMS = f"{RUNTIME}/SHA256SUMS"
"""Has the same bytes in every project of a version."""


@dataclass(frozen=True)
class Version:
    """A version of the template.

    Attributes:
        name: ``0.2.0`` for a release, otherwise as ``git describe`` names the commit.
        commit: its full hash.
    """

    name: str
    commit: str


class Template:
    """The template's repository, with its whole history.

    Args:
        folder: a clone, which is not changed.
        work: an empty folder for what is generated.
    """

    def __init__(self, folder: Path, work: Path) -> None:
        self._git = Git(folder)
        self._work = work

    def newest(self) -> Version:
        """Return the newest release, or the newest commit if there is no release yet."""
        tags = [match for tag in self._git("tag").split() if (match := RELEASE.fullmatch(tag))]
        newest = max(tags, key=lambda tag: tuple(map(int, tag.groups())), default=None)
        return self.version(newest[0] if newest else "HEAD")

    def version(self, name: str) -> Version:
        """Find a version by the name of a release (with or without ``v``), a tag, branch or commit.

        Raises `UpdateError` if there is none.
        """
        # Branches of a clone, but for one, are known under the name of the remote only.
        for revision in (f"v{name}", name, f"origin/{name}"):
            found = self._git.run("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
            if found.returncode == 0:
                commit = found.stdout.strip()
                described = self._git("describe", "--tags", "--always", *RELEASES, commit)
                return Version(described.removeprefix("v"), commit)
        raise UpdateError(f"The template has no version {name!r}.")

    def is_part(self, version: Version, other: Version) -> bool:
        """Return whether a version is a part of the history of another one."""
        return self._git.is_success("merge-base", "--is-ancestor", version.commit, other.commit)

    def with_runtime(self, sums: str) -> list[Version]:
        """List the versions whose runtime has these checksums, releases first, then the newest.

        Of versions that generate the same, only the first one.

        Args:
            sums: the hash that git gives to the file SHA256SUMS.
        """
        # What has been accepted: to generate a project runs the hooks of a version.
        accepted = ("HEAD", "--tags=v[0-9]*")
        commits = self._git("rev-list", "--date-order", *accepted).split()
        asked = "".join(f"{commit}:{SUMS}\n" for commit in commits)
        found = self._git("cat-file", "--batch-check=%(objectname)", given=asked).split("\n")
        names = [commit for commit, blob in zip(commits, found, strict=True) if blob == sums]
        versions = [self.version(commit) for commit in names]
        versions.sort(key=lambda version: not RELEASE.fullmatch(f"v{version.name}"))
        unlike: dict[str, Version] = {}
        for version in versions:
            unlike.setdefault(self._source(version), version)
        return list(unlike.values())

    def _source(self, version: Version) -> str:
        """Return what tells whether two versions generate the same."""
        paths = (f"{version.commit}:{path}" for path in SOURCES)
        return self._git.run("rev-parse", *paths).stdout

    def changelog(self, version: Version) -> str:
        """Return the CHANGELOG.md of a version; empty if it has none."""
        return self._git.run("show", f"{version.commit}:CHANGELOG.md").stdout

    def questions(self, version: Version) -> dict[str, object]:
        """Return the questions of a version, each with its default answer or its choices."""
        configuration = json.loads(self._git("show", f"{version.commit}:cookiecutter.json"))
        return {key: raw for key, raw in configuration.items() if not key.startswith("_")}

    def generate(self, version: Version, answers: Answers) -> Path:
        """Generate a project and return its folder. Raises `UpdateError` for refused answers."""
        folder = Path(tempfile.mkdtemp(dir=self._work))
        source = folder / "tornado-template"
        self._export(version, source)
        # The user's configuration has other answers, and folders that are not ours.
        config = folder / "config.json"
        own = {name: str(folder / name) for name in ("cookiecutters_dir", "replay_dir")}
        config.write_text(json.dumps(own), "utf-8")
        output = folder / "output"
        output.mkdir()
        # A process of its own: the hooks of the template write to the standard output.
        done = subprocess.run(
            [
                *(sys.executable, "-m", "cookiecutter", str(source), "--no-input"),
                *("--config-file", str(config), "--output-dir", str(output)),
                *(f"{key}={_literal(value)}" for key, value in answers.items()),
            ],
            env={**os.environ, "TMPDIR": str(folder), "PYTHONUTF8": "1"},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if done.returncode:
            # What follows is for somebody who called cookiecutter.
            reason = done.stderr.partition("\n\n")[0]
            raise UpdateError(f"Version {version.name} cannot be generated:\n{reason}")
        [project] = output.iterdir()
        return project

    def _export(self, version: Version, folder: Path) -> None:
        """Write the files of a version into a folder."""
        index = str(folder.with_suffix(".index"))
        self._git("read-tree", version.commit, GIT_INDEX_FILE=index)
        self._git("checkout-index", "--all", f"--prefix={folder}/", GIT_INDEX_FILE=index)


def _literal(answer: Answer) -> Answer:
    """Write an answer so that cookiecutter, which renders it, gets it as it is."""
    if isinstance(answer, str) and "{" in answer:
        return f"{{{{ {json.dumps(answer, ensure_ascii=False)} }}}}"
    return answer
