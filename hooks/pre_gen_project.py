"""Refuse bad answers before anything is written: all at once, with the command that tries again.
Set aside what lies where an optional part goes that was not chosen.

cookiecutter renders this file and runs it in the new, still empty folder. It makes that folder
before it asks this hook, so a slug that is empty, too long or a path would be an error of its own
or leave folders behind: ``__given_slug`` in cookiecutter.json keeps such a slug for this hook and
puts a harmless one in its place.

With ``--overwrite-if-exists`` the folder is that of an older project. cookiecutter writes every
optional part, also one that was not chosen and is removed at the end: files of its owner would be
written over or removed with it.
"""

import json
import keyword
import os
import re
import shlex
import sys
from pathlib import Path

ANSWERS = r"""{{ cookiecutter | tojson }}"""

# Names that are taken in some Python from 3.11 to 3.14, whichever runs this hook.
SOMETIMES_TAKEN = """
    aifc annotationlib asynchat asyncore audioop cgi cgitb chunk compression crypt distutils imghdr
    imp lib2to3 mailcap msilib nis nntplib ossaudiodev pipes smtpd sndhdr spwd sunau telnetlib type
    uu xdrlib
""".split()  # noqa: SIM905
TAKEN = {*keyword.kwlist, *keyword.softkwlist, *sys.stdlib_module_names, *SOMETIMES_TAKEN}
# Windows has no folders with these names.
DEVICES = {"aux", "con", "nul", "prn"}.union(f"{p}{n}" for p in ("com", "lpt") for n in range(10))
SLUG = r"[a-z][a-z0-9]*(-[a-z0-9]+)*"
PACKAGE = r"[a-z][a-z0-9_]*"
EMAIL = r"[\w.!#$%&*+/=?^`|~-]+@[\w-]+(\.[\w-]+)+"
# post_gen_project.py puts back from it what the template has not written, and removes it.
ASIDE = Path(".set-aside-by-cookiecutter")
ON_WINDOWS = os.name == "nt"
# cookiecutter would render the first three. Shells of Windows change the others, even in quotes.
UNREPEATABLE = r"{[%#{]" + (r'|["$%`\u201c-\u201e]|\\$' if ON_WINDOWS else "")


def is_line(value: str, length: int) -> bool:
    """Tell whether a text is one line that people can read."""
    return 0 < len(value) <= length and value.isprintable() and value == value.strip()


def complaints(answers: dict) -> list[tuple[str, str]]:
    """Say what is wrong with which answer: keys, each with a sentence."""
    reserved = DEVICES.union(answers["_reserved_names"])
    keys = "project_name description author_name author_email project_slug package_name"
    name, description, author, email, slug, package = map(answers.get, keys.split())
    rules = [
        ("project_name", is_line(name, 60), "must be one line of 1 to 60 printable characters"),
        (
            "project_slug",
            len(slug) <= 60 and re.fullmatch(SLUG, slug),
            "must be 1 to 60 lower-case letters, digits and single hyphens, starting with a letter",
        ),
        (
            "project_slug",
            slug.replace("-", "_") not in reserved,
            "must not be the name of something that the project depends on, or a word such as null",
        ),
        (
            "package_name",
            len(package) <= 60 and re.fullmatch(PACKAGE, package),
            "must be 1 to 60 lower-case letters, digits and underscores, starting with a letter",
        ),
        (
            "package_name",
            package not in TAKEN and package not in reserved,
            "must not be a keyword, a module of Python, a dependency, or a word such as null",
        ),
        (
            "description",
            is_line(description, 200),
            "must be one line of 1 to 200 printable characters",
        ),
        ("author_name", is_line(author, 100), "must be one line of 1 to 100 printable characters"),
        (
            "author_email",
            len(email) <= 100 and email.isascii() and re.fullmatch(EMAIL, email),
            "must look like name@example.com",
        ),
        (
            "workers",
            re.fullmatch(r"[1-9]|[1-5]\d|6[0-4]", str(answers["workers"]), re.ASCII),
            "must be a whole number from 1 to 64",
        ),
    ]
    return [(key, sentence) for key, good, sentence in rules if not good]


def retry_command(answers: dict, bad: set[str]) -> str:
    """Build the command that repeats the good answers and asks for the others."""
    good = [
        f"{key}={value}"
        for key, value in answers.items()
        if not key.startswith("_") and key not in bad and not re.search(UNREPEATABLE, str(value))
    ]
    version = ["--checkout", answers["_checkout"]] if answers.get("_checkout") else []
    words = ["cookiecutter", *version, answers.get("_template", "TEMPLATE"), *good]
    if not ON_WINDOWS:
        return shlex.join(words)
    is_plain = re.compile(r"[\w.:/\\=+-]+").fullmatch
    return " ".join(word if is_plain(word) else f'"{word}"' for word in words)


# The same as in post_gen_project.py: one hook cannot import from the other.
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


def set_aside(path: Path) -> None:
    """Move a file, or the files in a folder but for byte code, into ASIDE."""
    is_folder = path.is_dir() and not path.is_symlink()
    for file in [*path.rglob("*")] if is_folder else [path]:
        is_file = file.is_symlink() or not file.is_dir()
        if is_file and "__pycache__" not in file.parts:
            (ASIDE / file).parent.mkdir(parents=True, exist_ok=True)
            file.rename(ASIDE / file)


def main() -> int:
    """Check the answers of this run, and make room for it."""
    answers = json.loads(ANSWERS)
    answers["project_slug"] = answers["__given_slug"]
    bad = complaints(answers)
    problems = [f"{key} {sentence}, got {answers[key]!a}." for key, sentence in bad]
    if ASIDE.exists():
        problems.append(
            f"{ASIDE}/ has files of yours, left there by a run that failed. "
            "Move them to their places and remove it."
        )
    if not problems:
        for path in unwanted(answers):
            set_aside(path)
        return 0
    print(*problems, sep="\n", file=sys.stderr)
    print(
        f"\nNothing was written. This asks again and keeps the good answers:\n\n"
        f"  {retry_command(answers, {key for key, _ in bad})}\n",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
