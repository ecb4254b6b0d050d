"""A feature of the owner's needs no change of the runtime.

The files in `feature/` were written with nothing but the project's README and the docstrings of the
public interface: two handlers, a model, a resource, a metric, settings, and their tests.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from runtime.checksums import changed_by_hand

from .environments import succeed

FEATURE = Path(__file__).with_name("feature")


def test_feature_is_added_without_touching_the_runtime(
    bake_into: Callable[..., Path], python: Path, tmp_path: Path
) -> None:
    project = bake_into(tmp_path)
    for folder in "src", "tests":
        shutil.copytree(FEATURE / folder, project / folder, dirs_exist_ok=True)
    with (project / ".env.example").open("a") as example:
        example.write((FEATURE / "env.example").read_text())
    for module, *arguments in (
        ("ruff", "format", "--check", "."),
        ("ruff", "check", "."),
        ("mypy",),
        ("pytest", "--quiet", "--cov", "--cov-report=term"),
    ):
        succeed(project, python, module, *arguments)
    succeed(project, python, "importlinter.cli", "--no-cache")
    assert changed_by_hand(project / "src/tornado_service/runtime") == []
