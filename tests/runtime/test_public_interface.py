"""The public interface: documented, and without effects when it is imported."""

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import runtime

ROOT = Path(__file__).parents[2]
OPTIONAL = {
    "opentelemetry",
    "prometheus_client",
    "runtime.metrics",
    "runtime.testing",
    "runtime.tracing",
    "runtime.workers.prefork",
}
"""What is loaded only by the services that use it."""


def defining_modules() -> dict[str, str]:
    """Return from which module `runtime` imports each of its names."""
    tree = ast.parse(Path(runtime.__file__).read_text())
    return {
        alias.asname or alias.name: f"runtime.{node.module}"
        for node in tree.body
        # It calls what it imports from `starting`.
        if isinstance(node, ast.ImportFrom) and node.module != "starting"
        for alias in node.names
    }


def documentation(name: str) -> str | None:
    """Return the docstring of a class, function or variable, where it is defined."""
    source = importlib.import_module(defining_modules()[name]).__file__
    assert source
    body = ast.parse(Path(source).read_text()).body
    for node, following in zip(body, [*body[1:], None], strict=True):
        match node, following:
            case ((ast.ClassDef(name=defined) | ast.FunctionDef(name=defined)), _):
                text = ast.get_docstring(node)
            case (
                (
                    ast.Assign(targets=[ast.Name(id=defined)])
                    | ast.AnnAssign(target=ast.Name(id=defined))
                ),
                ast.Expr(value=ast.Constant(value=text)),
            ):
                pass
            case _:
                continue
        if defined == name:
            return text
    return None


def test_interface_has_every_name_that_it_imports() -> None:
    assert sorted(runtime.__all__) == sorted(defining_modules())


@pytest.mark.parametrize("name", runtime.__all__)
def test_public_name_is_documented(name: str) -> None:
    assert getattr(runtime, name) is not None
    assert (documentation(name) or "").partition("\n")[0].endswith(".")


def test_name_without_documentation_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "defining_modules", lambda: {"logger": "runtime.http.handler"})
    assert documentation("logger") is None


def test_importing_the_interface_has_no_effects() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(runtime.__file__).parents[1])}
    process = subprocess.run(
        [sys.executable, ROOT / "tests/runtime/apps/import_runtime.py"],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    effects = json.loads(process.stdout)
    assert effects["opened"] == []
    assert effects["threads"] == ["MainThread"]
    assert "runtime.service" in effects["modules"]
    assert OPTIONAL.isdisjoint(effects["modules"])
