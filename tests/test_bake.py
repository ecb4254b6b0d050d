"""Every project that the answers can give: whole, clean, and what was asked for.

Nothing here is installed or started, and nothing is mended before it is checked.
"""

import fnmatch
import functools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from .bakes import (
    ALL_OFF,
    ALL_ON,
    AWKWARD,
    BAKES,
    LONGEST,
    TEMPLATE,
    Answers,
    choices,
    kept,
    matrix,
)
from .tools import needs

Bake = Callable[..., Path]

# Where text may look like a tag of Jinja because it is one of somebody else's.
FOREIGN_TAGS = {
    ".github/workflows/*": r"\$\{\{",
    # It shows a template of Tornado.
    "docs/change.md": r"\{[{%] (name \}|static_url\(|module xsrf_form_html\()",
    "deploy/grafana/dashboards/*.json": r"\{\{\w+\}\}",
    "deploy/prometheus/*.rules.yml": r"\{\{ \$",
}

YAMLLINT = """
extends: relaxed
rules:
  line-length: {max: 120}
  comments: {min-spaces-from-content: 1}
  new-lines: {type: unix}
"""

LICENSE_TEXTS = {
    "MIT": "Permission is hereby granted, free of charge",
    "BSD-3-Clause": "Redistribution and use in source and binary forms",
    "Apache-2.0": "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION",
    "Proprietary": "All rights reserved.",
}


@pytest.fixture(params=BAKES)
def answers(request: pytest.FixtureRequest) -> Answers:
    """The answers of one bake."""
    return BAKES[request.param]


@pytest.fixture
def project(bake: Bake, answers: Answers) -> Path:
    """The project that these answers gave."""
    return bake(**answers)


def files(project: Path) -> dict[str, Path]:
    """List the files of a project by their names in it."""
    found = {p.relative_to(project).as_posix(): p for p in project.rglob("*") if p.is_file()}
    # Other tests install the default project and run it in place.
    own = {n: p for n, p in found.items() if not n.startswith(".venv/") and "__pycache__" not in n}
    return dict(sorted(own.items()))


def texts(project: Path) -> dict[str, str]:
    """Read the files of a project, byte for byte."""
    return {name: path.read_bytes().decode() for name, path in files(project).items()}


def answered(answers: Answers, question: str) -> Any:
    """Tell what was answered, by default if nothing else."""
    return answers.get(question, choices()[question][0])


def assert_accepts(*command: str, cwd: Path | None = None) -> None:
    """Run a checker, which has nothing to say against what it is given."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def package(project: Path) -> str:
    """Tell the name of the package, the one folder below `src`."""
    (folder,) = (project / "src").iterdir()
    return folder.name


def pyproject(project: Path) -> dict[str, Any]:
    """Read the data of pyproject.toml."""
    return tomllib.loads((project / "pyproject.toml").read_text("utf-8"))


# Text


def test_nothing_is_left_of_the_template(project: Path) -> None:
    for name, text in texts(project).items():
        assert "cookiecutter" not in name + text, name
        assert not re.search(r"[{}%#]{2}|[{}]%|%[{}]", name)
        for pattern, tag in FOREIGN_TAGS.items():
            if fnmatch.fnmatch(name, pattern):
                text = re.sub(tag, "", text)
        assert [line for line in text.splitlines() if re.search(r"\{[{%#]", line)] == [], name


def test_text_is_tidy(project: Path) -> None:
    for name, text in texts(project).items():
        if Path(name).name == "__init__.py" and not text:
            continue  # A package may say nothing.
        assert "\r" not in text, name
        assert text.strip(), f"{name} is empty"
        assert text.endswith("\n"), f"{name} does not end with a newline"
        assert not text.endswith("\n\n"), f"{name} ends with an empty line"
        assert not text.startswith("\n"), f"{name} starts with an empty line"
        crooked = [line for line in text.split("\n") if line != line.rstrip()]
        assert not crooked, f"{name} has white space at the end of lines"
        if not name.endswith(".py"):  # There the formatter decides, as in samples.
            text = re.sub("^```python$.*?^```$", "sample", text, flags=re.M | re.S)
            assert "\n\n\n" not in text, f"{name} has more than one empty line in a row"


# Code


def test_python_is_formatted(project: Path) -> None:
    assert_accepts(needs("ruff"), "format", "--diff", "--no-cache", ".", cwd=project)


def test_python_passes_the_linter(project: Path) -> None:
    assert_accepts(needs("ruff"), "check", "--no-cache", ".", cwd=project)


# Files


def test_manifest_is_followed(project: Path, answers: Answers) -> None:
    unwanted = {
        path
        for feature in kept()
        for path in feature["paths"]
        if any(answered(answers, question) not in good for question, good in feature["for"].items())
    }
    for path in (path for feature in kept() for path in feature["paths"]):
        gone = {path, *map(str, PurePosixPath(path).parents)} & unwanted
        path = path.replace("*", package(project))
        assert (project / path).exists() != bool(gone), f"{path} for {answers}"


def test_no_folder_is_empty(project: Path) -> None:
    assert not [
        folder for folder in project.rglob("*") if folder.is_dir() and not [*folder.iterdir()]
    ]


@pytest.mark.parametrize(
    "given", [{**ALL_ON, **AWKWARD}, ALL_OFF], ids=["all on, awkward", "all off"]
)
def test_second_bake_is_the_same(bake: Bake, tmp_path: Path, given: Answers) -> None:
    # By a process of its own, in which sets have another order.
    environment = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-m", "cookiecutter", "--no-input", "--default-config"]
    command += ["--output-dir", str(tmp_path / "second"), str(TEMPLATE)]
    command += [f"{question}={answer}" for question, answer in given.items()]
    subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=True)
    [again] = (tmp_path / "second").iterdir()
    first, second = files(bake(**given)), files(again)
    assert list(first) == list(second)
    for name in first:
        assert first[name].read_bytes() == second[name].read_bytes(), name
        assert first[name].stat().st_mode == second[name].stat().st_mode, name


def test_every_choice_is_baked() -> None:
    for question, values in choices().items():
        assert {answers.get(question, values[0]) for answers in BAKES.values()} == set(values)


def test_every_optional_file_is_in_some_bake_and_missing_in_another(bake: Bake) -> None:
    everything, nothing = files(bake(**ALL_ON)), files(bake(**ALL_OFF))
    assert set(nothing) < set(everything)


# Data


def test_pyproject_is_valid(bake: Bake, monkeypatch: pytest.MonkeyPatch) -> None:
    # In one go, since the checker is slow to start; offline, it knows the classifiers by itself.
    monkeypatch.setenv("VALIDATE_PYPROJECT_NO_NETWORK", "1")
    names = [str(bake(**answers) / "pyproject.toml") for answers in BAKES.values()]
    assert_accepts(needs("validate-pyproject"), *names)


@pytest.mark.parametrize("given", [AWKWARD, LONGEST], ids=["awkward", "longest"])
def test_answers_arrive_exactly_as_given(bake: Bake, given: Answers) -> None:
    project = bake(**{**ALL_ON, **given})
    data = pyproject(project)["project"]
    assert data["name"] == given["project_slug"] == project.name
    assert data["description"] == given["description"]
    assert data["authors"] == [{"name": given["author_name"], "email": given["author_email"]}]
    assert data["scripts"] == {given["project_slug"]: f"{given['package_name']}.__main__:main"}
    assert (project / "src" / given["package_name"] / "app.py").is_file()


@pytest.mark.parametrize("given", [AWKWARD, LONGEST], ids=["awkward", "longest"])
def test_readme_shows_name_and_description_as_given(bake: Bake, given: Answers) -> None:
    tokens = MarkdownIt().parse((bake(**{**ALL_ON, **given}) / "README.md").read_text("utf-8"))
    heading, paragraph = (token for token in tokens[:6] if token.type == "inline")
    shown = ["".join(part.content for part in line.children or []) for line in (heading, paragraph)]
    assert shown == [given["project_name"], f"{given['project_slug']}: {given['description']}"]
    assert {part.type for part in heading.children or []} <= {"text", "text_special"}


@pytest.mark.parametrize("license_name", choices()["license"])
def test_license_is_the_chosen_one_and_names_the_author(bake: Bake, license_name: str) -> None:
    project = bake(**AWKWARD, license=license_name)
    text = (project / "LICENSE").read_text("utf-8")
    assert f"Copyright (c) {AWKWARD['author_name']}\n" in text
    assert [name for name, part in LICENSE_TEXTS.items() if part in text] == [license_name]
    data = pyproject(project)["project"]
    private = license_name == "Proprietary"
    assert data["license"] == ("LicenseRef-Proprietary" if private else license_name)
    assert ("Private :: Do Not Upload" in data.get("classifiers", [])) == private


@pytest.mark.parametrize("version", choices()["python_version"])
def test_oldest_python_is_the_chosen_one(bake: Bake, version: str) -> None:
    project = bake(python_version=version)
    assert pyproject(project)["project"]["requires-python"] == f">={version}"
    others = [other for other in choices()["python_version"] if other != version]
    for name in ("README.md", "Makefile"):
        text = (project / name).read_text("utf-8")
        assert version in text, name
        assert not [other for other in others if re.search(rf"\b{re.escape(other)}\b", text)], name


# Formats of other programs


@pytest.fixture
def distinct(bake: Bake) -> Callable[[str], list[str]]:
    """List the files of a pattern in all bakes, each content once: checkers are slow to start."""

    @functools.cache
    def distinct(pattern: str) -> list[str]:
        found: dict[bytes, str] = {}
        for answers in matrix():
            for name, path in files(bake(**answers)).items():
                if fnmatch.fnmatch(name, pattern):
                    found.setdefault(path.read_bytes(), str(path))
        assert found, f"no bake has {pattern}"
        return list(found.values())

    return distinct


def test_yaml_parses_and_is_tidy(distinct: Callable[[str], list[str]]) -> None:
    names = [*distinct("*.yml"), *distinct("*.yaml")]
    for name in names:
        assert list(yaml.safe_load_all(Path(name).read_text("utf-8"))), name
    assert_accepts(needs("yamllint"), "--strict", "-d", YAMLLINT, *names)


@pytest.mark.parametrize(
    ("schema", "pattern"),
    {
        "vendor.github-workflows": ".github/workflows/*",
        "vendor.compose-spec": "deploy/docker/compose.yaml",
        "vendor.dependabot": ".github/dependabot.yml",
        "vendor.gitlab-ci": ".gitlab-ci.yml",
    }.items(),
)
def test_configuration_matches_its_schema(
    distinct: Callable[[str], list[str]], schema: str, pattern: str
) -> None:
    assert_accepts(needs("check-jsonschema"), "--builtin-schema", schema, *distinct(pattern))


def test_dockerfiles_follow_good_practice(distinct: Callable[[str], list[str]]) -> None:
    assert_accepts(needs("hadolint"), *distinct("Dockerfile"))


def test_workflows_are_safe(bake: Bake) -> None:
    assert_accepts(needs("zizmor"), "--offline", "--no-progress", str(bake(ci="github")))


def complaints_of_logrotate(configuration: Path, folder: Path) -> list[str]:
    """Let logrotate read a configuration without doing anything."""
    state = folder / "state"
    state.write_text("logrotate state -- version 2\n")
    # It refuses what others may write, which depends on the umask of who baked the project.
    copy = Path(shutil.copy(configuration, folder / "configuration"))
    copy.chmod(0o644)
    command = [needs("logrotate"), "-d", "-s", str(state), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if re.search(r"error|unknown", line)]


def test_logrotate_understands_its_configuration(bake: Bake, tmp_path: Path) -> None:
    configuration = bake(logging="file") / "deploy/logrotate/tornado-service"
    assert complaints_of_logrotate(configuration, tmp_path) == []


def test_logrotate_would_complain(bake: Bake, tmp_path: Path) -> None:
    configuration = bake(logging="file") / "deploy/logrotate/tornado-service"
    wrong = tmp_path / "wrong"
    wrong.write_text(configuration.read_text("utf-8").replace("daily", "nightly"))
    assert complaints_of_logrotate(wrong, tmp_path) != []
