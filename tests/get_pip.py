"""The program of a project that gets pip, as a module."""

import importlib.util
from types import ModuleType

from .bakes import TEMPLATE

PATH = TEMPLATE / "{{cookiecutter.project_slug}}/tools/get_pip.py"


def load() -> ModuleType:
    """Import the program, anew each time."""
    spec = importlib.util.spec_from_file_location("get_pip", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
