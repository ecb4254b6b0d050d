"""Fixtures for the tests of the deployment: the production settings."""

import shutil
from pathlib import Path

import pytest

from {{ cookiecutter.package_name }}.settings import Settings

from .files import PRODUCTION


@pytest.fixture
def production(tmp_path: Path) -> Settings:
    """The settings in `deploy/production.env`, and the defaults of all others."""
    shutil.copy(PRODUCTION, tmp_path / ".env")
    return Settings.load()
