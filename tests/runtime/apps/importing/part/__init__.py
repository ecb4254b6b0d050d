"""A part of the service."""
# ruff: noqa: F403

from wanted_6 import *
