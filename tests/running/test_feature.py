"""Features of the owner's need no change of the runtime.

The files in `feature/` were written with nothing but the project's README and the docstrings of the
public interface: two handlers, a model, a resource, a metric, settings, and their tests. Then
`make feature` writes another one beside it.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from runtime.checksums import changed_by_hand

from ..tools import needs
from .environments import environment, install, succeed
from .harness import starter

FEATURE = Path(__file__).with_name("feature")


def make_feature(project: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `make feature` in a project whose environment is ready, on a machine with a NAME."""
    return subprocess.run(
        ["make", "--old-file=.venv/installed", "feature", *arguments],
        cwd=project,
        env={**os.environ, "NAME": "machine"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_features_are_added_without_touching_the_runtime(
    bake_into: Callable[..., Path], shared: Path, tmp_path: Path
) -> None:
    project = bake_into(tmp_path)
    for folder in "src", "tests":
        shutil.copytree(FEATURE / folder, project / folder, dirs_exist_ok=True)
    with (project / ".env.example").open("a") as example:
        example.write((FEATURE / "env.example").read_text())
    python = install(project, shared)
    python.with_name("ruff").symlink_to(environment(project, shared).with_name("ruff"))

    assert make_feature(project).stderr.startswith("Usage: make feature NAME=orders\n")
    done = make_feature(project, "NAME=gift_cards")
    assert (done.returncode, done.stderr) == (0, "")

    for module, *arguments in (
        ("ruff", "format", "--check", "."),
        ("ruff", "check", "."),
        ("mypy",),
        ("importlinter.cli", "--no-cache"),
        ("pytest", "--quiet", "--cov", "--cov-report=term"),
        ("coverage", "report", "--include=*/gift_cards/*", "--fail-under=100"),
    ):
        succeed(project, python, module, *arguments)
    assert changed_by_hand(project / "src/tornado_service/runtime") == []

    with starter(python, tmp_path, project / "src") as run:
        service = run.start("-m", "tornado_service", APP_LOG_FORMAT="json")
        assert service.ask("/gift-cards/tea").json == {"name": "tea", "quantity": 1}
        url = f"http://127.0.0.1:{service.port}/gift-cards"
        post = [needs("curl"), "--silent", "--show-error", url, "--json", '{"name": "tea"}']
        assert subprocess.check_output(post) == b'{"name":"tea","quantity":1}'
