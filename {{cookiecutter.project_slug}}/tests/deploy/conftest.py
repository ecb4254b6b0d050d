"""What the tests of the deployment share: the settings of production."""

from pathlib import Path

import pytest

from {{ cookiecutter.package_name }}.runtime import settings

from ..support import ROOT


@pytest.fixture
def production() -> settings.Settings:
    """The settings as `deploy/production.env` has them, and the defaults for all others."""
    Path(".env").write_text((ROOT / "deploy/production.env").read_text())
    return settings.load()


def ports(production: settings.Settings) -> list[int]:
    """List the public ports: one for each worker, or one for all."""
    several = getattr(production, "port_per_worker", False)
    count = getattr(production, "workers", 1) if several else 1
    return [production.port + place for place in range(count)]
