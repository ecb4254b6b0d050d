"""Remove what was not chosen, then say what to do next.

cookiecutter renders this file and runs it in the new project. Which answers keep which paths
stands in ``_features`` in cookiecutter.json, with an asterisk in place of the name of the package.
A path below another one is kept for the answers of both.

What lay at the paths that were not chosen, pre_gen_project.py has set aside: all that is there now,
the template has written.
"""

import json
import os
import shutil
import sys
from pathlib import Path

ANSWERS = r"""{{ cookiecutter | tojson }}"""
ASIDE = Path(".set-aside-by-cookiecutter")


def unwanted(answers: dict) -> list[Path]:
    """List the paths that belong to answers that were not given, the deepest first."""
    patterns = [
        pattern
        for feature in answers["_features"]
        if any(answers[question] not in good for question, good in feature["for"].items())
        for pattern in feature["paths"]
    ]
    paths = [path for pattern in patterns for path in Path().glob(pattern)]
    # What a symbolic link leads to is not of this project.
    paths = [path for path in paths if not any(folder.is_symlink() for folder in path.parents)]
    return sorted(paths, key=lambda path: len(path.parts), reverse=True)


def remove(path: Path) -> None:
    """Remove a file or folder, which must exist, and the folders that this leaves empty."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    for folder in path.parents:
        if folder == Path() or any(folder.iterdir()):
            break
        folder.rmdir()


def is_same(one: Path, other: Path) -> bool:
    """Tell whether two paths are files with the same bytes."""
    are_files = one.is_file() and other.is_file() and not one.is_symlink()
    return are_files and one.read_bytes() == other.read_bytes()


def owners_files() -> list[Path]:
    """List what was set aside, without the files that are as the template has written them."""
    found = [path for path in sorted(ASIDE.rglob("*")) if path.is_symlink() or not path.is_dir()]
    places = [path.relative_to(ASIDE) for path in found]
    return [place for place in places if not is_same(ASIDE / place, place)]


def put_back(files: list[Path]) -> None:
    """Move files back that were set aside, and remove the others."""
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        (ASIDE / file).replace(file)
    shutil.rmtree(ASIDE, ignore_errors=True)


def next_steps(answers: dict, colour: bool) -> str:
    """Tell how to go on."""
    slug = answers["project_slug"]
    bold, dim, plain = ("\033[1m", "\033[2m", "\033[0m") if colour else ("", "", "")
    return f"""
{bold}{slug} is ready.{plain} Next:

  cd {slug}
  git init && git add . && git commit -m "Start"

  make run     {dim}serve on http://127.0.0.1:8000 (health on :9000/readyz){plain}
  make test    {dim}run the tests{plain}
  make dev     {dim}serve while you work: restart whenever a file is saved{plain}

README.md goes on from there. The commit is for `make update`, which merges
newer versions of the template with your changes.
"""


def main() -> None:
    """Finish the project of this run."""
    # On Windows a pipe may not have all letters. That is no reason to fail.
    sys.stdout.reconfigure(errors="backslashreplace")
    answers = json.loads(ANSWERS)
    kept = owners_files()
    try:
        for path in unwanted(answers):
            remove(path)
    finally:
        put_back(kept)
    if kept:
        names = ", ".join(path.as_posix() for path in kept)
        print(f"Not removed, because the template would not write it like this: {names}")
    is_plain = os.name == "nt" or os.environ.get("NO_COLOR")
    print(next_steps(answers, colour=sys.stdout.isatty() and not is_plain))


if __name__ == "__main__":
    main()
