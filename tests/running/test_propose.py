"""What CI proposes once a week, against a repository on this machine: ci/propose.sh as it is."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

FAKES = Path(__file__).with_name("fakes")
"""A make and a gh that do what a test says, and a hook for the repository."""

BRANCH = "tornado-template-v0.2.0"
TITLE = "Update the template to v0.2.0"
CI_OF_GITLAB = {"GITLAB_USER_NAME": "Ada", "GITLAB_USER_EMAIL": "ada@example.com"}


class Checkout:
    """A repository, and what CI has checked out of it."""

    def __init__(self, folder: Path, project: Path) -> None:
        self.origin, self.folder = folder / "origin.git", folder / "checkout"
        self.log = folder / "log"
        self.log.touch()
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
            "PATH": f"{FAKES}{os.pathsep}{os.environ['PATH']}",
            "FAKE_LOG": str(self.log),
            "GIT_CONFIG_GLOBAL": os.devnull,
        }
        owner = folder / "owner"
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.origin), at=folder)
        self.git("config", "receive.advertisePushOptions", "true", at=self.origin)
        shutil.copy(FAKES / "pre-receive", self.origin / "hooks")
        self.git("clone", "--quiet", str(self.origin), str(owner), at=folder)
        for name, value in {"name": "Owner", "email": "owner@example.com"}.items():
            self.git("config", f"user.{name}", value, at=owner)
        shutil.copytree(project / "ci", owner / "ci")
        (owner / "constraints.txt").write_text("tornado==6.6.1\n")
        (owner / "readme").write_text("as generated\n")
        for text in ("as generated", "by the owner"):
            (owner / "settings").write_text(f"{text}\n")
            self.git("add", "--all", at=owner)
            self.git("commit", "--quiet", f"--message={text}", at=owner)
        self.git("push", "--quiet", "origin", "main", at=owner)
        self.renew()

    def renew(self) -> None:
        """Check out anew, as each run of CI does."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.git("clone", "--quiet", str(self.origin), str(self.folder), at=self.origin.parent)

    def git(self, *arguments: str, at: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=at or self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def propose(self, what: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["sh", "ci/propose.sh", what],
            cwd=self.folder,
            env={**self._environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def branches(self) -> list[str]:
        """List the branches of the repository."""
        return self.git("branch", "--format=%(refname:short)", at=self.origin).split()

    def told(self) -> list[list[str]]:
        """List what gh was told."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line[0] == "["]


@pytest.fixture
def github(bake: Callable[..., Path], tmp_path: Path) -> Checkout:
    return Checkout(tmp_path, bake(ci="github"))


@pytest.fixture
def gitlab(bake: Callable[..., Path], tmp_path: Path) -> Checkout:
    return Checkout(tmp_path, bake(ci="gitlab"))


def test_update_without_conflict_is_a_pull_request(github: Checkout) -> None:
    done = github.propose("template", FAKE="clean")
    assert done.returncode == 0, done.stderr
    _, create, run = github.told()
    assert create[:8] == ["pr", "create", "--base", "main", "--head", BRANCH, "--title", TITLE]
    body = "`make update` has made this change.\n\nWhat to do: nothing."
    assert create[8:] == ["--body", body]
    # A pull request of GitHub's own token would not start it.
    assert run == ["workflow", "run", "ci.yml", "--ref", BRANCH]
    assert github.git("show", f"{BRANCH}:readme", at=github.origin) == "by the template\n"
    assert github.git("show", f"{BRANCH}:settings", at=github.origin) == "by the owner\n"


def test_conflicts_are_committed_and_named(github: Checkout) -> None:
    done = github.propose("template", FAKE="conflict")
    assert done.returncode == 0, done.stderr
    _, create, _ = github.told()
    assert f"{TITLE} (with conflicts)" in create
    assert "which are marked in these files: settings \n\nWhat to do" in create[-1]
    shown = github.git("show", f"{BRANCH}:settings", at=github.origin)
    assert shown.startswith("<<<<<<< HEAD\nby the owner\n=======\nby the template\n>>>>>>> ")
    written = github.git("log", "-1", "--format=%s|%an|%cn", BRANCH, at=github.origin)
    assert written == f"{TITLE}|github-actions[bot]|github-actions[bot]\n"


@pytest.mark.parametrize(("what", "found"), [("template", "conflict"), ("lock", "newer")])
def test_nothing_is_proposed_twice(github: Checkout, what: str, found: str) -> None:
    assert github.propose(what, FAKE=found).returncode == 0
    branches, told = github.branches(), github.told()
    assert len(branches) == 2
    github.renew()
    done = github.propose(what, FAKE=found)
    assert done.returncode == 0, done.stderr
    assert "has been proposed before" in done.stdout
    assert github.branches() == branches
    assert github.told() == [*told, ["auth", "setup-git"]]


@pytest.mark.parametrize("what", ["template", "lock"])
def test_nothing_new_is_no_proposal(github: Checkout, what: str) -> None:
    done = github.propose(what, FAKE="nothing")
    assert (done.returncode, done.stdout) == (0, "There is nothing to propose.\n")
    assert github.branches() == ["main"]
    assert github.told() == []


@pytest.mark.parametrize("what", ["template", "lock"])
def test_failure_is_a_failure(github: Checkout, what: str) -> None:
    done = github.propose(what, FAKE="refused")
    assert done.returncode != 0
    assert "The runtime was edited by hand." in done.stderr
    assert github.branches() == ["main"]
    assert github.told() == []


def test_newer_versions_are_a_pull_request(github: Checkout) -> None:
    done = github.propose("lock", FAKE="newer")
    assert done.returncode == 0, done.stderr
    assert "Renew the versions in constraints.txt" in github.told()[1]
    shown = github.git("show", "newer-dependencies:constraints.txt", at=github.origin)
    assert shown == "tornado==6.6.2\n"


def test_refused_pull_request_is_tried_again(github: Checkout) -> None:
    assert github.propose("lock", FAKE="newer", FAKE_REFUSES="1").returncode != 0
    assert github.branches() == ["main"]
    github.renew()
    assert github.propose("lock", FAKE="newer").returncode == 0
    assert github.branches() == ["main", "newer-dependencies"]


def test_gitlab_opens_a_merge_request_for_a_push(gitlab: Checkout) -> None:
    # As .gitlab-ci.yml does it: GitLab has checked out a commit.
    gitlab.git("checkout", "--quiet", "--detach")
    gitlab.git("switch", "--quiet", "--force-create", "main")
    done = gitlab.propose("template", FAKE="conflict", **CI_OF_GITLAB)
    assert done.returncode == 0, done.stderr
    assert BRANCH in gitlab.branches()
    create, target, title, description = gitlab.log.read_text().splitlines()[-4:]
    assert create == "merge_request.create"
    assert target == "merge_request.target=main"
    assert title == f"merge_request.title={TITLE} (with conflicts)"
    assert description.startswith("merge_request.description=`make update` has made")
    assert gitlab.git("log", "-1", "--format=%an", BRANCH, at=gitlab.origin) == "Ada\n"


def test_misspelt_word_is_an_error(github: Checkout) -> None:
    done = github.propose("templates")
    assert (done.returncode, done.stderr) == (64, "Usage: sh ci/propose.sh template|lock\n")
