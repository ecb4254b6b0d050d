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
CI_OF_GITLAB = {
    "GITLAB_USER_NAME": "Ada",
    "GITLAB_USER_EMAIL": "ada@example.com",
    "CI_SERVER_HOST": "gitlab.example.com",
    "CI_PROJECT_PATH": "group/orders",
}
REFUSED = "must have one branch, tornado-template-* or newer-dependencies."


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
        """Check out anew, as each job of CI does: not the whole history."""
        shutil.rmtree(self.folder, ignore_errors=True)
        source = self.origin.as_uri()
        self.git("clone", "--quiet", "--depth=2", source, str(self.folder), at=self.origin.parent)

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

    @property
    def bundles(self) -> Path:
        """The folder that the first job hands to the second one."""
        return self.folder / "proposal"

    def run(self, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["sh", "ci/propose.sh", *words],
            cwd=self.folder,
            env={**self._environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def make(self, what: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run the first job, and check out for the second one."""
        done = self.run("make", what, **environment)
        kept = self.folder.with_name("kept")
        if self.bundles.exists():
            self.bundles.rename(kept)
        self.renew()
        if kept.exists():
            kept.rename(self.bundles)
        return done

    def propose(self, what: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run both jobs."""
        made = self.make(what, **environment)
        assert made.returncode == 0, made.stderr
        return self.run("open", what, **environment)

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
    assert "which are marked in these files: settings\n\nWhat to do" in create[-1]
    shown = github.git("show", f"{BRANCH}:settings", at=github.origin)
    assert shown.startswith("<<<<<<< HEAD\nby the owner\n=======\nby the template\n>>>>>>> ")
    written = github.git("log", "-1", "--format=%s|%an|%cn", BRANCH, at=github.origin)
    assert written == f"{TITLE}|github-actions[bot]|github-actions[bot]\n"
    message = github.git("log", "-1", "--format=%B", BRANCH, at=github.origin).strip()
    assert message == f"{TITLE}\n\nWhat to do: nothing.\n\nConflicts: settings"


def test_file_that_git_does_not_know_is_not_committed(github: Checkout) -> None:
    # An update may have taken its line out of .gitignore.
    (github.folder / "key").write_text("secret\n")
    assert github.propose("template", FAKE="conflict").returncode == 0
    assert "key" not in github.git("ls-tree", "-r", "--name-only", BRANCH, at=github.origin)


def test_second_job_takes_nothing_of_the_first_one_into_its_files(github: Checkout) -> None:
    assert github.propose("template", FAKE="clean").returncode == 0
    assert github.git("branch", "--show-current") == "main\n"
    assert github.git("status", "--porcelain") == "?? proposal/\n"


@pytest.mark.parametrize(
    "name",
    [
        "refs/heads/main",
        "refs/heads/mine",
        "refs/heads/x-newer-dependencies",
        "refs/heads/tornado-template-v0.2.0:refs/heads/main",
        "refs/tags/tornado-template-v0.2.0",
    ],
)
def test_bundle_with_another_name_is_refused(github: Checkout, name: str) -> None:
    github.make("template", FAKE="clean")
    bundle = github.bundles / "template.bundle"
    content = bundle.read_bytes()
    assert content.count(f" refs/heads/{BRANCH}\n".encode()) == 1
    bundle.write_bytes(content.replace(f" refs/heads/{BRANCH}".encode(), f" {name}".encode()))
    assert_refused(github, REFUSED)


def test_bundle_with_two_branches_is_refused(github: Checkout) -> None:
    github.make("template", FAKE="clean")
    bundle = github.bundles / "template.bundle"
    lines = bundle.read_bytes().split(b"\n")
    [line] = [line for line in lines if line.endswith(BRANCH.encode())]
    place = lines.index(line)
    lines.insert(place, line.replace(BRANCH.encode(), b"newer-dependencies"))
    bundle.write_bytes(b"\n".join(lines))
    assert_refused(github, REFUSED)


def test_repository_in_place_of_a_bundle_is_refused(github: Checkout) -> None:
    # Git would run what its configuration says.
    github.git("clone", "--quiet", "--bare", str(github.origin), "proposal/repository")
    (github.bundles / "template.bundle").write_text("gitdir: repository\n")
    assert_refused(github, "does not look like a v2 or v3 bundle file")


def assert_refused(checkout: Checkout, reason: str) -> None:
    before = checkout.git("rev-parse", "main", at=checkout.origin)
    done = checkout.run("open", "template")
    assert done.returncode != 0
    assert reason in done.stderr
    assert checkout.branches() == ["main"]
    assert checkout.git("rev-parse", "main", at=checkout.origin) == before
    assert checkout.told() == []


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
    for done in (github.make(what, FAKE="nothing"), github.run("open", what)):
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("There is nothing to propose.\n")
    assert github.branches() == ["main"]
    assert github.told() == []


def test_template_without_address_is_no_proposal(github: Checkout) -> None:
    done = github.propose("template", FAKE="homeless")
    assert (done.returncode, done.stdout) == (0, "There is nothing to propose.\n")
    assert "Write the address" in github.run("make", "template", FAKE="homeless").stderr


@pytest.mark.parametrize("what", ["template", "lock"])
def test_failure_is_a_failure(github: Checkout, what: str) -> None:
    done = github.make(what, FAKE="refused")
    assert done.returncode != 0
    assert "The runtime was edited by hand." in done.stderr
    assert not github.bundles.exists()


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
    made = gitlab.make("template", FAKE="conflict", **CI_OF_GITLAB)
    assert made.returncode == 0, made.stderr
    # The only place to which it may push stands in for GitLab.
    url = "https://update:secret@gitlab.example.com/group/orders.git"
    gitlab.git("remote", "set-url", "--push", "origin", "/nowhere")
    done = gitlab.run(
        "open",
        "template",
        **CI_OF_GITLAB,
        UPDATE_TOKEN="secret",
        GIT_CONFIG_COUNT="1",
        GIT_CONFIG_KEY_0=f"url.{gitlab.origin}.insteadOf",
        GIT_CONFIG_VALUE_0=url,
    )
    assert done.returncode == 0, done.stderr
    assert BRANCH in gitlab.branches()
    create, target, title, description = gitlab.log.read_text().splitlines()[-4:]
    assert create == "merge_request.create"
    assert target == "merge_request.target=main"
    assert title == f"merge_request.title={TITLE} (with conflicts)"
    assert description.startswith("merge_request.description=`make update` has made")
    assert description.endswith(": settings")
    assert gitlab.git("log", "-1", "--format=%an", BRANCH, at=gitlab.origin) == "Ada\n"
    assert "secret" not in (gitlab.folder / ".git/config").read_text()


@pytest.mark.parametrize("words", [("make", "templates"), ("propose", "lock"), ("lock",)])
def test_misspelt_word_is_an_error(github: Checkout, words: tuple[str, ...]) -> None:
    done = github.run(*words)
    usage = "Usage: sh ci/propose.sh make|open template|lock\n"
    assert (done.returncode, done.stderr) == (64, usage)
