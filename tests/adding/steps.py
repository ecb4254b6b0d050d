"""What the five steps of CONTRIBUTING add to a template: a part that logs the slowest requests."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILES = Path(__file__).parent
PROJECT = "{{cookiecutter.project_slug}}"
PACKAGE = f"{PROJECT}/src/{{{{cookiecutter.package_name}}}}"

Step = Callable[[Path], None]


def make(template: Path, target: str) -> None:
    """Run make in a copy of the template, with the tools that run this test."""
    command = ["make", "--silent", "--old-file=.venv/installed", target]
    subprocess.run(command, cwd=template, check=True)


def edit_json(template: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = template / "cookiecutter.json"
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content, indent=2), "utf-8")


def edit(file: str, pattern: str, added: str) -> Step:
    """Return what adds text after the one place in a file that matches a pattern."""

    def insert(template: Path) -> None:
        path = template / file
        text, count = re.subn(
            pattern, lambda found: found[0] + added, path.read_text("utf-8"), flags=re.M
        )
        assert count == 1, (file, pattern, count)
        path.write_text(text, "utf-8")

    return insert


def copy(folder: str, place: str) -> Step:
    """Return what copies a folder of `adding/`."""

    def copy(template: Path) -> None:
        shutil.copytree(FILES / folder, template / place, dirs_exist_ok=True)

    return copy


def ask(template: Path) -> None:
    edit_json(template, lambda content: insert_after(content, "tracing", "slowest", False))


def say(template: Path) -> None:
    edit_json(
        template,
        lambda content: insert_after(
            content["__prompts__"], "tracing", "slowest", "Log the slowest requests?"
        ),
    )


def insert_after(content: dict[str, Any], key: str, new_key: str, value: object) -> None:
    items = [*content.items()]
    position = [*content].index(key) + 1
    content.clear()
    content.update([*items[:position], (new_key, value), *items[position:]])


def name_paths(template: Path) -> None:
    feature = {"for": {"slowest": [True]}, "paths": ["src/*/runtime/slowest", "deploy/slowest"]}
    edit_json(template, lambda content: content["_features"].append(feature))


def copy_without_render(template: Path) -> None:
    edit_json(template, lambda content: content["_copy_without_render"].append("deploy/slowest"))


def reserve_name(template: Path) -> None:
    def reserve(content: dict[str, Any]) -> None:
        content["_reserved_names"] = sorted([*content["_reserved_names"], "markupsafe"])

    edit_json(template, reserve)


def make_runtime(template: Path) -> None:
    make(template, "runtime")


def if_slowest(*lines: str) -> str:
    return "\n".join(["{% if cookiecutter.slowest %}", *lines, "{% endif %}", ""])


def import_and_list(template: Path) -> None:
    main = f"{PACKAGE}/__main__.py"
    imported = if_slowest("from .runtime.slowest import Slowest")
    edit(main, r"^from \.runtime\.metrics .*\n{% endif %}\n", imported)(template)
    edit(main, r"^        Metrics\(\),\n{% endif %}\n", if_slowest("        Slowest(),"))(template)


VARIABLE = ("# How many of the slowest requests are logged at the end.", "# SLOWEST_COUNT=3", "")
SENTENCE = ("- **The slowest requests** are logged when the service stops.",)
DEPENDENCY = '    "markupsafe>=3,<4",\n'

STEPS: dict[str, dict[str, Step]] = {
    "Ask": {"cookiecutter.json": ask, "__prompts__": say},
    "Write": {
        "Extension in runtime/": copy("runtime", f"{PACKAGE}/runtime"),
        "tests/runtime/": copy("tests/runtime", "tests/runtime"),
        "README.md in deploy/": copy("deploy", f"{PROJECT}/deploy"),
        "layers in pyproject.toml": edit("pyproject.toml", r"workers \| metrics", " | slowest"),
        "runtime/README.md": edit(
            f"{PACKAGE}/runtime/README.md",
            r"^\| `tracing/`.*\n",
            "| `slowest/` (optional) | the slowest requests | `extension.Slowest` |\n",
        ),
        "make runtime": make_runtime,
    },
    "Name": {"_features": name_paths, "_copy_without_render": copy_without_render},
    "Connect": {
        "__main__.py": import_and_list,
        ".env.example": edit(
            f"{PROJECT}/.env.example", r"^# APP_THREADS=.*\n\n", if_slowest(*VARIABLE)
        ),
        "README.md": edit(f"{PROJECT}/README.md", r"^## Operate.*\n\n", if_slowest(*SENTENCE)),
        "pyproject.toml": edit(
            f"{PROJECT}/pyproject.toml",
            r"^dependencies = \[\n",
            if_slowest(DEPENDENCY.rstrip()),
        ),
        "constraints.txt": edit(
            f"{PROJECT}/constraints.txt", r"^markdown-it-py==.*\n", if_slowest("markupsafe==3.0.4")
        ),
        "runtime in pyproject.toml": edit("pyproject.toml", r"^runtime = \[\n", DEPENDENCY),
        "_reserved_names": reserve_name,
    },
    "Prove": {
        "WORDS": edit(
            "tests/test_absent.py",
            r"^WORDS = .*\n",
            '    "slowest": re.compile("slowest|markupsafe"),\n',
        ),
        "DISTRIBUTIONS in tests/test_absent.py": edit(
            "tests/test_absent.py", r"^DISTRIBUTIONS = .*\n", '    "slowest": "markupsafe",\n'
        ),
        "tests/running/": copy("tests/running", "tests/running"),
    },
}
