"""The version of the template that this runtime comes from."""

from pathlib import Path


def template_version() -> str:
    """Return the version of the runtime on disk."""
    return Path(__file__).with_name("VERSION").read_text("utf-8").strip()
