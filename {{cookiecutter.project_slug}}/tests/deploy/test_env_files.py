"""`.env.example` and `deploy/production.env` match the settings of the service."""

import re
from pathlib import Path

from dotenv import dotenv_values

from {{ cookiecutter.package_name }}.settings import Settings

from .files import PREFIX, PRODUCTION, ROOT, SETTINGS, unknown_settings

EXAMPLE = ROOT / ".env.example"

# Not in the example of a project with a single process.
OF_WORKERS = {
    f"{PREFIX}{name}"
    for name in (
        "WORKERS",
        "PORT_PER_WORKER",
        "START_TIMEOUT",
        "HANG_TIMEOUT",
        "MAX_MEMORY",
        "MAX_REQUESTS",
    )
}


def example() -> dict[str, str]:
    """Return the settings in the example with the values that it shows."""
    pattern = rf"^# ?({PREFIX}[A-Z0-9_]+)=(.*)$"
    return dict(re.findall(pattern, EXAMPLE.read_text("utf-8"), re.MULTILINE))


def test_example_lists_every_setting() -> None:
    listed = example().keys()
    assert unknown_settings(listed) == []
    assert SETTINGS - listed in (set(), OF_WORKERS)


def test_example_shows_the_defaults(tmp_path: Path) -> None:
    defaults = Settings.load()
    lines = [f"{name}={value}\n" for name, value in example().items()]
    file = tmp_path / ".env"
    # What has no default, the tests have set there.
    required = file.read_text() if file.exists() else ""
    file.write_text("".join(lines) + required)
    assert Settings.load() == defaults


def test_example_sets_nothing_until_it_is_edited() -> None:
    assert dotenv_values(EXAMPLE) == {}


def test_production_settings_exist() -> None:
    names = dotenv_values(PRODUCTION)
    assert names
    assert unknown_settings(names) == []
