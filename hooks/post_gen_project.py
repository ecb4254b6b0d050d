"""Remove what was not chosen, then say what to do next.

cookiecutter renders this file and runs it in the new project. Which answers keep which paths
stands in ``_features`` in cookiecutter.json, with an asterisk in place of the name of the package.
A path below another one is kept for the answers of both.
"""

import json
import os
import shutil
import sys
from pathlib import Path

ANSWERS = r"""{{ cookiecutter | tojson }}"""


def unwanted(answers: dict) -> list[Path]:
    """List the paths that belong to answers that were not given, the deepest first."""
    patterns = [
        pattern
        for feature in answers["_features"]
        if any(answers[question] not in good for question, good in feature["for"].items())
        for pattern in feature["paths"]
    ]
    paths = [path for pattern in patterns for path in Path().glob(pattern)]
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


def next_steps(answers: dict, colour: bool) -> str:
    """Tell how to go on."""
    slug = answers["project_slug"]
    bold, plain = ("\033[1m", "\033[0m") if colour else ("", "")
    return f"""
{bold}{slug} is ready.{plain} Next:

  cd {slug}
  make run     serve on http://127.0.0.1:8000, health on http://127.0.0.1:9000/readyz
  make test    run its tests
  make dev     serve while you change it

README.md says how to change, configure and operate it.
"""


def main() -> None:
    """Finish the project of this run."""
    answers = json.loads(ANSWERS)
    for path in unwanted(answers):
        remove(path)
    print(next_steps(answers, colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR")))


if __name__ == "__main__":
    main()
