"""Fixtures for the tests of the deployment: the production settings."""

import os

import pytest

from {{ cookiecutter.package_name }}.settings import Settings

from .files import PREFIX, PRODUCTION


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture
def production() -> Settings:
    """The settings in `deploy/production.env`, and the defaults of all others."""
    return Settings(_env_file=PRODUCTION)
