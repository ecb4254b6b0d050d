"""Releases a version: `make release VERSION=0.2.0`, or with DRY_RUN=1 to see what it would do.

Checks everything first, and changes nothing if a check fails. Then writes the version, makes its
section of what is unreleased in the changelog, commits and tags. It never pushes.
"""

import argparse
import difflib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from updating.template import RUNTIME, SUMS

from . import ROOT, changelog
from .changelog import CHANGES_BEHAVIOUR, UNRELEASED, ChangelogError, Section, parse_version

BRANCH = "main"
CHANGELOG = "CHANGELOG.md"
PLACES = {
    "cookiecutter.json": '\n  "_version": "{}",\n',
    "pyproject.toml": '\nversion = "{}"\n',
    f"{RUNTIME}/VERSION": "{}\n",
}
"""What stands where, with the version in place of the braces."""


class ReleaseError(Exception):
    """The version cannot be released. The message has one line for each reason."""


@dataclass(frozen=True)
class Release:
    """A version that is ready to be released."""

    root: Path
    version: str
    contents: Mapping[str, str]
    """The new texts of files, by path."""

    @property
    def tag(self) -> str:
        return f"v{self.version}"

    def show(self) -> None:
        """Print what `commit` would change."""
        for path, text in self.contents.items():
            before = _read(self.root, path).splitlines()
            print(
                *difflib.unified_diff(before, text.splitlines(), path, path, lineterm=""), sep="\n"
            )
        print(f"\nWould renew the checksums, commit 'Release {self.version}' and tag {self.tag}.")

    def commit(self) -> None:
        """Write, commit and tag; if something fails, all is as before. Raises `ReleaseError`."""
        paths = [*self.contents, SUMS]
        before = {path: (self.root / path).read_bytes() for path in paths}
        head = _git(self.root, "rev-parse", "HEAD")
        try:
            for path, text in self.contents.items():
                (self.root / path).write_text(text, "utf-8", newline="\n")
            _run(self.root, "make", "--no-print-directory", "runtime")
            message = f"Release {self.version}"
            _run(self.root, "git", "commit", "--quiet", "-m", message, "--only", "--", *paths)
            _run(self.root, "git", "tag", "--annotate", "-m", message, self.tag)
        except BaseException:
            _git(self.root, "reset", "--quiet", head)
            for path, content in before.items():
                (self.root / path).write_bytes(content)
            raise


def prepare(root: Path, version: str) -> Release:
    """Check everything but `make check`. Raises `ReleaseError` with all reasons."""
    reasons = [*_reasons_in_git(root, version)]
    text = _read(root, CHANGELOG)
    current = _current_version(root)
    reasons += _reasons_in_places(root, current)
    try:
        reasons += _reasons_in_changelog(changelog.parse(text), current, version)
    except ChangelogError as error:
        reasons += [f"{CHANGELOG}: {line}" for line in str(error).splitlines()]
    if reasons:
        raise ReleaseError("\n".join(reasons))
    contents = {
        path: _read(root, path).replace(line.format(current), line.format(version))
        for path, line in PLACES.items()
    }
    contents[CHANGELOG] = changelog.close_unreleased(text, version, datetime.now(UTC).date())
    return Release(root, version, contents)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Release a version, and return the exit code: 1 if that was refused or failed."""
    parser = argparse.ArgumentParser(prog="make release")
    parser.add_argument("version")
    parser.add_argument("--dry-run", action="store_true")
    parsed = parser.parse_args(arguments)
    try:
        release = prepare(root, parsed.version)
        _run(root, "make", "--no-print-directory", "check")
        if parsed.dry_run:
            release.show()
            return 0
        release.commit()
    except ReleaseError as error:
        print(f"{error}\n\nNothing was changed.", file=sys.stderr)
        return 1
    print(
        f"Released {release.version} here: a commit and the tag {release.tag}. Nothing is pushed.\n"
        "\n"
        "  .ci/run                     must have passed with this code: it was not run now\n"
        f"  git push --atomic origin {BRANCH} {release.tag}\n"
        "  make bench-check RENEW=1    then commit benchmarks/reference.json\n"
        "\n"
        f"To undo it: git tag --delete {release.tag} && git reset --keep HEAD~1"
    )
    return 0


def _reasons_in_git(root: Path, version: str) -> Iterator[str]:
    branch = _git(root, "branch", "--show-current")
    if branch != BRANCH:
        yield f"This is {f'branch {branch}' if branch else 'no branch'}: release from {BRANCH}."
    if changed := _git(root, "status", "--porcelain").splitlines():
        names = ", ".join(line.split(maxsplit=1)[1] for line in changed)
        yield f"There are changes that are not committed: {names}."
    if _git(root, "tag", "--list", f"v{version}"):
        yield f"There is a tag v{version} already."


def _current_version(root: Path) -> str:
    return _read(root, f"{RUNTIME}/VERSION").strip()


def _reasons_in_places(root: Path, current: str) -> Iterator[str]:
    for path, line in PLACES.items():
        if _read(root, path).count(line.format(current)) != 1:
            yield f"{path} does not have the line {line.format(current).strip()} once."


def _reasons_in_changelog(sections: list[Section], current: str, version: str) -> Iterator[str]:
    news = {name for name, text in sections[0].parts.items() if text}
    if not news:
        yield f"{CHANGELOG}: {UNRELEASED!r} is empty."
    if current not in [section.title for section in sections]:
        # The first release of all: the version is there already.
        possible = [current]
    else:
        possible = _next_versions(current, news)
    if version not in possible:
        because = ", ".join(name for name in changelog.PARTS if name in news) or "nothing new"
        given = repr(version) if version else "nothing: make release VERSION=..."
        yield f"The next version is {' or '.join(possible)} ({because}), not {given}."


def _next_versions(current: str, news: set[str]) -> list[str]:
    """Return the versions that semver.org leaves, the smallest first."""
    parsed = parse_version(current)
    if not parsed:
        return []
    major, minor, patch = parsed
    versions = [f"{major}.{minor}.{patch + 1}", f"{major}.{minor + 1}.0", f"{major + 1}.0.0"]
    if news & {"Added", *CHANGES_BEHAVIOUR}:
        del versions[0]
    # Before 1.0.0 everything may change.
    if major and "Removed" in news:
        del versions[0]
    return versions


def _read(root: Path, path: str) -> str:
    return (root / path).read_text("utf-8")


def _git(root: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise ReleaseError(f"`{' '.join(command[:2])}` failed: {done.stderr.strip()}")
    return done.stdout.rstrip("\n")


def _run(root: Path, *command: str) -> None:
    try:
        subprocess.run(command, cwd=root, check=True)
    except subprocess.CalledProcessError as error:
        raise ReleaseError(f"`{' '.join(command[:3])}` failed: see above.") from error


if __name__ == "__main__":
    sys.exit(main())
