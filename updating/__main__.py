"""The command: ``make update`` of a project calls it, in a clone of the template.

The variables of make are in the environment: PROJECT, VERSION, ANSWERS, RUNTIME and DRY_RUN.
"""

import os
import sys
import tempfile
from pathlib import Path

from .choices import Request
from .errors import UpdateError
from .plan import Plan, make_plan
from .project import Project
from .template import Template
from .trees import Copy

DONE = 0
REFUSED = 1
CONFLICTS = 2

TEMPLATE = Path(__file__).parents[1]

VERBS = {"A": "add", "M": "change", "D": "delete"}


def show(plan: Plan, runtime: str) -> None:
    """Print what an update does."""
    print(f"{plan.change.title}:")
    in_runtime = [path for paths in plan.paths.values() for path in paths if runtime in path]
    if in_runtime:
        print(f"  replace   {runtime} ({len(in_runtime)} files differ)")
    for letter, verb in VERBS.items():
        for path in plan.paths.get(letter, []):
            if path not in in_runtime:
                print(f"  {verb:<9} {path}")
    for path in plan.conflicts:
        print(f"  CONFLICT  {path}")
    for path in plan.left_out:
        print(f"  leave out {path} (you have deleted it)")
    print(f"on the branch {plan.change.branch}.")
    if plan.by_hand:
        print(f"\nTo do by hand, says the template's CHANGELOG.md:\n\n{plan.by_hand}\n")


def update(folder: Path, work: Path, request: Request, dry_run: bool) -> int:
    """Update a project and return the exit code.

    Args:
        folder: the folder of the project.
        work: an empty folder.
        request: what the user asks for.
        dry_run: only show what would be done.

    Raises:
        UpdateError: it cannot be done; the project is as it was.
    """
    project = Project(folder)
    template = Template(TEMPLATE, work)
    copy = Copy(work / "copy", project.root, project.prefix, project.author)
    plan = make_plan(project, template, request, copy)
    if plan is None:
        print("Nothing to do: the project has this version and these answers.")
        return DONE
    show(plan, f"{project.prefix}{project.origin().runtime}/")
    if dry_run:
        return DONE
    branch = project.git("rev-parse", "--abbrev-ref", "HEAD")
    plan.apply(project, copy)
    if plan.conflicts:
        print(
            "Git could not merge the files that are marked CONFLICT. Correct them, then:\n"
            "  git add --all && git cherry-pick --continue\n"
            "or go back:\n"
            f"  git cherry-pick --abort && git switch {branch}"
        )
        return CONFLICTS
    print(
        f"Done. You are on {plan.change.branch}. Run make ci, look at git show, then:\n"
        f"  git switch {branch} && git merge {plan.change.branch}"
    )
    return DONE


def main() -> int:
    """Update the project that make names."""
    variables = os.environ
    try:
        request = Request(
            *(variables.get(name, "").strip() for name in ("VERSION", "ANSWERS", "RUNTIME"))
        )
        with tempfile.TemporaryDirectory(prefix="tornado-template-") as work:
            dry_run = bool(variables.get("DRY_RUN"))
            return update(Path(variables["PROJECT"]), Path(work), request, dry_run)
    except UpdateError as error:
        print(error, file=sys.stderr)
        return REFUSED


if __name__ == "__main__":
    sys.exit(main())
