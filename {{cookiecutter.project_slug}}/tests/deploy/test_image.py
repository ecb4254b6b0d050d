"""The Dockerfile matches the project's files and the production settings."""

import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any

import pytest

from {{ cookiecutter.package_name }}.settings import Settings

from .files import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

Instructions = list[tuple[str, str]]


def stages() -> list[Instructions]:
    """Read the instructions of each stage of the Dockerfile."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    found: list[Instructions] = []
    for line in text.replace("\\\n", " ").splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        if word:
            found[-1].append((word, " ".join(rest.split())))
    return found


def last(word: str) -> str:
    """Return the arguments of an instruction that occurs once in the last stage."""
    [found] = [rest for name, rest in stages()[-1] if name == word]
    return found


def copied() -> list[str]:
    """Return the paths that the Dockerfile copies from the project."""
    lines = [rest.split() for stage in stages() for word, rest in stage if word == "COPY"]
    from_project = [words for words in lines if not words[0].startswith("--from")]
    return [word for words in from_project for word in words[:-1] if not word.startswith("--")]


def is_sent(path: str) -> bool:
    """Return whether .dockerignore includes a path in the build context: the last rule wins."""
    rules = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    sent = True
    for rule in rules:
        pattern = rule.removeprefix("!").removeprefix("**/")
        parents = [path, *map(str, PurePosixPath(path).parents)]
        names = PurePosixPath(path).parts if "**/" in rule else parents
        if rule and not rule.startswith("#") and any(fnmatch(name, pattern) for name in names):
            sent = rule.startswith("!")
    return sent


def test_copied_files_exist_and_are_sent() -> None:
    assert copied()
    for path in copied():
        assert (ROOT / path).exists(), path
        assert is_sent(path), path


@pytest.mark.parametrize(
    "path", [".env", ".git/config", ".venv/bin/python", "deploy/docker/tls/private.key"]
)
def test_private_files_are_not_sent(path: str) -> None:
    assert not is_sent(path)


def test_python_is_a_supported_version() -> None:
    [image] = {instructions[0][1].removesuffix(" AS build") for instructions in stages()}
    assert numbers(image) >= numbers(PROJECT["requires-python"])


def numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def test_image_starts_the_command_of_the_project() -> None:
    [command] = json.loads(last("ENTRYPOINT"))
    assert command in PROJECT["scripts"]


def test_production_settings_are_where_the_service_reads_them() -> None:
    file = Settings.model_config.get("env_file")
    assert ("COPY", f"--chmod=0644 deploy/production.env {file}") in stages()[-1]


def test_service_is_reachable_from_outside_the_container(production: Settings) -> None:
    assert production.address.is_unspecified
    assert production.admin_address.is_unspecified


def test_log_folder_is_writable(production: Settings) -> None:
    user, _, group = last("USER").partition(":")
    created = [rest for word, rest in stages()[-1] if rest.startswith("install --directory")]
    folders = [production.log_file.parent] if production.log_file else []
    options = f"--owner={user} --group={group} --mode=0750"
    assert created == [f"install --directory {options} {folder}" for folder in folders]
