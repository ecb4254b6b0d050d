"""The settings of the service."""

from . import runtime
from .brewing import MAX_CUPS


class Settings(runtime.Settings):
    """Takes a default from a module that has metrics."""

    max_cups: int = MAX_CUPS
