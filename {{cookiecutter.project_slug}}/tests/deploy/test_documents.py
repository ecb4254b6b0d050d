"""Documents and deployment files say what the code says."""

import re
from pathlib import Path

from dotenv import dotenv_values

from {{ cookiecutter.package_name }}.runtime import settings

from ..support import ROOT


def test_the_example_lists_every_setting_with_its_default() -> None:
    example = (ROOT / ".env.example").read_text()
    listed = dict(re.findall(r"^# ?(APP_[A-Z_]+)=(.*)$", example, re.MULTILINE))
    fields = settings.Settings.model_fields
    assert list(listed) == [settings.PREFIX + name.upper() for name in fields]
    defaults = settings.load()
    Path(".env").write_text("".join(f"{name}={value}\n" for name, value in listed.items()))
    assert settings.load() == defaults
    # An empty value means the default as well, and shows nothing of it.
    empty = {name for name, value in listed.items() if not value}
    without = {name for name, field in fields.items() if field.default in {None, ()}}
    assert empty == {settings.PREFIX + name.upper() for name in without}


def test_the_example_sets_nothing() -> None:
    assert dotenv_values(ROOT / ".env.example") == {}


def test_the_settings_of_production_are_good_settings() -> None:
    production = (ROOT / "deploy" / "production.env").read_text()
    Path(".env").write_text(production)
    assert dotenv_values(".env")
    assert settings.unknown_names() == []
    settings.load()
