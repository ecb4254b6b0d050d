"""Imports that fail."""
# ruff: noqa: F401

import broken_library
import no_such_library
