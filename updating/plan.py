"""Tries an update in a copy of the project, and does it in the project."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from .changelog import what_to_do
from .choices import Request, check_keys, next_answers, next_version, present_version
from .errors import UpdateError
from .git import Git
from .project import ANSWERS_FILE, BRANCHES, ON_BRANCH, Origin, Project, record_origin
from .template import Answers, Template, Version
from .trees import Copy, Tree

UPDATE = "update"
"""The branch of the copy with the update."""

REASONS = {
    "12": "you have changed it, the template has deleted it",
    "13": "the template has changed it, you have deleted it",
    "23": "you both have added it",
}
"""Why git cannot merge a file, by what it has: 1 the old version, 2 yours, 3 the template's."""

RUNTIME_CHANGED = """\
These files of the runtime were changed by hand, and an update replaces the runtime:
  {files}
There are two ways to go on:
  make update RUNTIME=replace   gives these changes up
  make update RUNTIME=merge     merges them with the new version, as it does with your own files
"""


@dataclass(frozen=True)
class Change:
    """What is to change.

    Attributes:
        old: the version that the project has, and its answers.
        new: the version that it is to have, and its answers.
    """

    old: tuple[Version, Answers]
    new: tuple[Version, Answers]

    @property
    def is_of_answers(self) -> bool:
        """Whether the version stays."""
        return self.old[0] == self.new[0]

    @property
    def answers(self) -> list[str]:
        """The answers that change, each as ``key=value``."""
        before, after = self.old[1], self.new[1]
        changed = {key: answer for key, answer in after.items() if answer != before.get(key)}
        return [
            f"{key}={str(answer).lower() if isinstance(answer, bool) else answer}"
            for key, answer in changed.items()
        ]

    @property
    def branch(self) -> str:
        """The branch that the update gets."""
        what = "-".join(self.answers) if self.is_of_answers else self.new[0].name
        return f"{BRANCHES}{re.sub(r'[^a-zA-Z0-9.]+', '-', what)[:60].strip('-.')}"

    @property
    def title(self) -> str:
        """The subject of the commit."""
        if self.is_of_answers:
            return f"Change the template's answers: {', '.join(self.answers)}"
        answers = f", with {', '.join(self.answers)}" if self.answers else ""
        return f"Update tornado-template from {self.old[0].name} to {self.new[0].name}{answers}"


@dataclass
class Plan:
    """An update that was tried in a copy of the project.

    Attributes:
        change: what it is for.
        by_hand: what the changelog tells the owner to do.
        paths: the paths that it changes, by git's letter: A (added), M (modified), D (deleted).
        conflicts: the paths that git cannot merge, each with the reason if it is not that both have
            changed the same lines.
        new_questions: those that the old version does not ask; they have their default answers.
        left_out: changed paths of the template that the owner has deleted.
    """

    change: Change
    by_hand: str = ""
    paths: dict[str, list[str]] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)
    new_questions: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def message(self) -> str:
        """The message of the commit."""
        by_hand = f"\n\nTo do by hand:\n\n{self.by_hand}" if self.by_hand else ""
        return f"{self.change.title}{by_hand}\n"

    def rehearse(self, copy: Copy, old: Tree, new: Tree) -> None:
        """Do it in the copy, and note what happens.

        Args:
            copy: the copy of the project.
            old, new: what the template generates.
        """
        before = copy.git("rev-parse", "HEAD")
        base = copy.commit(old, f"Generate {self.change.old[0].name}")
        update = copy.commit(new, self.message, base)
        copy.git("branch", UPDATE, update)
        self._pick(copy.git, update)
        self.conflicts = {path: REASONS.get(stages, "") for path, stages in copy.unmerged().items()}
        fields = copy.git.paths("diff", "--name-status", "--no-renames", "-z", before)
        for letter, path in zip(fields[::2], fields[1::2], strict=True):
            if path not in self.conflicts:
                self.paths.setdefault(letter, []).append(path)

    def apply(self, project: Project, copy: Copy) -> None:
        """Do it in the project, on a new branch. The one that was there stays as it is.

        Conflicts are left as git leaves them, in a cherry-pick that waits to be continued.
        """
        git = project.git
        git("fetch", "--quiet", "--no-tags", str(copy.git.folder), f"refs/heads/{UPDATE}")
        update = git("rev-parse", "FETCH_HEAD")
        # A branch of that name is merged: see `check_branch`.
        git("switch", "--quiet", "--force-create", self.change.branch)
        try:
            self._pick(git, update)
        except UpdateError:  # a hook of the project refuses the commit, say
            git.run("cherry-pick", "--abort")
            git.run("switch", "--quiet", *project.back)
            git.run("branch", "--quiet", "--delete", "--force", self.change.branch)
            raise

    def _pick(self, git: Git, update: str) -> None:
        """Merge the update into the branch of a repository: three ways, with its parent as base."""
        # Where a part is switched off, a new file is not an old one under another name.
        options = ["--strategy-option=no-renames"] if self.change.is_of_answers else []
        picked = git.run("cherry-pick", *options, update)
        if picked.returncode and not git.paths("diff", "--name-only", "--diff-filter=U", "-z"):
            raise UpdateError(f"git cherry-pick failed:\n{picked.stderr.strip()}")


def make_plan(
    project: Project, origin: Origin, template: Template, request: Request, copy: Copy
) -> Plan | None:
    """Try an update in a copy of the project. Returns None if there is nothing to do.

    Args:
        project: the project, which is not changed.
        origin: where it comes from.
        template: the template's repository.
        request: what the user asks for.
        copy: a copy of the project.

    Raises:
        UpdateError: it cannot be done; the message tells what to do.
    """
    present = present_version(project, template, origin, copy)
    questions = template.questions(present)
    check_keys(questions, origin)
    wanted = next_version(template, request, present)
    answers = next_answers(template, request, origin, wanted)
    if wanted == present and answers == origin.answers and origin.version:
        return None
    change = Change((present, origin.answers), (wanted, answers))
    if not request.is_dry_run:
        check_branch(project, change.branch)
    check_runtime(project, origin, request)
    folders = template.generate(*change.old), template.generate(*change.new)
    # A change of answers leaves the version as the project has written it.
    is_named = change.is_of_answers and origin.version
    record_origin(folders[1], origin.address, origin.version if is_named else wanted.name)
    old, new = map(copy.tree_of_folder, folders)
    own = copy.tree_of_commit("HEAD")
    replaced = [ANSWERS_FILE] if request.runtime == "merge" else [ANSWERS_FILE, origin.runtime]
    replace_whole(replaced, old, own)
    plan = Plan(change)
    plan.new_questions = [
        key for key in template.questions(wanted) if key not in questions and key not in answers
    ]
    if not change.is_of_answers:
        plan.by_hand = what_to_do(template.changelog(wanted), template.changelog(present))
    left_out = leave_out(old, new, own, copy.deleted(old, own))
    plan.left_out = [f"{project.prefix}{path}" for path in left_out]
    plan.rehearse(copy, old, new)
    check_ignored(project, plan.paths.get("A", []))
    return plan


def check_branch(project: Project, branch: str) -> None:
    """Raise `UpdateError` if there is a branch of that name which is not merged."""
    if branch == project.branch:
        raise UpdateError(ON_BRANCH.format(branch=branch))
    reference = f"refs/heads/{branch}"
    if project.git.has(reference) and not project.git.is_success(
        "merge-base", "--is-ancestor", reference, "HEAD"
    ):
        raise UpdateError(
            f"There is a branch {branch} already. Merge it, or delete it: "
            f"git branch --delete --force {branch}"
        )


def check_runtime(project: Project, origin: Origin, request: Request) -> None:
    """Raise `UpdateError` if the runtime was changed by hand and nobody said what to do then."""
    changed = [] if request.runtime else project.changed_runtime(origin.runtime)
    if changed:
        raise UpdateError(RUNTIME_CHANGED.format(files="\n  ".join(changed)))


def check_ignored(project: Project, added: list[str]) -> None:
    """Raise `UpdateError` if the update would write over a file that git ignores."""
    tracked = set(project.git.paths("ls-files", "-z", "--full-name", ":/"))
    folders = {folder.as_posix() for path in added for folder in PurePosixPath(path).parents[:-1]}
    in_the_way = [
        *(path for path in added if os.path.lexists(project.root / path)),
        *(path for path in folders - tracked if _is_no_folder(project.root / path)),
    ]
    if in_the_way:
        raise UpdateError(
            "The update adds files that are here already, and git ignores them. "
            f"Move them: {', '.join(sorted(in_the_way))}"
        )


def _is_no_folder(path: Path) -> bool:
    """Return whether something else is where a folder is to be: git would remove it."""
    return os.path.lexists(path) and (path.is_symlink() or not path.is_dir())


def replace_whole(paths: list[str], old: Tree, own: Tree) -> None:
    """Let the new version of some files and folders win, whatever the project has.

    Args:
        paths: the files and folders.
        old: what the template generated before. There it becomes what the project has, so that the
            merge sees no change of the owner.
        own: what the project has.
    """

    def is_meant(path: str) -> bool:
        return any(path == one or path.startswith(f"{one}/") for one in paths)

    for path in [path for path in old if is_meant(path)]:
        del old[path]
    old.update({path: entry for path, entry in own.items() if is_meant(path)})


def leave_out(old: Tree, new: Tree, own: Tree, deleted: set[str]) -> list[str]:
    """Take out what the owner has deleted, so that it stays deleted. Returns what had changed.

    Args:
        old, new: what the template generates.
        own: what the project has.
        deleted: the files that the owner has deleted.
    """
    # A new file in a folder that the owner has deleted belongs to what was deleted.
    folders = {folder for path in deleted for folder in PurePosixPath(path).parents}
    folders -= {folder for path in own for folder in PurePosixPath(path).parents}
    added = {
        path
        for path in new.keys() - old.keys()
        if not folders.isdisjoint(PurePosixPath(path).parents)
    }
    changed = added | {path for path in deleted & new.keys() if new[path] != old[path]}
    for tree in (old, new):
        for path in (deleted | added) & tree.keys():
            del tree[path]
    return sorted(changed)
