"""The image: made of what is there, started as the service, and nobody is root in it."""

import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import PurePosixPath

import pytest

from {{ cookiecutter.package_name }}.runtime import settings

from ..support import ROOT

Instructions = list[tuple[str, str]]


def stages() -> list[Instructions]:
    """Read the Dockerfile: the instructions of each stage, and before them those of none."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    found: list[Instructions] = [[]]
    for line in text.replace("\\\n", " ").splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        if word:
            found[-1].append((word, " ".join(rest.split())))
    return found


def last(word: str) -> str:
    """Tell what the only instruction of this kind says in the last stage."""
    (found,) = (rest for name, rest in stages()[-1] if name == word)
    return found


def copied() -> list[str]:
    """List what the Dockerfile copies out of the project."""
    lines = [rest.split() for stage in stages() for word, rest in stage if word == "COPY"]
    ours = [words for words in lines if not words[0].startswith("--from")]
    return [word for words in ours for word in words[:-1] if not word.startswith("--")]


def is_sent(path: str) -> bool:
    """Tell whether .dockerignore lets the builder have a path: the last rule for it counts."""
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    sent = True
    for rule in rules:
        pattern = rule.removeprefix("!").removeprefix("**/")
        parents = [path, *map(str, PurePosixPath(path).parents)]
        names = PurePosixPath(path).parts if "**/" in rule else parents
        if rule and not rule.startswith("#") and any(fnmatch(name, pattern) for name in names):
            sent = rule.startswith("!")
    return sent


def test_what_is_copied_is_there_and_sent_to_the_builder() -> None:
    assert copied()
    for path in copied():
        assert (ROOT / path).exists(), path
        assert is_sent(path), path


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        ".git/config",
        ".venv/bin/python",
        "deploy/docker/tls/private.key",
        "src/{{ cookiecutter.package_name }}/__pycache__/app.pyc",
        "tests/conftest.py",
    ],
)
def test_what_is_no_part_of_the_service_is_not_sent(path: str) -> None:
    assert not is_sent(path)


def test_python_is_one_that_the_service_supports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ((word, default),) = stages()[0]
    assert word == "ARG"
    version = default.removeprefix("PYTHON_VERSION=")
    assert numbers(version) >= numbers(project["requires-python"])
    # Both stages have the same, or what one compiles is of no use to the other.
    bases = [rest.split()[0] for stage in stages() for word, rest in stage if word == "FROM"]
    assert bases == ["python:${PYTHON_VERSION}-slim"] * 2


def numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def test_the_settings_of_production_are_where_the_service_looks() -> None:
    assert ("COPY", f"--chmod=0644 deploy/production.env {settings.ENV_FILE}") in stages()[-1]
    names = [word for word, _ in stages()[-1]]
    assert names.index("WORKDIR") < names.index("COPY", names.index("WORKDIR"))


def test_others_than_the_container_itself_reach_the_service(production: settings.Settings) -> None:
    assert production.address.is_unspecified
    assert production.admin_address.is_unspecified


def test_the_command_of_the_service_is_started_and_asked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (command,) = project["scripts"]
    assert json.loads(last("ENTRYPOINT")) == [command]
    assert json.loads(last("CMD")) == ["serve"]
    options, _, health = last("HEALTHCHECK").partition(" CMD ")
    assert json.loads(health) == [command, "healthcheck"]
    # The command itself waits 3 s for an answer.
    assert int(re.findall(r"--timeout=(\d+)s", options)[0]) > 3


def test_the_user_is_a_number_and_not_root() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last("USER"))


def test_the_folder_of_the_log_is_the_users(production: settings.Settings) -> None:
    user, _, group = last("USER").partition(":")
    made = [rest for word, rest in stages()[-1] if rest.startswith("install --directory")]
    folders = [production.log_file.parent] if production.log_file else []
    options = f"--owner={user} --group={group} --mode=0750"
    assert made == [f"install --directory {options} {folder}" for folder in folders]


def test_a_stop_drains() -> None:
    assert last("STOPSIGNAL") == "SIGTERM"
