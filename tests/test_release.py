"""`make release`, in a repository that has only what a release touches."""

import hashlib
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from maintenance import changelog, release
from maintenance.changelog import ChangelogError
from maintenance.release import CHANGELOG, PLACES, RUNTIME, SUMS

from .bakes import TEMPLATE

MAKEFILE = Path(__file__).with_name("release.mk")
TITLE = "# Changelog\n"
STEPS = "\n### What to do\n\n1. Install the unit again.\n2. Restart.\n"
CHANGED = "\n### Changed\n\n- Limits are checked.\n"
ADDED = "\n### Added\n\n- A new part.\n"
FIXED = "\n### Fixed\n\n- A leak.\n"
REMOVED = "\n### Removed\n\n- An old name.\n"
# Hooks of git that let no commit, or no tag, be made.
HOOKS = {"pre-commit": "exit 1", "reference-transaction": "! grep --quiet refs/tags"}
FIRST = "\n## 0.1.0 - 2026-01-31\n" + ADDED


def git(repository: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def write_changelog(repository: Path, unreleased: str, older: str = FIRST) -> None:
    (repository / CHANGELOG).write_text(f"{TITLE}\n## Unreleased\n{unreleased}{older}", "utf-8")
    git(repository, "commit", "--quiet", "--all", "--allow-empty", "--message", "Change things")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clean repository with version 0.1.0 released, and something new to release."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "ada@example.com")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    folder = tmp_path / "template"
    for path in (*PLACES, SUMS):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TEMPLATE / path, folder / path)
    current = (folder / RUNTIME / "VERSION").read_text().strip()
    for path, line in PLACES.items():
        text = (folder / path).read_text("utf-8")
        (folder / path).write_text(
            text.replace(line.format(current), line.format("0.1.0")), "utf-8"
        )
    shutil.copy(MAKEFILE, folder / "Makefile")
    (folder / CHANGELOG).touch()
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", ".")
    write_changelog(folder, STEPS + CHANGED + FIXED)
    git(folder, "tag", "v0.1.0")
    return folder


def state(repository: Path) -> tuple[object, ...]:
    """Return all that a refused release has to leave alone."""
    files = {
        p: p.read_bytes() for p in repository.rglob("*") if p.is_file() and ".git" not in p.parts
    }
    return files, git(repository, "status", "--porcelain"), git(repository, "show-ref")


def refusal(repository: Path, capfd: pytest.CaptureFixture[str], version: str = "0.2.0") -> str:
    """Return why a release is refused, and make sure that nothing has changed."""
    before = state(repository)
    capfd.readouterr()
    assert release.main([version], repository) == 1
    assert state(repository) == before
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err.endswith("\nNothing was changed.\n")
    return output.err.removesuffix("\n\nNothing was changed.\n")


def test_release_writes_commits_and_tags(
    repository: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = git(repository, "rev-parse", "HEAD")
    assert release.main(["0.2.0"], repository) == 0
    assert git(repository, "log", "--format=%s", f"{before}..") == "Release 0.2.0"
    assert git(repository, "status", "--porcelain") == ""
    assert git(repository, "cat-file", "-t", "v0.2.0") == "tag"
    assert git(repository, "rev-parse", "v0.2.0^{commit}") == git(repository, "rev-parse", "HEAD")
    for path, line in PLACES.items():
        assert line.format("0.2.0") in (repository / path).read_text("utf-8")
        assert "0.1.0" not in (repository / path).read_text("utf-8")
    digest = hashlib.sha256(b"0.2.0\n").hexdigest()
    assert (repository / SUMS).read_text() == f"{digest}  VERSION\n"
    text = (repository / CHANGELOG).read_text("utf-8")
    day = datetime.now(UTC).date()
    unreleased, new, old = changelog.parse(text)
    assert unreleased.parts == {"": ""}
    assert (new.title, set(new.parts)) == ("0.2.0", {"", "What to do", "Changed", "Fixed"})
    assert f"\n## Unreleased\n\n## 0.2.0 - {day}\n\n### What to do\n\n1. Install" in text
    assert old.title == "0.1.0"
    output = capfd.readouterr()
    assert output.err == ""
    assert "git push --atomic origin main v0.2.0" in output.out
    assert ".ci/run" in output.out


def test_release_can_be_undone_as_it_says(
    repository: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = state(repository)
    assert release.main(["0.2.0"], repository) == 0
    [undo] = re.findall(r"^To undo it: (.*)$", capfd.readouterr().out, re.MULTILINE)
    subprocess.run(["sh", "-c", undo], cwd=repository, check=True, capture_output=True)
    assert state(repository) == before


def test_dry_run_shows_and_changes_nothing(
    repository: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = state(repository)
    assert release.main(["--dry-run", "0.2.0"], repository) == 0
    assert state(repository) == before
    lines = capfd.readouterr().out.splitlines()
    assert '-version = "0.1.0"' in lines
    assert '+version = "0.2.0"' in lines
    assert '+  "_version": "0.2.0",' in lines
    assert any(line.startswith("+## 0.2.0 - 20") for line in lines)


def test_version_that_stands_everywhere_is_the_first_release(repository: Path) -> None:
    git(repository, "tag", "--delete", "v0.1.0")
    write_changelog(repository, ADDED, older="")
    assert release.main(["0.1.0"], repository) == 0
    assert git(repository, "tag") == "v0.1.0"
    assert [s.title for s in changelog.parse((repository / CHANGELOG).read_text("utf-8"))] == [
        "Unreleased",
        "0.1.0",
    ]


# What is refused


@pytest.mark.parametrize(
    "version", ["", "0.2", "v0.2.0", "0.2.0-rc.1", "00.2.0", "0.2.0\n", "0.1.0", "0.3.0", "0.2.1"]
)
def test_version_must_be_the_next(
    repository: Path, capfd: pytest.CaptureFixture[str], version: str
) -> None:
    message = refusal(repository, capfd, version)
    assert "The next version is 0.2.0 or 1.0.0 (What to do, Changed, Fixed), not " in message


@pytest.mark.parametrize(
    ("current", "news", "possible"),
    [
        ("0.1.9", {"Fixed"}, ["0.1.10", "0.2.0", "1.0.0"]),
        ("0.1.9", {"Fixed", "Added"}, ["0.2.0", "1.0.0"]),
        ("0.1.9", {"Removed"}, ["0.2.0", "1.0.0"]),
        ("1.2.3", {"Security"}, ["1.2.4", "1.3.0", "2.0.0"]),
        ("1.2.3", {"Changed"}, ["1.3.0", "2.0.0"]),
        ("1.2.3", {"Removed", "Fixed"}, ["2.0.0"]),
    ],
)
def test_next_version_follows_from_what_is_new(
    current: str, news: set[str], possible: list[str]
) -> None:
    assert release._next_versions(current, news) == possible


def test_tree_must_be_clean(repository: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (repository / "notes.txt").touch()
    (repository / "pyproject.toml").open("a").write("# changed\n")
    message = refusal(repository, capfd)
    assert message == "There are changes that are not committed: pyproject.toml, notes.txt."


def test_branch_must_be_main(repository: Path, capfd: pytest.CaptureFixture[str]) -> None:
    git(repository, "switch", "--quiet", "--create", "feature")
    assert refusal(repository, capfd) == "This is branch feature: release from main."
    git(repository, "switch", "--quiet", "--detach")
    assert refusal(repository, capfd) == "This is no branch: release from main."


def test_tag_must_be_free(repository: Path, capfd: pytest.CaptureFixture[str]) -> None:
    git(repository, "tag", "v0.2.0")
    assert refusal(repository, capfd) == "There is a tag v0.2.0 already."


def test_something_must_be_new(repository: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_changelog(repository, "")
    assert "CHANGELOG.md: 'Unreleased' is empty." in refusal(repository, capfd)


def test_change_of_behaviour_needs_what_to_do(
    repository: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_changelog(repository, CHANGED + REMOVED)
    assert refusal(repository, capfd) == (
        "CHANGELOG.md: Unreleased: Changed and Removed without 'What to do': "
        "number the steps, or write 'Nothing.'"
    )
    write_changelog(repository, "\n### What to do\n\nNothing.\n" + CHANGED)
    assert release.main(["0.2.0"], repository) == 0


@pytest.mark.parametrize("path", PLACES)
def test_versions_must_agree(
    repository: Path, capfd: pytest.CaptureFixture[str], path: str
) -> None:
    text = (repository / path).read_text("utf-8")
    (repository / path).write_text(text.replace("0.1.0", "0.1.7"), "utf-8")
    write_changelog(repository, STEPS + CHANGED)
    assert " does not have the line " in refusal(repository, capfd)


def test_all_reasons_are_given_at_once(repository: Path, capfd: pytest.CaptureFixture[str]) -> None:
    git(repository, "switch", "--quiet", "--create", "feature")
    git(repository, "tag", "v9.0.0")
    (repository / "notes.txt").touch()
    assert len(refusal(repository, capfd, "9.0.0").splitlines()) == 4


def test_folder_without_git_is_refused(repository: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(repository / ".git")
    assert release.main(["0.2.0"], repository) == 1
    assert "not a git repository" in capfd.readouterr().err


def test_make_check_must_pass(repository: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (repository / "check-fails").touch()
    write_changelog(repository, STEPS + CHANGED)
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message", "Break the check")
    assert refusal(repository, capfd).endswith(
        "`make --no-print-directory check` failed: see above."
    )


@pytest.mark.parametrize("hook", [None, *HOOKS])
def test_failure_in_the_middle_leaves_all_as_it_was(
    repository: Path, capfd: pytest.CaptureFixture[str], hook: str | None
) -> None:
    if hook:
        path = repository / ".git/hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{HOOKS[hook]}\n")
        path.chmod(0o755)
    else:
        (repository / ".git/info/exclude").write_text("runtime-fails\n")
        (repository / "runtime-fails").touch()
    assert "failed: see above" in refusal(repository, capfd)


# The changelog


def test_changelog_has_its_format() -> None:
    sections = changelog.parse((TEMPLATE / CHANGELOG).read_text("utf-8"))
    assert sections[0].title == "Unreleased"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'## Unreleased' is not the first section"),
        (FIRST, "'## Unreleased' is not the first section"),
        ("## Unreleased\n## Unreleased\n", "or there are two"),
        (f"## Unreleased\n\n## 0.2 - 2026-01-31\n{FIXED}", "'## 0.2 - 2026-01-31' is not "),
        (f"## Unreleased\n\n## 0.2.0 (2026-01-31)\n{FIXED}", "'## 0.2.0 (2026-01-31)' is not "),
        (f"## Unreleased\n\n## 0.2.0 - 2026-02-31\n{FIXED}", "0.2.0: 2026-02-31 is no day"),
        (f"## Unreleased\n{FIRST}{FIRST}", "0.1.0 stands above 0.1.0, but is not newer"),
        (f"## Unreleased\n{FIRST}\n## 0.2.0 - 2026-01-01\n{FIXED}", "0.1.0 stands above 0.2.0"),
        (f"## Unreleased\n\n## 0.10.0 - 2026-01-01\n{FIXED}{FIRST}", "but is not newer"),
        (f"## Unreleased\n\nA word.\n{FIXED}", "Unreleased: text stands above the first ###"),
        ("## Unreleased\n\n### Fixes\n\n- A leak.\n", "'Fixes' is none of What to do, Added"),
        ("## Unreleased\n\n### Fixed\n", "Unreleased: 'Fixed' is empty"),
        (f"## Unreleased\n{FIXED}{FIXED}", "Unreleased: 'Fixed' stands twice"),
        ("## Unreleased\n\n### What to do\n\nStop it.\n", "are not numbered 1, 2, 3"),
        ("## Unreleased\n\n### What to do\n\n1. Stop.\n3. Start.\n", "are not numbered 1, 2, 3"),
        ("## Unreleased\n\n### What to do\n\n1. Stop,\nand start.\n", "lines are not indented"),
        (f"## Unreleased\n\n## 0.2.0 - 2026-02-01\n{REMOVED}", "0.2.0: Removed without"),
    ],
)
def test_problem_of_the_changelog_is_named(text: str, problem: str) -> None:
    with pytest.raises(ChangelogError, match=re.escape(problem)):
        changelog.parse(f"{TITLE}\n{text}")


def test_later_version_with_two_digits_is_newer() -> None:
    newer = f"## Unreleased\n\n## 0.10.0 - 2026-03-01\n{FIXED}\n## 0.9.0 - 2026-02-01\n{FIXED}"
    assert len(changelog.parse(f"{TITLE}\n{newer}{FIRST}")) == 4
