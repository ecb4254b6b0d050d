"""The settings of the service."""

from . import runtime


class Settings(runtime.Settings):
    """As they are."""
