"""What an update does in a project, and what it leaves alone."""

from pathlib import Path

import pytest

from . import repositories as repo

NGINX = "deploy/nginx/tornado-service.conf"
MODEL = "src/tornado_service/greetings/model.py"
BRANCH = f"tornado-template-{repo.NEXT_VERSION}"


def test_what_is_shown_is_what_is_done(small: Path, project: Path, tmp_path: Path) -> None:
    before, main = repo.snapshot(project), repo.git(project, "rev-parse", "main")
    shown = repo.update(small, project, DRY_RUN="1")
    assert shown.code == 0
    assert repo.snapshot(project) == before
    done = repo.update(small, project)
    assert done.code == 0
    assert done.output.startswith(shown.output)
    verbs = {"A": "add", "M": "change", "D": "delete"}
    changes = repo.git(project, "show", "--name-status", "--no-renames", "--format=").split("\n")
    for letter, name in (line.split("\t") for line in changes):
        line = f"  {verbs[letter]:<9} {name}\n"
        assert (line in shown.output) == ("/runtime/" not in name)
    assert (
        f"  replace   src/tornado_service/runtime/ ({len(changes) - 6} files differ)" in done.output
    )
    assert f"\n{repo.NEXT_VERSION}:\n\n1. Install the Nginx file again.\n\n" in done.output
    assert (
        "New questions, with their default answers (ANSWERS= changes them): colour." in done.output
    )
    assert repo.git(project, "rev-parse", "main") == main
    assert repo.git(project, "rev-parse", f"{BRANCH}~") == main
    message = repo.git(project, "show", "--no-patch", "--format=%an %ae %B")
    assert message.startswith(
        "Ada Lovelace ada@example.com "
        f"Update tornado-template from {repo.VERSION} to {repo.NEXT_VERSION}\n"
    )
    assert "1. Install the Nginx file again." in message
    fresh = repo.bake(small, f"v{repo.NEXT_VERSION}", tmp_path / "fresh", {})
    repo.git(fresh, "init", "--quiet")
    assert repo.files(project) == repo.files(fresh)
    repo.follow(project, repo.told(done, "look at git show, then:"))
    assert repo.git(project, "rev-parse", "main") == repo.git(project, "rev-parse", BRANCH)
    assert repo.git(project, "branch", "--show-current") == "main"
    # The way back is a version like any other.
    done = repo.update(small, project, VERSION=f"v{repo.VERSION}")
    assert done.code == 0
    assert repo.git(project, "diff", main, "HEAD") == ""


def test_files_of_a_team_stay_as_they_are(small: Path, project: Path) -> None:
    repo.git(project, "mv", MODEL, MODEL.replace("model", "greeting"))
    (project / NGINX).unlink()
    (project / "src/tornado_service/greetings/größe 1.py").write_bytes(b"\xff\x00\r\n")
    (project / "release.sh").write_text("#!/bin/sh\n")
    (project / "release.sh").chmod(0o755)
    (project / "README.md").chmod(0o755)
    (project / "docs").symlink_to("README.md")
    (project / "out").symlink_to("/nowhere")
    (project / ".gitattributes").unlink()
    repo.append(project / ".gitignore", "*.key\n")
    (project / "own.key").write_text("secret")
    repo.commit(project)
    before = repo.files(project)
    done = repo.update(small, project)
    assert done.code == 0, done.output
    after = repo.files(project)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert {name for name in changed if "/runtime/" not in name} == {
        ".editorconfig",
        ".tornado-template.toml",
        "README.md",
        "deploy/newer.md",
        "src/tornado_service/greetings/greeting.py",
    }
    assert after["README.md"][0] == "program"
    assert b"NEWER = True" in after["src/tornado_service/greetings/greeting.py"][1]
    assert f"  leave out {NGINX} (you have deleted it)\n" in done.output
    assert (project / "own.key").read_text() == "secret"


@pytest.fixture
def conflicting(project: Path) -> Path:
    """A project in which the team has changed what the template changes, too."""
    repo.append(project / NGINX, "# Ours.\n")
    repo.append(project / ".editorconfig", "# Ours.\n")
    (project / "deploy/newer.md").write_text("This file is ours.\n")
    repo.commit(project)
    return project


def test_conflicts_are_those_of_git(small: Path, conflicting: Path) -> None:
    project, main = conflicting, repo.git(conflicting, "rev-parse", "main")
    assert repo.update(small, project, DRY_RUN="1").code == 0
    done = repo.update(small, project)
    assert done.code == 2
    assert (
        "  CONFLICT  .editorconfig (you have changed it, the template has deleted it)\n"
        "  CONFLICT  deploy/newer.md (you both have added it)\n"
        f"  CONFLICT  {NGINX}\n"
    ) in done.output
    assert f"change    {NGINX}" not in done.output
    pattern = "<<<<<<< HEAD\n# Ours.\n=======\n# Newer.\n>>>>>>> "
    assert pattern in (project / NGINX).read_text()
    assert not list(project.rglob("*.rej"))
    # Asked again, it tells how to go on.
    again = repo.update(small, project)
    assert again.code == 1
    repo.follow(project, repo.told(again, "or give it up:"))
    assert repo.git(project, "status", "--porcelain") == ""
    assert repo.git(project, "branch", "--show-current") == "main"
    # A person may take the update up again, and finish it as told.
    done = repo.update(small, project)
    assert done.code == 2
    repo.replace(project / NGINX, "<<<<<<< HEAD\n", "")
    text = (project / NGINX).read_text()
    (project / NGINX).write_text(text.partition("=======\n")[0])
    (project / "deploy/newer.md").write_text("This file is ours.\n")
    repo.follow(project, repo.told(done, "Correct them, then:"))
    repo.follow(project, repo.told(done, "look at git show, then:"))
    assert repo.git(project, "rev-parse", "HEAD~") == main
    for name in (NGINX, ".editorconfig", "deploy/newer.md"):
        assert repo.git(project, "diff", main, "HEAD", "--", name) == ""
    assert "NEWER = True" in (project / MODEL).read_text()
    done = repo.update(small, project)
    assert (done.code, done.output.partition(":")[0]) == (0, "Nothing to do")


@pytest.mark.exhaustive
def test_given_up_update_leaves_nothing(small: Path, conflicting: Path) -> None:
    before = repo.files(conflicting)
    done = repo.update(small, conflicting)
    repo.follow(conflicting, repo.told(done, "Or give the update up:"))
    assert repo.git(conflicting, "branch", "--show-current") == "main"
    assert repo.git(conflicting, "status", "--porcelain") == ""
    assert repo.files(conflicting) == before


def test_project_in_a_folder_of_a_repository(small: Path, project: Path, tmp_path: Path) -> None:
    # Nothing beside it is touched; and a commit that is checked out is as good as a branch.
    root = tmp_path / "all our services"
    service = root / "Größe/orders"
    service.parent.mkdir(parents=True)
    repo.git(project, "checkout-index", "--all", f"--prefix={service}/")
    (root / "README.md").write_text("# All our services\n")
    head = repo.begin(root)
    repo.git(root, "switch", "--quiet", "--detach")
    done = repo.update(small, service)
    assert done.code == 0, done.output
    assert "  add       Größe/orders/deploy/newer.md\n" in done.output
    assert "  replace   Größe/orders/src/tornado_service/runtime/ (" in done.output
    changed = repo.git(root, "-c", "core.quotePath=false", "diff", "--name-only", head)
    assert {name.partition("/orders/")[0] for name in changed.split("\n")} == {"Größe"}
    repo.follow(root, repo.told(done, "look at git show, then:"))
    assert repo.git(root, "rev-parse", "HEAD") == repo.git(root, "rev-parse", BRANCH)
    assert repo.git(root, "branch", "--show-current") == ""


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["shallow", "worktree"])
def test_project_in_a_clone_or_worktree(
    small: Path, project: Path, tmp_path: Path, kind: str
) -> None:
    repo.append(project / "README.md", "Ours.\n")
    repo.commit(project)
    copy = tmp_path / kind
    if kind == "shallow":
        repo.git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{project}", str(copy))
    else:
        repo.git(project, "worktree", "add", "--quiet", "-b", "other", str(copy))
    done = repo.update(small, copy)
    assert done.code == 0, done.output
    assert (copy / "README.md").read_text().endswith("Ours.\n")
    assert (copy / "deploy/newer.md").exists()
    assert repo.git(project, "branch", "--show-current") == "main"
    assert repo.git(project, "status", "--porcelain") == ""


@pytest.mark.exhaustive
def test_configuration_of_git_does_not_matter(
    small: Path, project: Path, tmp_path: Path, git_configuration: Path
) -> None:
    file = tmp_path / "gitconfig"
    file.write_text(f"{git_configuration.read_text()}{AWKWARD_CONFIGURATION}")
    done = repo.update(small, project, GIT_CONFIG_GLOBAL=str(file))
    assert done.code == 0, done.output
    assert "  add       deploy/newer.md\n" in done.output
    again = repo.update(small, project, GIT_CONFIG_GLOBAL=str(file))
    assert "Nothing to do" in again.output


AWKWARD_CONFIGURATION = """
[color]
 ui = always
[column]
 ui = always
[core]
 autocrlf = true
 quotePath = true
 pager = false
[diff]
 noprefix = true
 mnemonicPrefix = true
 renames = copies
 external = false
[fetch]
 prune = true
[log]
 showSignature = true
[merge]
 conflictStyle = diff3
 ff = only
 renames = false
[pull]
 rebase = true
[push]
 default = nothing
[rerere]
 enabled = true
[status]
 showUntrackedFiles = all
 relativePaths = false
 short = true
 branch = true
[clone]
 defaultRemoteName = upstream
"""
