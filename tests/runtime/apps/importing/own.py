"""Imports of the service's own modules, relative and absolute."""
# ruff: noqa: F401

import importing.sibling
from importing.part import something

from . import sibling
from .unwanted_4 import anything

raise AssertionError("imported, not read")
