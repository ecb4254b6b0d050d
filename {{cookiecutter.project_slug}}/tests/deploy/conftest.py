"""Fixtures for the tests of the deployment: the production settings."""

import pytest

from {{ cookiecutter.package_name }}.settings import Settings

from .files import PRODUCTION


@pytest.fixture
def production() -> Settings:
    """The settings in `deploy/production.env`, and the defaults of all others."""
    return Settings(_env_file=PRODUCTION)
