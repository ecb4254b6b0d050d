"""Every answer that somebody may give, good or bad, to the real command: it gives a whole project,
or says what is wrong and leaves nothing behind.
"""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from .bakes import TEMPLATE, questions
from .tools import needs

# Each case is a run of the real cookiecutter.
pytestmark = pytest.mark.slow

# Stands for a folder that exists, beside the one that projects go to.
BESIDE = "BESIDE"

WORKS: dict[str, dict[str, str]] = {
    "nothing but defaults": {},
    "name with apostrophe, quotes and backslashes": {
        "project_name": "O'Reilly's \"best\" C:\\new\\"
    },
    "name with triple quotes, description with everything": {
        "project_name": "''' \"\"\" x",
        "description": "\\ ' \" ''' \"\"\" {x} % $ # ` ñ 🎉 \\",
    },
    "name with emoji, description with braces": {
        "project_name": "Rocket 🚀 service",
        "description": "{% raw %}{{ x }} {% y %}{% endraw %}",
    },
    "name of nothing but emoji, author with everything": {
        "project_name": "🚀🚀",
        "author_name": 'Zoë "Z" O\'Neill \\ <z> {x} 💡',
    },
    "name with other letters, e-mail with everything": {
        "project_name": "Überwachung für Žižkov",
        "author_email": "a.b+c_d%1@mail-1.example.co.uk",
    },
    "name in another script, as many workers as can be": {
        "project_name": "予約サービス",
        "workers": "64",
    },
    "name with Markdown and HTML, question that nobody asked": {
        "project_name": "# *a* <b> [c](d) `e` & f",
        "no_such_question": "x",
    },
    "name with a shell in it": {"project_name": "$(touch x) `touch y` ; $HOME %PATH%"},
    "name whose slug would be too long": {"project_name": "語" * 60},
    "all as long as can be": {
        "project_name": "n" * 60,
        "project_slug": "s" * 60,
        "package_name": "p" * 60,
        "description": "d" * 200,
        "author_name": "a" * 100,
    },
    "slug of a module of Python": {"project_slug": "json", "package_name": "jsons"},
}

SLUG, PACKAGE = "project_slug", "package_name"

REFUSED: dict[str, tuple[dict[str, str], set[str]]] = {
    "empty name": ({"project_name": ""}, {"project_name"}),
    "name of spaces": ({"project_name": "   "}, {"project_name"}),
    "name with spaces around it": ({"project_name": " x "}, {"project_name"}),
    "name of two lines": ({"project_name": "a\nb"}, {"project_name"}),
    "name with a tab": ({"project_name": "a\tb"}, {"project_name"}),
    "name with control characters": ({"project_name": "a\x01\x1b[31mb"}, {"project_name"}),
    "name that turns the text around": ({"project_name": "a\u202eb"}, {"project_name"}),
    "name that is no text": ({"project_name": "a\udcffb"}, {"project_name"}),
    "name of 300 characters": ({"project_name": "n" * 300}, {"project_name"}),
    "name with a digit in front": ({"project_name": "3 services"}, {SLUG, PACKAGE}),
    "name of a module of Python": ({"project_name": "JSON"}, {PACKAGE}),
    "empty slug": ({SLUG: ""}, {SLUG, PACKAGE}),
    "slug that is this folder": ({SLUG: "."}, {SLUG, PACKAGE}),
    "slug that goes up": ({SLUG: "../x"}, {SLUG, PACKAGE}),
    "slug that goes up and down": ({SLUG: "../x/y/z"}, {SLUG, PACKAGE}),
    "slug that is an absolute path": ({SLUG: f"{BESIDE}/x/y"}, {SLUG, PACKAGE}),
    "slug that is a folder that exists": ({SLUG: BESIDE}, {SLUG, PACKAGE}),
    "slug with a folder": ({SLUG: "a/b", PACKAGE: "a_b"}, {SLUG}),
    "slug with upper case": ({SLUG: "My-Service"}, {SLUG, PACKAGE}),
    "slug with a digit in front": ({SLUG: "1a"}, {SLUG, PACKAGE}),
    "slug with two hyphens": ({SLUG: "a--b"}, {SLUG}),
    "slug with a hyphen behind": ({SLUG: "a-"}, {SLUG}),
    "slug with other letters": ({SLUG: "café"}, {SLUG, PACKAGE}),
    "slug of 61 characters": ({SLUG: "s" * 61}, {SLUG, PACKAGE}),
    "slug of 200 characters": ({SLUG: "s" * 200}, {SLUG, PACKAGE}),
    "slug of 300 characters": ({SLUG: "s" * 300, PACKAGE: "s"}, {SLUG}),
    "slug of a dependency": ({SLUG: "pydantic-settings", PACKAGE: "x"}, {SLUG}),
    "slug that YAML takes for a boolean": ({SLUG: "on"}, {SLUG, PACKAGE}),
    "slug of the tests": ({SLUG: "tests"}, {SLUG, PACKAGE}),
    "empty package": ({PACKAGE: ""}, {PACKAGE}),
    "package that is a keyword": ({PACKAGE: "class"}, {PACKAGE}),
    "package that is a soft keyword": ({PACKAGE: "match"}, {PACKAGE}),
    "package of a module of Python": ({PACKAGE: "json"}, {PACKAGE}),
    "package of a dependency": ({PACKAGE: "tornado"}, {PACKAGE}),
    "package with another name than its distribution": ({PACKAGE: "dotenv"}, {PACKAGE}),
    "package of the tests": ({PACKAGE: "tests"}, {PACKAGE}),
    "package that is a path": ({PACKAGE: "../../x"}, {PACKAGE}),
    "empty description, e-mail without at, no workers": (
        {"description": "", "author_email": "me.example.com", "workers": "0"},
        {"description", "author_email", "workers"},
    ),
    "description and author of two lines, e-mail without domain, too many workers": (
        {
            "description": "a\n\nb",
            "author_name": 'a"\nb = "c',
            "author_email": "me@localhost",
            "workers": "65",
        },
        {"description", "author_name", "author_email", "workers"},
    ),
    "description that ends in a newline, e-mail with name, workers in words": (
        {"description": "a\n", "author_email": "Me <me@example.com>", "workers": "auto"},
        {"description", "author_email", "workers"},
    ),
    "description of 201 characters": ({"description": "d" * 201}, {"description"}),
}

# cookiecutter checks choices and renders answers before it calls a hook. These end in a traceback
# of its own, the last line of which says what is wrong.
COOKIECUTTER_REFUSES: dict[str, tuple[dict[str, str], str]] = {
    "unknown license": ({"license": "GPL"}, "GPL provided for choice variable license"),
    "unknown Python": (
        {"python_version": "2.7"},
        "2.7 provided for choice variable python_version",
    ),
    "unknown logging": ({"logging": "syslog"}, "syslog provided for choice variable logging"),
    "unknown deploy": ({"deploy": "heroku"}, "heroku provided for choice variable deploy"),
    "unknown processes": ({"processes": "2"}, "2 provided for choice variable processes"),
    "choice in upper case": ({"ci": "GitHub"}, "GitHub provided for choice variable ci"),
    "empty choice": ({"ci": ""}, "provided for choice variable ci"),
    "broken expression": ({"description": "{{ x"}, "unexpected end of template"),
}


@dataclass
class Outcome:
    """What a run of the command came to."""

    exit_code: int
    output: str
    errors: str
    # The folder for projects, and everything in and around it before and after the run.
    here: Path
    before: set[Path]
    after: set[Path]


def cookiecutter(folder: Path, *arguments: str) -> Outcome:
    """Run the real command, with a home and a place for temporary files of its own."""
    home, around = folder / "home", folder / "around"
    here, beside = around / "here", around / BESIDE
    for path in (home, here, beside):
        path.mkdir(parents=True)
    (beside / "kept").write_text("")
    before = set(around.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-m", "cookiecutter", "--no-input", "--default-config", *arguments],
        cwd=here,
        env={**os.environ, "HOME": str(home), "TMPDIR": str(home), "PYTHONUTF8": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
    )
    output, errors = (out.decode(errors="backslashreplace") for out in (done.stdout, done.stderr))
    return Outcome(done.returncode, output, errors, here, before, set(around.rglob("*")))


def answer(folder: Path, answers: dict[str, str]) -> Outcome:
    """Give answers as arguments."""
    beside = str(folder / "around" / BESIDE)
    given = [f"{key}={value.replace(BESIDE, beside)}" for key, value in answers.items()]
    return cookiecutter(folder, str(TEMPLATE), *given)


CASES = {
    **WORKS,
    **{case: answers for case, (answers, _) in REFUSED.items()},
    **{case: answers for case, (answers, _) in COOKIECUTTER_REFUSES.items()},
}


@pytest.fixture
def outcome(tmp_path: Path, case: str) -> Outcome:
    """What one case comes to."""
    return answer(tmp_path, CASES[case])


def bad_keys(outcome: Outcome) -> set[str]:
    """List the answers that the message complains about."""
    return set(re.findall(r"^(\w+) must .*, got .*\.$", outcome.errors, re.MULTILINE))


def retry_command(outcome: Outcome) -> list[str]:
    """Take the command that tries again out of the message."""
    (line,) = re.findall(r"^  (cookiecutter .*)$", outcome.errors, re.MULTILINE)
    return shlex.split(line)


def assert_project_is_whole(project: Path) -> None:
    """Check that a project could be installed."""
    data = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]
    assert data["name"] == project.name
    assert [*project.rglob("*.py")]
    command = [needs("ruff"), "check", "--no-cache", str(project)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def assert_nothing_is_left(outcome: Outcome) -> None:
    """Check that the run neither made nor removed a file or folder."""
    assert outcome.after == outcome.before
    assert list(outcome.here.iterdir()) == []


@pytest.mark.parametrize("case", WORKS)
def test_good_answers_give_a_whole_project(outcome: Outcome, case: str) -> None:
    assert outcome.exit_code == 0, outcome.output + outcome.errors
    assert outcome.errors == ""
    (project,) = outcome.here.iterdir()
    assert f"{project.name} is ready." in outcome.output
    assert_project_is_whole(project)
    assert all(project in [path, *path.parents] for path in outcome.after - outcome.before)
    assert outcome.before <= outcome.after
    if "description" in WORKS[case]:
        given = re.sub(r"{% (end)?raw %}", "", WORKS[case]["description"])
        data = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
        assert data["project"]["description"] == given


@pytest.mark.parametrize("case", REFUSED)
def test_bad_answers_are_refused_by_name(outcome: Outcome, case: str) -> None:
    assert outcome.exit_code == 1
    assert bad_keys(outcome) == REFUSED[case][1]
    # cookiecutter itself prints where it noticed that the hook said no, on the other stream.
    assert "Traceback" not in outcome.errors
    places = re.findall(r'File "(.*?)"', outcome.output)
    assert {Path(place).name for place in places} == {"hooks.py"}
    assert "is ready" not in outcome.output
    assert_nothing_is_left(outcome)


@pytest.mark.parametrize("case", COOKIECUTTER_REFUSES)
def test_cookiecutter_refuses_by_itself(outcome: Outcome, case: str) -> None:
    assert outcome.exit_code == 1
    assert COOKIECUTTER_REFUSES[case][1] in outcome.errors.splitlines()[-1]
    assert "is ready" not in outcome.output
    assert_nothing_is_left(outcome)


def test_all_bad_answers_are_refused_at_once_with_a_command_that_works(tmp_path: Path) -> None:
    bad = {
        "project_name": "two\nlines",
        "project_slug": "../Slug",
        "package_name": "class",
        "author_email": "nobody",
    }
    good = {
        "description": 'It\'s "good" \\ {x} $HOME `id` 100% #1 ñ 🎉',
        "author_name": "Zoë O'Neill",
        "license": "Apache-2.0",
        "python_version": "3.13",
        "logging": "file",
        "ci": "gitlab",
    }
    refused = answer(tmp_path / "refused", {**bad, **good})
    assert refused.exit_code == 1
    assert bad_keys(refused) == set(bad)
    assert_nothing_is_left(refused)

    program, template, *repeated = retry_command(refused)
    assert (program, template) == ("cookiecutter", str(TEMPLATE))
    given = dict(argument.split("=", 1) for argument in repeated)
    assert given.keys() == questions().keys() - bad.keys()
    assert given.items() >= good.items()

    corrected = [
        "project_name=New",
        "project_slug=new",
        "package_name=fresh",
        "author_email=a@b.cd",
    ]
    done = cookiecutter(tmp_path / "corrected", template, *repeated, *corrected)
    assert done.exit_code == 0, done.errors
    project = done.here / "new"
    assert_project_is_whole(project)
    data = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]
    assert data["description"] == good["description"]
    assert data["authors"] == [{"name": good["author_name"], "email": "a@b.cd"}]
    assert data["license"] == good["license"]
    assert data["requires-python"] == f">={good['python_version']}"
    assert (project / "src/fresh").is_dir()
    assert (project / "deploy/logrotate").is_dir()
    assert (project / ".gitlab-ci.yml").is_file()
    assert not (project / ".github").exists()


def test_project_that_exists_is_left_alone(tmp_path: Path) -> None:
    # As a user would notice it: the same command twice.
    first = answer(tmp_path, {})
    readme = first.here / "tornado-service/README.md"
    readme.write_text("mine")
    arguments = [str(TEMPLATE), "--output-dir", str(first.here), "project_slug=tornado-service"]
    second = cookiecutter(tmp_path / "second", *arguments)
    assert second.exit_code == 1
    assert "already exists" in second.output
    assert "Traceback" not in second.output + second.errors
    assert readme.read_text() == "mine"
    assert set(first.here.parent.rglob("*")) == first.after
