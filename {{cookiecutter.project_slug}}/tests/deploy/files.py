"""What the tests of the deployment read: the project's files, and settings in them."""

from collections.abc import Iterable
from pathlib import Path

from {{ cookiecutter.package_name }}.settings import Settings

ROOT = Path(__file__).parents[2]
PRODUCTION = ROOT / "deploy/production.env"

PREFIX = str(Settings.model_config.get("env_prefix"))
SETTINGS = {PREFIX + name.upper() for name in Settings.model_fields}


def unknown_settings(names: Iterable[str]) -> list[str]:
    """Return the variables that look like settings but do not exist, most likely misspelt."""
    return [name for name in names if name.startswith(PREFIX) and name not in SETTINGS]


def ports(settings: Settings) -> list[int]:
    """Return the public ports: one per worker, or one for all workers."""
    count = settings.workers if settings.port_per_worker else 1
    return list(range(settings.port, settings.port + count))
