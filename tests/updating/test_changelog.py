"""The steps that an owner is told to do by hand."""

from updating.changelog import what_to_do

OLD = """# Changelog

## 0.1.0

### What to do

1. Copy your features.
"""
NEW = """# Changelog

Text before.

## 0.3.0 - 2026-12-01

### Added

- Colours.

### What to do

1. Install the Nginx file again,
   and reload Nginx.

   Twice.
2. Rename `APP_A`.

### Fixed

- Nothing.

## 0.2.0

### Added

- What to do is nothing.

## 0.1.0

### What to do

1. Copy your features.
2. This step was added later.
"""


def test_new_steps_are_told_by_version() -> None:
    assert what_to_do(NEW, OLD) == (
        "0.3.0 - 2026-12-01:\n\n"
        "1. Install the Nginx file again,\n   and reload Nginx.\n\n   Twice.\n"
        "2. Rename `APP_A`.\n\n"
        "0.1.0:\n\n2. This step was added later."
    )


def test_known_steps_are_left_out() -> None:
    assert what_to_do(OLD, NEW) == ""
    assert what_to_do(NEW, NEW) == ""


def test_version_without_changelog_knows_nothing() -> None:
    assert what_to_do(OLD, "") == "0.1.0:\n\n1. Copy your features."
    assert what_to_do("", OLD) == ""
