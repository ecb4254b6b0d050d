"""The command: ``make update`` of a project calls it, in a clone of the template.

The variables of make are in the environment: PROJECT, VERSION, ANSWERS, RUNTIME and DRY_RUN.
"""

import os
import shlex
import sys
import tempfile
from pathlib import Path

from .choices import Request
from .errors import UpdateError
from .plan import Plan, make_plan
from .project import Project
from .template import TEMPLATE, Template
from .trees import Copy

DONE = 0
REFUSED = 1
CONFLICTS = 2

VERBS = {"A": "add", "M": "change", "D": "delete"}


UPDATED = """\
Done. You are on {branch}. Run make ci, look at git show, then:
  git switch {back} && git merge {branch}
Or give it up:
  git switch {back} && git branch -D {branch}\
"""

CONFLICTS_LEFT = """\
Git could not merge the files that are marked CONFLICT. You are on {branch}. Correct them, then:
  git add --update && git cherry-pick --continue
Run make ci, look at git show, then:
  git switch {back} && git merge {branch}
Or give the update up:
  git cherry-pick --abort && git switch {back} && git branch -D {branch}\
"""

NO_PROJECT = """\
Name the folder of a project: make update PROJECT=../orders
A project has a make update of its own, which does this."""


def show(plan: Plan, runtime: str, verb: str) -> None:
    """Print what an update does; `verb` is what becomes of the runtime."""
    print(plan.change.title)
    print(*changes(plan, runtime, verb), sep="\n")
    print(f"on the branch {plan.change.branch}.")
    if plan.new_questions:
        names = ", ".join(plan.new_questions)
        print(f"\nNew questions, with their default answers (ANSWERS= changes them): {names}.")
    if plan.by_hand:
        print(f"\nTo do by hand, says the template's CHANGELOG.md:\n\n{plan.by_hand}\n")


def changes(plan: Plan, runtime: str, verb: str) -> list[str]:
    """List what becomes of which file; the runtime is one line."""
    merged = {path: letter for letter, paths in plan.paths.items() for path in paths}
    in_runtime = [path for path in merged if path.startswith(runtime)]
    return [
        *([f"  {verb:<9} {runtime} ({len(in_runtime)} files differ)"] if in_runtime else []),
        *(
            f"  {word:<9} {path}"
            for letter, word in VERBS.items()
            for path in plan.paths.get(letter, [])
            if path not in in_runtime
        ),
        *(
            f"  CONFLICT  {path}{f' ({reason})' if reason else ''}"
            for path, reason in plan.conflicts.items()
        ),
        *(f"  leave out {path} (you have deleted it)" for path in plan.left_out),
    ]


def update(folder: Path, work: Path, request: Request) -> int:
    """Update a project and return the exit code.

    Args:
        folder: the folder of the project.
        work: an empty folder.
        request: what the user asks for.

    Raises:
        UpdateError: it cannot be done; the project is as it was.
    """
    project = Project(folder)
    template = Template(TEMPLATE, work)
    copy = Copy(work / "copy", project.root, project.prefix, project.author)
    origin = project.origin()
    plan = make_plan(project, origin, template, request, copy)
    if plan is None:
        print(f"Nothing to do: the project has version {origin.version} and these answers.")
        return DONE
    runtime = f"{project.prefix}{origin.runtime}/"
    show(plan, runtime, request.runtime or "replace")
    if request.is_dry_run:
        return DONE
    plan.apply(project, copy)
    # A branch may have any name, and these lines are there to be pasted.
    back, branch = shlex.join(project.back), plan.change.branch
    if plan.conflicts:
        print(CONFLICTS_LEFT.format(back=back, branch=branch))
        return CONFLICTS
    print(UPDATED.format(back=back, branch=branch))
    return DONE


def main() -> int:
    """Update the project that make names."""
    variables = os.environ
    try:
        project = Path(variables.get("PROJECT", ""))
        if not variables.get("PROJECT") or not project.is_dir():
            raise UpdateError(NO_PROJECT)
        request = Request(
            version=variables.get("VERSION", "").strip(),
            answers=variables.get("ANSWERS", "").strip(),
            runtime=variables.get("RUNTIME", "").strip(),
            is_dry_run=bool(variables.get("DRY_RUN")),
        )
        with tempfile.TemporaryDirectory(prefix="tornado-template-") as work:
            return update(project, Path(work), request)
    except UpdateError as error:
        print(str(error).rstrip("\n"), file=sys.stderr)
    except KeyboardInterrupt:
        print("Interrupted. If something is left to do, make update tells it.", file=sys.stderr)
    return REFUSED


if __name__ == "__main__":
    sys.exit(main())
