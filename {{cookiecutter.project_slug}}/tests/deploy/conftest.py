"""Fixtures for the tests of the deployment: the production settings."""

from pathlib import Path

import pytest

from {{ cookiecutter.package_name }}.settings import Settings

from .files import PRODUCTION


@pytest.fixture
def production(tmp_path: Path) -> Settings:
    """The settings in `deploy/production.env`, and for all others those of the other tests."""
    with (tmp_path / ".env").open("a") as file:
        file.write(PRODUCTION.read_text())
    return Settings.load()
