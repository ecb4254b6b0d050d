"""The questions as somebody at a terminal sees and answers them."""

import os
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .bakes import TEMPLATE, configuration, questions
from .terminal import Terminal, plain


def prompts(question: str) -> list[str]:
    """List what must be on the screen before a question is answered."""
    prompt = configuration()["__prompts__"][question]
    if isinstance(prompt, str):
        return [prompt]
    labels = [label for answer, label in prompt.items() if answer != "__prompt__"]
    numbered = [f"{number} - {label}" for number, label in enumerate(labels, 1)]
    return [prompt["__prompt__"], *numbered, "Choose from"]


@pytest.fixture
def converse(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Start conversations, and see that none goes on after the test."""
    started: list[Terminal] = []
    command = [sys.executable, "-m", "cookiecutter", "--default-config", str(TEMPLATE)]
    home = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PATH": os.environ["PATH"]}
    # So wide that no prompt is wrapped.
    screen = {"COLUMNS": "500", "PYTHONUTF8": "1"}

    def converse(**environment: str) -> Terminal:
        started.append(Terminal(command, tmp_path, {**home, **screen, **environment}))
        return started[-1]

    yield converse
    for conversation in started:
        conversation.close()


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}], ids=["colour", "NO_COLOR=1"])
def test_answers_at_a_terminal_give_the_project(
    converse: Callable[..., Terminal], tmp_path: Path, environment: dict[str, str]
) -> None:
    typed = {
        "project_name": 'Søren\'s "Orders"',
        "package_name": "orders",
        "author_name": "Søren",
        "license": "3",
        "logging": "2",
        "ci": "3",
    }
    conversation = converse(**environment)
    for number, question in enumerate(questions(), 1):
        conversation.wait_for(f"[{number}/{len(questions())}] ")
        for text in prompts(question):
            conversation.wait_for(text)
        conversation.wait_for("): ")
        conversation.type(typed.get(question, ""))
    conversation.wait_for("soren-s-orders is ready.")
    conversation.wait_for("make run")
    assert conversation.end() == 0
    assert max(map(len, plain(conversation.shown).splitlines())) <= 80

    project = tmp_path / "soren-s-orders"
    data = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]
    assert data["name"] == "soren-s-orders"
    assert data["authors"] == [{"name": "Søren", "email": "you@example.com"}]
    assert data["license"] == "Apache-2.0"
    assert data["requires-python"] == ">=3.11"
    assert (project / "README.md").read_text("utf-8").startswith('# Søren\'s "Orders"\n')
    assert (project / "src/orders").is_dir()
    assert (project / "deploy/logrotate").is_dir()
    assert not (project / ".github").exists()
    assert not (project / ".gitlab-ci.yml").exists()
    last = conversation.shown[conversation.shown.rindex("soren-s-orders is ready") - 4 :]
    assert ("\x1b[" in last) == (not environment)


def test_bad_answers_at_a_terminal_are_refused_at_the_end(
    converse: Callable[..., Terminal], tmp_path: Path
) -> None:
    conversation = converse()
    for number, question in enumerate(questions(), 1):
        conversation.wait_for(f"[{number}/{len(questions())}] ")
        conversation.wait_for("): ")
        conversation.type({"project_slug": "../up", "author_email": "nobody"}.get(question, ""))
    conversation.wait_for("project_slug must be")
    conversation.wait_for("got '../up'")
    conversation.wait_for("author_email must look like")
    conversation.wait_for(f"cookiecutter {TEMPLATE}")
    assert conversation.end() == 1
    assert "is ready" not in conversation.shown
    assert not (tmp_path.parent / "up").exists()
    assert not [path for path in tmp_path.iterdir() if path.is_dir() and path.name[0] != "."]
