"""What the tests share: projects baked from this template, each only once."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cookiecutter.main import cookiecutter

from .bakes import TEMPLATE, defaults
from .locks import locked


def pytest_configure() -> None:
    # Downloads may go through a proxy, requests to the services that the tests start may not.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = "localhost,127.0.0.1,::1"
    # In a test `make` is what it is in a shell, also if this run was started by make.
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def bake_into(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Bake a project into a folder, untouched by the user's configuration and with none of it left.

    For a test that changes the project, or compares two of them; the others share those of `bake`.
    With `overwrite` there may be one already.
    """
    home = tmp_path_factory.mktemp("cookiecutter")
    config = home / "config.yaml"
    folders = {name: str(home / name) for name in ("cookiecutters_dir", "replay_dir")}
    config.write_text(json.dumps(folders))

    def bake_into(folder: Path, *, overwrite: bool = False, **answers: Any) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            # cookiecutter never removes the rendered hooks that it writes there.
            patch.setattr(tempfile, "tempdir", str(home))
            project = cookiecutter(
                str(TEMPLATE),
                no_input=True,
                extra_context=answers,
                output_dir=str(folder),
                overwrite_if_exists=overwrite,
                config_file=str(config),
            )
        return Path(project)

    return bake_into


@pytest.fixture(scope="session")
def bake(
    bake_into: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Callable[..., Path]:
    """Bake a project, or return the one that these answers gave before. Tests only read it.

    The workers of pytest-xdist share them, in the folder above the one that each of them has.
    """
    own = tmp_path_factory.getbasetemp()
    shared = (own if worker_id == "master" else own.parent) / "bakes"
    shared.mkdir(exist_ok=True)

    def bake(**answers: Any) -> Path:
        key = json.dumps({**defaults(), **answers}, sort_keys=True)
        folder = shared / hashlib.sha256(key.encode()).hexdigest()[:16]
        with locked(folder):
            if not folder.exists():
                unfinished = folder.with_suffix(".unfinished")
                shutil.rmtree(unfinished, ignore_errors=True)
                bake_into(unfinished, **answers)
                unfinished.rename(folder)
        [project] = folder.iterdir()
        return project

    return bake
