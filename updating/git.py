"""Runs git."""

import os
import subprocess
from pathlib import Path

from .errors import UpdateError

# An update that git itself started, in a hook or by an alias, must not work in that repository.
_OF_ANOTHER_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")


class Git:
    """A repository, or the folder in it in which git is run.

    Args:
        folder: where git is run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: str, given: str = "", **environment: str) -> str:
        """Run git and return what it printed. Raises `UpdateError` with git's own words.

        Args:
            arguments: those of git.
            given: what git reads from its standard input.
            environment: variables beside those of this process.
        """
        done = self.run(*arguments, given=given, **environment)
        if done.returncode:
            raise UpdateError(f"git {arguments[0]} failed:\n{done.stderr.strip()}")
        return done.stdout.strip("\n")

    def is_success(self, *arguments: str) -> bool:
        """Run git, and return whether it exited with 0."""
        return self.run(*arguments).returncode == 0

    def has(self, revision: str) -> bool:
        """Return whether there is a commit of this name."""
        return self.is_success("rev-parse", "--verify", "--quiet", revision)

    def run(
        self, *arguments: str, given: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run git, whatever comes of it."""
        inherited = {
            key: value for key, value in os.environ.items() if key not in _OF_ANOTHER_REPOSITORY
        }
        # To look at a repository changes nothing in it, not even what git remembers of files.
        inherited["GIT_OPTIONAL_LOCKS"] = "0"
        # core.quotePath: names of files as they are, not with octal escapes.
        return subprocess.run(
            ["git", "-c", "core.quotePath=false", *arguments],
            cwd=self.folder,
            env={**inherited, **environment},
            input=given,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
        )

    def paths(self, *arguments: str, **environment: str) -> list[str]:
        """Run git with ``-z`` and return the fields that it printed."""
        return [field for field in self(*arguments, **environment).split("\0") if field]
