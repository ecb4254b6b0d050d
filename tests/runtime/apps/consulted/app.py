"""Imports the library."""

import consults

__all__ = ["consults"]
