"""cookiecutter.json and the template's files agree, and keep the rules of the house."""

import ast
import importlib.metadata
import re
import tomllib
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from .bakes import TEMPLATE, TREE, choices, configuration, kept, questions

PACKAGE = TREE / "src/{{cookiecutter.package_name}}"

# The only files of the package whose text depends on an answer.
SEAMS = {"settings.py", "__main__.py"}

# Where people import something else than the name of the distribution.
IMPORTED_AS = {
    "googleapis_common_protos": {"google"},
    "import_linter": {"importlinter"},
    "markdown_it_py": {"markdown_it"},
    "mypy": {"mypyc"},
    "opentelemetry_api": {"opentelemetry"},
    "pytest": {"py"},
    "python_dotenv": {"dotenv"},
    "pyyaml": {"yaml"},
}
# Neither a package nor a distribution can share a name with these: the folder of the tests, and
# what the installation itself needs.
OTHERS_TAKEN = {"flit_core", "pip", "tests"}
# What YAML reads as something else than a text, in the files of Docker Compose and Kubernetes.
VALUES_OF_YAML = {"false", "n", "no", "null", "off", "on", "true", "y", "yes"}

MANIFEST = [path for feature in kept() for path in feature["paths"]]

FILES = {
    path.relative_to(TREE).as_posix(): path
    for path in TREE.rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}
TAG = re.compile(r"\{[{%#]")


def rendered() -> dict[str, str]:
    """Read the files that cookiecutter renders."""
    patterns = configuration()["_copy_without_render"]

    def is_copied(name: str) -> bool:
        # A pattern for a folder is one for all that is in it.
        paths = [PurePosixPath(name), *PurePosixPath(name).parents]
        return any(path.match(pattern) for path in paths for pattern in patterns)

    return {name: path.read_text("utf-8") for name, path in FILES.items() if not is_copied(name)}


def dependencies() -> list[str]:
    """List the distributions that a project may install, as package names."""
    lines = (TREE / "constraints.txt").read_text("utf-8").splitlines()
    pinned = [match[1] for line in lines if (match := re.match(r"([a-z][a-z0-9._-]*)==", line))]
    return [re.sub(r"[-.]", "_", name) for name in pinned]


# The manifest


@pytest.mark.parametrize("path", MANIFEST)
def test_path_of_the_manifest_is_real(path: str) -> None:
    assert len([*TREE.glob(path)]) == 1, f"{path} is not in the template, or not alone"


@pytest.mark.parametrize("name", rendered())
def test_rendered_file_has_something_to_render(name: str) -> None:
    # Copying is several times as fast. Add it to `_copy_without_render`, or take its line away.
    assert TAG.search(FILES[name].read_text("utf-8")), name


@pytest.mark.parametrize("feature", kept(), ids=lambda feature: feature["paths"][0])
def test_feature_is_for_answers_that_can_be_given(feature: dict[str, Any]) -> None:
    for question, answers in feature["for"].items():
        assert question in choices(), f"{question} is no question with choices"
        assert answers
        for answer in answers:
            assert answer in choices()[question], f"{answer} is no answer to {question}"
        others = [answer for answer in choices()[question] if answer not in answers]
        assert others, f"every answer to {question} keeps it"


@pytest.mark.parametrize("path", [p for p in MANIFEST if re.fullmatch("deploy/[^/]+", p)])
def test_folder_of_a_deployment_explains_itself(path: str) -> None:
    assert (TREE / path / "README.md").is_file()


def test_path_stands_once() -> None:
    assert [path for path, count in Counter(MANIFEST).items() if count > 1] == []


def test_path_below_another_wants_more_than_that() -> None:
    wanted = {path: feature["for"] for feature in kept() for path in feature["paths"]}
    for path, answers in wanted.items():
        for folder in map(str, PurePosixPath(path).parents):
            if folder in wanted:
                assert wanted[folder].items() < answers.items(), f"{path} in {folder}"


# The dependencies


def test_runtime_is_tested_with_what_projects_install() -> None:
    ours = tomllib.loads((TEMPLATE / "pyproject.toml").read_text("utf-8"))["project"]
    text = (TREE / "pyproject.toml").read_text("utf-8")
    [block] = re.findall(r"^dependencies = \[\n(.*?)^\]$", text, re.MULTILINE | re.DOTALL)
    theirs = re.findall(r'^    "(.*)",$', block, re.MULTILINE)
    assert ours["optional-dependencies"]["runtime"] == theirs


# The questions


@pytest.mark.parametrize("question", questions())
def test_question_has_words_for_people(question: str) -> None:
    prompt = configuration()["__prompts__"][question]
    raw = questions()[question]
    if isinstance(raw, list):
        assert list(prompt) == ["__prompt__", *raw]
        prompt = prompt["__prompt__"]
    assert isinstance(prompt, str)
    assert len(prompt) >= len("Author")
    assert prompt != question


def test_every_prompt_asks_a_question() -> None:
    assert list(configuration()["__prompts__"]) == list(questions())


def test_labels_are_texts() -> None:
    for prompt in configuration()["__prompts__"].values():
        if isinstance(prompt, dict):
            assert all(isinstance(text, str) and text for text in prompt.values())
            assert len(set(prompt.values())) == len(prompt)


# The names that are taken


def test_reserved_names_are_those_of_what_a_project_installs() -> None:
    reserved = configuration()["_reserved_names"]
    assert reserved == sorted(set(reserved))
    distributions = set(dependencies())
    imported = {
        name for key, names in IMPORTED_AS.items() if key in distributions for name in names
    }
    assert set(reserved) == distributions | imported | OTHERS_TAKEN | VALUES_OF_YAML


def test_what_installed_packages_import_is_reserved() -> None:
    reserved = configuration()["_reserved_names"]
    for module, distributions in importlib.metadata.packages_distributions().items():
        names = {re.sub(r"[-.]", "_", name.lower()) for name in distributions}
        if names & set(dependencies()) and re.fullmatch("[a-z][a-z0-9_]*", module):
            assert module in reserved, f"{module} of {distributions}"


# The template's files


@pytest.mark.parametrize("name", rendered())
def test_tags_stand_alone_on_their_line(name: str) -> None:
    lines = [line for line in rendered()[name].splitlines() if "{%" in line or "{#" in line]
    assert [line for line in lines if not re.fullmatch(r"\s*\{% ((?!%\}).)+ %\}", line)] == []


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_module_is_python_as_it_stands(path: Path) -> None:
    text = path.read_text("utf-8")
    if str(path.relative_to(PACKAGE)) not in SEAMS:
        assert not TAG.search(text)
        ast.parse(text)


def test_seams_exist() -> None:
    assert [name for name in SEAMS if not (PACKAGE / name).is_file()] == []


def test_unrendered_files_have_nothing_to_render() -> None:
    copied = FILES.keys() - rendered().keys()
    assert copied
    for name in copied:
        assert "cookiecutter" not in FILES[name].read_text("utf-8")
