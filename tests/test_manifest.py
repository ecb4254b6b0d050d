"""cookiecutter.json and the template's files agree, and keep the rules of the house."""

import ast
import importlib.metadata
import re
from collections import Counter
from pathlib import Path, PurePosixPath

import pytest

from .bakes import TREE, choices, configuration, kept, questions

PACKAGE = TREE / "src/{{cookiecutter.package_name}}"

# The only files of the package whose text depends on an answer.
SEAMS = {"settings.py", "app.py", "__main__.py"}

# Where people import something else than the name of the distribution.
IMPORTED_AS = {"mypy": {"mypyc"}, "pytest": {"py"}, "python_dotenv": {"dotenv"}}
# Neither a package nor a distribution can share a name with these: the folder of the tests, and
# what the installation itself needs.
OTHERS_TAKEN = {"hatchling", "pip", "tests"}

MANIFEST = [
    (question, answer, path)
    for question, features in kept().items()
    for answer, paths in features.items()
    for path in paths
]

FILES = {path.relative_to(TREE).as_posix(): path for path in TREE.rglob("*") if path.is_file()}
TAG = re.compile(r"\{[{%#]")


def rendered() -> dict[str, str]:
    """Read the files that cookiecutter renders."""
    patterns = configuration()["_copy_without_render"]
    return {
        name: path.read_text("utf-8")
        for name, path in FILES.items()
        if not any(PurePosixPath(name).match(pattern) for pattern in patterns)
    }


def dependencies() -> list[str]:
    """List the distributions that a project may install, as package names."""
    lines = (TREE / "constraints.txt").read_text("utf-8").splitlines()
    pinned = [match[1] for line in lines if (match := re.match(r"([a-z][a-z0-9._-]*)==", line))]
    return [re.sub(r"[-.]", "_", name) for name in pinned]


# The manifest


@pytest.mark.parametrize(("question", "answer", "path"), MANIFEST)
def test_entry_of_the_manifest_is_real(question: str, answer: str, path: str) -> None:
    assert question in choices(), f"{question} is no question with choices"
    assert answer in map(str, choices()[question]), f"{answer} is no answer to {question}"
    assert (TREE / path).exists(), f"{path} is not in the template"


def test_path_belongs_to_one_answer() -> None:
    counted = Counter(path for _, _, path in MANIFEST)
    assert [path for path, count in counted.items() if count > 1] == []
    inside = [
        path for path in counted if counted.keys() & set(map(str, PurePosixPath(path).parents))
    ]
    assert inside == [], "the folder above belongs to an answer already"


def test_some_answer_keeps_nothing() -> None:
    for question, features in kept().items():
        assert set(map(str, choices()[question])) - features.keys(), question


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
    reserved = configuration()["__reserved_names"]
    assert reserved == sorted(set(reserved))
    distributions = set(dependencies())
    imported = {
        name for key, names in IMPORTED_AS.items() if key in distributions for name in names
    }
    assert set(reserved) == distributions | imported | OTHERS_TAKEN


def test_what_installed_packages_import_is_reserved() -> None:
    reserved = configuration()["__reserved_names"]
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
